"""Mistakes in flows about what threads, contexts and calls without ``await`` share."""

from __future__ import annotations

import contextvars
import threading
import time
from contextlib import nullcontext

import anyio
from hypothesis import strategies as st

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(PLANTED, "two threads check for a seat, work a little, and take it", "seeds", "schedules")
def seat_sold_by_two_threads(broken):
    lock = threading.Lock()
    sold = []

    def take(customer, seats):
        if seats["left"] > 0:
            time.sleep(0.01)
            seats["left"] -= 1
            sold.append(customer)

    @rt.function_node
    def sell(customer, seats):
        if broken:
            take(customer, seats)
        else:
            with lock:
                take(customer, seats)

    @rt.function_node
    async def box_office(customers):
        await rt.call_batch(sell, range(customers), [{"left": 1}] * customers)

    def one_seat_is_sold(outcome):
        assert len(sold) <= 1, f"sold to {sold}"

    return Case(box_office, (one_seat_is_sold,), args=(2,), nodes=(sell,))


@defect(PLANTED, "a thread that was given up goes on, and writes later", "seeds", "schedules")
def abandoned_thread_writes(broken):
    found, seen = [], []

    @rt.function_node
    def crawl(pages):
        mine = found if broken else []
        for page in range(pages):
            time.sleep(0.02)
            mine.append(page)
        return mine

    @rt.function_node
    async def main(pages):
        with anyio.move_on_after(0.03):
            result = await rt.call(crawl, pages)
            if not broken:
                found.extend(result)
        seen.append(list(found))
        await anyio.sleep(0.2)

    def nothing_comes_later(outcome):
        assert not seen or seen[0] == found, f"{seen[0]} became {found}"

    return Case(main, (nothing_comes_later,), args=(3,), nodes=(crawl,))


@defect(PLANTED, "a call is made without `await`, and never runs", "seeds")
def call_not_awaited(broken):
    audited = []

    @rt.function_node
    async def audit(order):
        audited.append(order)

    @rt.function_node
    async def take(order):
        if broken:
            rt.call(audit, order)  # type: ignore[unused-coroutine]
        else:
            await rt.call(audit, order)
        return "taken"

    def what_is_taken_is_audited(outcome):
        assert outcome.result != "taken" or audited, "taken, and not audited"

    return Case(take, (what_is_taken_is_audited,), args=(1,), nodes=(audit,))


@defect(PLANTED, "a call is made without `await`, and no rule of the user's is about it", "seeds")
def call_not_awaited_no_rule(broken):
    @rt.function_node
    async def audit(order):
        pass

    @rt.function_node
    async def take(order):
        if broken:
            rt.call(audit, order)  # type: ignore[unused-coroutine]
        else:
            await rt.call(audit, order)
        return "taken"

    return Case(take, args=(1,), nodes=(audit,))


tenant = contextvars.ContextVar("tenant", default=None)


@defect(
    PLANTED, "what a request sets in a context variable is still set for the next", "seeds",
    args=st.tuples(st.lists(st.sampled_from(["acme", None]), max_size=4)),
)  # fmt: skip
def context_variable_leaks(broken):
    served = []

    @rt.function_node
    async def log_in(name):
        tenant.set(name)

    @rt.function_node
    async def handle(name):
        token = None if broken else tenant.set(None)
        if name is not None:
            await rt.call(log_in, name)
        served.append((name, tenant.get()))
        if token is not None:
            tenant.reset(token)

    @rt.function_node
    async def serve(names):
        tenant.set(None)
        for name in names:
            await rt.call(handle, name)

    def each_has_its_own_tenant(outcome):
        assert all(name == used for name, used in served), f"{served}"

    return Case(serve, (each_has_its_own_tenant,), args=(["acme", None],))


@defect(PLANTED, "what a call puts into the context of a nested session is gone after it", "seeds")
def context_of_a_nested_session(broken):
    @rt.function_node
    async def load(name):
        rt.context.put("user", name)

    @rt.function_node
    async def main(name):
        if broken:
            async with rt.Session():
                await rt.call(load, name)
        else:
            await rt.call(load, name)
        return rt.context.get("user", None)

    def the_user_is_known(outcome):
        assert outcome.result == outcome.args[0], f"{outcome.result}"

    return Case(main, (the_user_is_known,), args=("ada",))


@defect(PLANTED, "two threads take numbers from one generator", "seeds", "schedules")
def generator_of_two_threads(broken):
    lock = threading.Lock()

    def numbers():
        number = 0
        while True:
            number += 1
            yield number

    @rt.function_node
    def take(source, count):
        for _ in range(count):
            with nullcontext() if broken else lock:
                next(source)

    @rt.function_node
    async def main(calls):
        await rt.call_batch(take, [numbers()] * calls, [2] * calls, return_exceptions=False)

    def no_call_fails(outcome):
        assert not isinstance(outcome.exception, ValueError), f"raised {outcome.exception!r}"

    return Case(main, (no_call_fails,), args=(2,))
