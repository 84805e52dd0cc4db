"""Mistakes in flows about what else runs at the same time."""

from __future__ import annotations

import asyncio
import math
import threading

import anyio
import sniffio
from hypothesis import strategies as st

import railtracks as rt
from railtracks.testing.faults import Delay, Fault, Raise
from railtracks.testing.invariants import ends_within
from railtracks.testing.strategies import fault_plans
from tests.harness.planted._planted import Case, Planted, drawn


def faults_at(node, does):
    return st.lists(st.builds(Fault, st.just(node), does, st.integers(1, 4)), max_size=2)


def errors(node):
    """Return plans in which calls fail, and nothing else goes wrong, so that what hangs does so on its own."""
    return faults_at(node, st.just(Raise(ConnectionError("injected"))))


def delays(node):
    """Return plans in which calls take longer."""
    return faults_at(node, st.builds(Delay, st.integers(1, 4)))


NEVER = st.just(math.inf)
"""Without a timeout, a run that would hang for ever is reported as a deadlock."""


def forgotten_task(broken):
    """Create a task that is never awaited. trio has no such tasks, so there the flow is right in both forms."""
    audited = []

    async def audit(order):
        await anyio.sleep(1)
        audited.append(order)

    @rt.function_node
    async def take_order(order):
        if broken and sniffio.current_async_library() == "asyncio":
            asyncio.create_task(audit(order))  # noqa: RUF006 (the mistake)
        else:
            await audit(order)

    return Case(take_order, args=(1,))


def thread_left_behind(broken):
    """Start a thread that is never joined. It ends a little later, so that the tests can go on."""

    @rt.function_node
    async def watch(closely):
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, args=(1.3,), name="watchdog", daemon=True)
        if closely:
            thread.start()
        await anyio.sleep(1)
        if closely and not broken:
            stop.set()
            thread.join()

    return Case(watch, args=(True,))


def slot_not_given_back(broken):
    """Keep the slot of a call that fails, so that later calls wait for ever."""

    @rt.function_node
    async def query(slots, text):
        await slots.acquire()
        try:
            rows = await rt.call(ask_database, text)
            if broken:
                slots.release()
            return rows
        finally:
            if not broken:
                slots.release()

    @rt.function_node
    async def ask_database(text):
        await anyio.sleep(1)
        return text

    @rt.function_node
    async def report(texts):
        slots = anyio.Semaphore(1)
        return await rt.call_batch(query, [slots] * len(texts), texts)

    return Case(report, args=(["ann", "bob"],), nodes=(ask_database,))


def locks_in_opposite_order(broken):
    """Let each transfer lock the account that it takes from, then the other."""

    @rt.function_node
    async def transfer(accounts, source, target):
        first, second = (source, target) if broken else sorted((source, target))
        async with accounts[first], accounts[second]:
            await anyio.sleep(0.1)

    @rt.function_node
    async def transfers(pairs):
        accounts = {name: anyio.Lock() for name in ("ann", "bob", "cat")}
        async with anyio.create_task_group() as group:
            for source, target in pairs:
                group.start_soon(rt.call, transfer, accounts, source, target)

    return Case(transfers, args=([("ann", "bob"), ("bob", "ann")],))


def consumer_waits_for_ever(broken):
    """Let the producer report that it is done only if nothing fails on the way."""

    @rt.function_node
    async def fetch(page):
        return page

    @rt.function_node
    async def crawl(pages):
        send, receive = anyio.create_memory_object_stream(math.inf)
        found = []

        async def produce():
            try:
                for page in pages:
                    await send.send(await rt.call(fetch, page))
                if broken:
                    await send.send(None)
            except ConnectionError:
                found.append("and more")
            if not broken:
                await send.send(None)

        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(produce)
            while (page := await receive.receive()) is not None:
                found.append(page)
        return found

    return Case(crawl, args=(["ann"],), nodes=(fetch,))


def booked_twice(broken):
    """Check that a seat is free, let the customer pay, and take it, although it may be taken by then."""
    sold = []

    @rt.function_node
    async def book(taken, seat):
        if seat in taken:
            return "taken"
        if not broken:
            taken.add(seat)
        await anyio.sleep(1)  # the payment
        taken.add(seat)
        sold.append(seat)
        return "booked"

    @rt.function_node
    async def box_office(seats):
        return await rt.call_batch(book, [set()] * len(seats), seats)

    def no_seat_is_sold_twice(outcome):
        assert len(sold) == len(set(sold)), f"sold: {sold}"

    return Case(box_office, (no_seat_is_sold_twice,), args=(["ann", "ann"],))


def lost_wake_up(broken):
    """Set and replace the event between the check of the list and the wait."""

    class Inbox:
        def __init__(self):
            self.jobs = []
            self.arrived = anyio.Event()

        def put(self, job):
            self.jobs.append(job)
            self.arrived.set()
            self.arrived = anyio.Event()

    @rt.function_node
    async def work(inbox, count):
        for _ in range(count):
            arrived = inbox.arrived
            if not inbox.jobs:
                await rt.broadcast("idle")
                await anyio.sleep(0)
                await (inbox.arrived if broken else arrived).wait()
            inbox.jobs.pop()

    @rt.function_node
    async def hand_out(jobs):
        inbox = Inbox()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, work, inbox, len(jobs))
            for job in jobs:
                await anyio.sleep(0)
                inbox.put(job)

    return Case(hand_out, args=(["ann"],))


