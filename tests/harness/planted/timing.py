"""Mistakes in flows about deadlines, clocks, and what happens at a cancellation."""

from __future__ import annotations

import calendar
import math
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import anyio

import railtracks as rt
from railtracks.testing.invariants import ends_within
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []
BERLIN = ZoneInfo("Europe/Berlin")


@defect(PLANTED, "a rollback in `finally` is cut off by the cancellation", "faults", "sweep")
def rollback_cut_off(broken):
    transaction = {"open": False}

    @rt.function_node
    async def step():
        await anyio.sleep(1)

    async def roll_back():
        await anyio.sleep(0.1)
        transaction["open"] = False

    @rt.function_node
    async def main():
        transaction["open"] = True
        try:
            await rt.call(step)
        finally:
            with anyio.CancelScope(shield=not broken):
                await roll_back()

    def the_transaction_is_closed(outcome):
        assert not transaction["open"], "the transaction is still open"

    return Case(main, (the_transaction_is_closed,), nodes=(step,))


@defect(PLANTED, "a shielded call has no limit of its own", "faults", "sweep", options={"timeout": 10})
def shield_without_a_limit(broken):
    @rt.function_node
    async def flush():
        await anyio.sleep(0.1)

    @rt.function_node
    async def main():
        with anyio.CancelScope(shield=True) if broken else anyio.move_on_after(5, shield=True):
            await rt.call(flush)

    return Case(main, (ends_within(20),), nodes=(flush,))


@defect(PLANTED, "a generator that was left early is closed at some later time", "seeds")
def generator_not_closed(broken):
    order = []

    async def rows():
        try:
            for row in range(5):
                await anyio.sleep(0)
                yield row
        finally:
            order.append("closed")

    @rt.function_node
    async def next_step():
        order.append("next step")

    @rt.function_node
    async def main():
        if broken:
            async for row in rows():
                if row == 1:
                    break
        else:
            async with aclosing(rows()) as opened:
                async for row in opened:
                    if row == 1:
                        break
        await rt.call(next_step)

    def it_is_closed_first(outcome):
        assert "next step" not in order or order[0] == "closed", f"{order}"

    return Case(main, (it_is_closed_first,), nodes=(next_step,))


@defect(PLANTED, "each step has the absolute deadline for its timeout", "faults", "sweep")
def absolute_deadline_for_each(broken):
    @rt.function_node
    async def step(number):
        await anyio.sleep(1)

    @rt.function_node
    async def main(steps):
        deadline = anyio.current_time() + 6
        for number in range(steps):
            with anyio.fail_after(deadline if broken else max(0, deadline - anyio.current_time())):
                await rt.call(step, number)

    return Case(main, (ends_within(6),), args=(3,), nodes=(step,))


@defect(PLANTED, "an absolute time is given for a period, and the clock does not begin at 0", "seeds")
def absolute_for_relative(broken):
    @rt.function_node
    async def step():
        await anyio.sleep(100)

    @rt.function_node
    async def main():
        deadline = anyio.current_time() + 6
        with anyio.move_on_after(deadline if broken else deadline - anyio.current_time()):
            await rt.call(step)

    return Case(main, (ends_within(6.5),), nodes=(step,))


@defect(PLANTED, "a job is asked for again and again, and never given up", "seeds", options={"timeout": 35})
def asked_for_ever(broken):
    @rt.function_node
    async def is_done():
        return False

    @rt.function_node
    async def wait_for_job():
        deadline = time.monotonic() + 15
        while broken or time.monotonic() < deadline:
            if await rt.call(is_done):
                return True
            await anyio.sleep(10)
        return False

    return Case(wait_for_job, (ends_within(30),))


@defect(PLANTED, "the report of a day ends after midnight, and is filed under the next day", "schedules", "seeds")
def report_of_another_day(broken):
    filed = {}

    @rt.function_node
    async def add_up(day):
        await anyio.sleep(2)
        return f"sales of {day}"

    @rt.function_node
    async def report():
        day = datetime.now(UTC).date()
        text = await rt.call(add_up, day)
        filed[datetime.now(UTC).date() if broken else day] = text

    def each_is_filed_under_its_day(outcome):
        assert all(text.endswith(str(day)) for day, text in filed.items()), f"filed: {filed}"

    return Case(report, (each_is_filed_under_its_day,))


@defect(PLANTED, "the next month is the same day of it, which it may not have", "seeds", "schedules")
def month_without_that_day(broken):
    @rt.function_node
    async def send_invoice(due):
        await anyio.sleep(1)

    @rt.function_node
    async def bill():
        today = datetime.now(UTC).date()
        year, month = (today.year + 1, 1) if today.month == 12 else (today.year, today.month + 1)
        day = today.day if broken else min(today.day, calendar.monthrange(year, month)[1])
        await rt.call(send_invoice, today.replace(year, month, day))

    def it_is_sent(outcome):
        assert outcome.exception is None, f"raised {outcome.exception!r}"

    return Case(bill, (it_is_sent,))


@defect(
    PLANTED, "between the making of a file and the `try` there is a wait, in which a cancellation leaves it behind",
    "sweep", "faults",
)  # fmt: skip
def file_left_before_the_try(broken):
    files = set()

    @rt.function_node
    async def convert(name):
        await anyio.sleep(5)

    @rt.function_node
    async def upload(name):
        await anyio.sleep(1)
        files.add(name)
        if broken:
            await anyio.sleep(0.1)
        try:
            await rt.call(convert, name)
        finally:
            files.discard(name)

    def it_is_removed(outcome):
        assert not files, f"left: {files}"

    return Case(upload, (it_is_removed,), args=("a.png",))


@defect(
    PLANTED, "the wait until eight o'clock is the difference of two local times, without the change of clocks",
    "seeds", "schedules", options={"timeout": math.inf},
)  # fmt: skip
def change_of_clocks_forgotten(broken):
    @rt.function_node
    async def send():
        return datetime.now(BERLIN).hour

    @rt.function_node
    async def remind():
        now = datetime.now(BERLIN)
        then = (now + timedelta(days=1)).replace(hour=8, minute=0, second=0, microsecond=0)
        wait = then - now if broken else then.astimezone(UTC) - now.astimezone(UTC)
        await anyio.sleep(wait.total_seconds())
        return await rt.call(send)

    def it_comes_at_eight(outcome):
        if outcome.exception is None and outcome.schedule != "late timers":
            assert outcome.result == 8, f"sent at {outcome.result}"

    return Case(remind, (it_comes_at_eight,))