def answers_mixed_up(broken):
    """Collect answers as they arrive, and zip them with the questions as they were asked."""

    @rt.function_node
    async def ask(question):
        return f"answer to {question}"

    @rt.function_node
    async def survey(questions):
        answers = []
        by_question = {}

        async def collect(question):
            answer = await rt.call(ask, question)
            answers.append(answer)
            by_question[question] = answer

        async with anyio.create_task_group() as group:
            for question in questions:
                group.start_soon(collect, question)
        return dict(zip(questions, answers, strict=True)) if broken else by_question

    def each_answer_is_to_its_question(outcome):
        for question, answer in (outcome.result or {}).items():
            assert answer == f"answer to {question}"

    return Case(survey, (each_answer_is_to_its_question,), args=(["who", "why"],), nodes=(ask,))


def computed_twice(broken):
    """Let two callers miss the cache before the first has filled it."""
    computed = []

    @rt.function_node
    async def embed(text):
        computed.append(text)
        await anyio.sleep(1)
        return len(text)

    @rt.function_node
    async def index(texts):
        cache, locks = {}, {}

        async def fill(text):
            if text not in cache:
                cache[text] = await rt.call(embed, text)

        async def fill_once(text):
            async with locks.setdefault(text, anyio.Lock()):
                await fill(text)

        async with anyio.create_task_group() as group:
            for text in texts:
                group.start_soon(fill if broken else fill_once, text)
        return cache

    def nothing_is_computed_twice(outcome):
        assert len(computed) == len(set(computed)), f"computed: {computed}"

    return Case(index, (nothing_is_computed_twice,), args=(["ann", "ann"],))


def in_flight_for_ever(broken):
    """Decrease the count after an answer and after an error, but not after a cancellation."""
    in_flight = 0

    @rt.function_node
    async def request(number):
        return number

    async def counted(number):
        nonlocal in_flight
        in_flight += 1
        try:
            await rt.call(request, number)
        except ConnectionError:
            if broken:
                in_flight -= 1
        else:
            if broken:
                in_flight -= 1
        finally:
            if not broken:
                in_flight -= 1

    @rt.function_node
    async def requests(count):
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(counted, number)

    def none_is_in_flight(outcome):
        assert in_flight == 0, f"{in_flight} in flight after the run"

    return Case(requests, (none_is_in_flight,), args=(2,))


def subscriber_waits_for_the_call(broken):
    """Let a call wait until its broadcast is read by a callback that waits until the call is over."""

    @rt.function_node
    async def work(steps, over):
        for step in range(steps):
            await rt.broadcast(step)
        over.set()

    @rt.function_node
    async def show_progress(steps):
        over = anyio.Event()
        shown = []

        async def show(event):
            if broken:
                await over.wait()
            shown.append(event.item)

        async with rt.Session() as session:
            session.subscribe(show, kinds=(rt.state.Broadcast,), capacity=1, policy="wait")
            await rt.call(work, steps, over)
        return shown

    return Case(show_progress, (ends_within(10),), args=(3,))


few = st.integers(0, 5)
names = st.lists(st.sampled_from(["ann", "bob", "cat"]), max_size=4)
pairs = st.lists(st.permutations(["ann", "bob", "cat"]).map(lambda each: tuple(each[:2])), max_size=4)

PLANTED = [
    Planted("forgotten task", "a task is created, and never awaited", forgotten_task, drawn(st.integers())),
    Planted(
        "thread left behind", "a thread is started, and never joined", thread_left_behind, drawn(st.booleans()),
    ),
    Planted(
        "slot not given back", "a semaphore is not released when a call fails", slot_not_given_back,
        drawn(names, faults=errors("ask_database")), ways=("faults", "sweep"), options={"timeout": math.inf},
    ),
    Planted(
        "locks in opposite order", "two calls take the same two locks in opposite order", locks_in_opposite_order,
        drawn(pairs, timeout=NEVER),
    ),
    Planted(
        "consumer waits for ever", "a producer that fails does not say that it is done", consumer_waits_for_ever,
        drawn(names, faults=errors("fetch")), ways=("faults", "sweep"), options={"timeout": math.inf},
    ),
    Planted(
        "booked twice", "a seat is checked, paid for, and only then taken", booked_twice,
        drawn(names, faults=fault_plans()),
        ways=("faults", "sweep"),
    ),
    Planted(
        "lost wake-up", "an event is replaced between the check and the wait", lost_wake_up,
        drawn(names, timeout=NEVER),
    ),
    Planted(
        "answers mixed up", "answers in their order of arrival are zipped with the questions", answers_mixed_up,
        drawn(st.lists(st.sampled_from(["who", "why", "how"]), unique=True), faults=delays("ask")),
        ways=("faults", "sweep"),
    ),
    Planted(
        "computed twice", "two callers miss the cache before it is filled", computed_twice,
        drawn(names, faults=fault_plans()),
        ways=("faults", "sweep"),
    ),
    Planted(
        "in flight for ever", "a count of running requests does not go down after a cancellation", in_flight_for_ever,
        drawn(few, faults=fault_plans()),
        ways=("faults", "sweep"),
    ),
    Planted(
        "subscriber waits for the call", "a callback waits for the call that waits for the callback",
        subscriber_waits_for_the_call, drawn(few),
    ),
]  # fmt: skip
