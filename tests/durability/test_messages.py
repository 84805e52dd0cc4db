"""``rt.state.send`` and ``rt.receive``: messages from outside, each taken exactly once."""

from __future__ import annotations

import contextlib
import datetime
import threading
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import pytest

import railtracks as rt
from railtracks import testing
from railtracks.exceptions import ConfigError, NodeInvocationError, RunNotFoundError, RunSuspended, StateError
from railtracks.state import FileStore, MemoryStore
from tests import virtual
from tests.durability.waiting import KINDS, STORES, close_store
from tests.durability.world import FOLDER, check, flow_of, keep_journal, reused

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture(params=KINDS)
def store(request):
    store = STORES[request.param]()
    yield store
    close_store(store)


def left(store, identifier="run"):
    """Return how many messages are in the mailbox."""
    return len(store.list_messages(identifier))


@rt.function_node
async def receive_all(topic="t", count=3):
    return [await rt.receive(topic) for _ in range(count)]


# ---- a live run


async def test_messages_come_in_the_order_of_sending(store):
    async with rt.Session(run_identifier="run", store=store) as session:
        session.start_soon(receive_all)
        for number in range(2):
            rt.state.send("run", "t", number, store)
        await anyio.sleep(1)
        rt.state.send("run", "t", 2, store)
        rt.state.send("run", "other", 3, store)
    assert session.info.answer == [0, 1, 2]
    assert left(store) == 0  # it has completed: nothing would receive the other one


async def test_waiting_calls_are_served_first_come_first_served(store):
    async with rt.Session(run_identifier="run", store=store) as session:
        for _ in range(3):
            session.start_soon(rt.receive, "t")
        await anyio.sleep(1)
        for number in range(3):
            await anyio.to_thread.run_sync(rt.state.send, "run", "t", number, store)
    received = [record.result for record in session.info.records if record.parent is None]
    assert received == [0, 1, 2]


async def test_sender_in_this_process_wakes_the_receiver_at_once(store):
    async with rt.Session(run_identifier="run", store=store) as session:
        session.start_soon(rt.receive, "t")
        await anyio.sleep(100)
        rt.state.send("run", "t", 1, store)
        started = anyio.current_time()
    assert anyio.current_time() == started


async def test_body_of_a_session_receives_too():
    async with rt.Session(run_identifier="run"):
        rt.state.send("run", "t", 1)
        assert await rt.receive("t") == 1


def test_sync_node_receives(backend):
    def node():
        return rt.call_sync(rt.receive, "t"), rt.call_sync(rt.receive, "t", timeout=100)

    with rt.Session(run_identifier="run", backend=backend):
        rt.state.send("run", "t", 1)
        rt.state.send("run", "t", 2)
        assert rt.call_sync(node) == (1, 2)


async def test_cancelled_receiver_takes_no_message():
    async with rt.Session(run_identifier="run"):
        with anyio.move_on_after(1):
            await rt.receive("t")
        rt.state.send("run", "t", 1)
        assert await rt.receive("t") == 1


async def test_message_that_came_with_a_cancellation_goes_to_the_next():
    async with rt.Session(run_identifier="run") as session:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(rt.receive, "t")
                await anyio.sleep(1)
                rt.state.send("run", "t", 1)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        taken = [record.result for record in session.info.records if record.result is not None]
        if not taken:
            taken = [await rt.receive("t", timeout=10)]
        with pytest.raises(TimeoutError):
            await rt.receive("t", timeout=1)
    assert taken == [1]


# ---- what may be sent, and to whom


VALUES = [
    None, True, -7, 2.5, "text", [1, [2]], {"a": {"b": None}}, (1, (2, "x")), {3, 4}, b"bytes", Decimal("1.50"),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), {1: "one"}, Path("a/b"), "\ud800", 10**40,
]  # fmt: skip


async def test_value_comes_back_as_it_was(store):
    async with rt.Session(run_identifier="run", store=store):
        for value in VALUES:
            rt.state.send("run", "t", value, store)
        for value in VALUES:
            received = await rt.receive("t")
            assert received == value
            assert type(received) is type(value)


@attrs.define
class Own:
    x: int


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Own(1),
        {"password": "correct horse battery"},
        rt.Secret("x"),
        "x" * (2**26 + 1),
        [lambda: 1],
        ValueError(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_cannot_be_brought_back_is_refused(value):
    with rt.Session(run_identifier="run"):
        with pytest.raises(ConfigError, match=r"the message for 't' cannot be sent: .*; send plain data"):
            rt.state.send("run", "t", value)
        assert left(FileStore()) == 0


@pytest.mark.parametrize("topic", ["", None, 7])
async def test_topic_must_be_a_text(topic):
    async with rt.Session(run_identifier="run"):
        with pytest.raises(ConfigError, match="as a topic"):
            rt.state.send("run", topic, 1)
        with pytest.raises(ConfigError, match="as a topic"):
            await rt.receive(topic)


def test_run_that_does_not_exist_is_an_error(store):
    with pytest.raises(RunNotFoundError, match="there is no run 'run'"):
        rt.state.send("run", "t", 1, store)
    assert left(store) == 0
    with pytest.raises(ConfigError):
        rt.state.send("../run", "t", 1, store)


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_run_that_has_made_no_call_gets_messages(store, durability):
    async with rt.Session(run_identifier="run", store=store, durability=durability):
        rt.state.send("run", "t", 1, store)
        assert await rt.receive("t") == 1


async def test_completed_run_receives_nothing_more(store):
    await flow_of(receive_all, store=store).ainvoke(count=0)
    with pytest.raises(StateError, match="'run' has completed"):
        rt.state.send("run", "t", 1, store)


@pytest.mark.parametrize("end", ["failed", "died"])
async def test_run_that_ended_without_completing_gets_messages(end):
    broken = [True]

    @rt.function_node
    async def main():
        keep_journal()
        if broken:
            raise ValueError
        return await rt.receive("t")

    flow = flow_of(main)
    with pytest.raises(ValueError):
        await flow.ainvoke()
    broken.clear()
    identifier = {"failed": "run", "died": "dead"}[end]
    rt.state.send(identifier, "t", 1)
    assert await flow.aresume(identifier) == 1


async def test_store_without_a_mailbox_says_what_is_missing():
    class Plain:
        def __init__(self):
            self._store = MemoryStore()

        def __getattr__(self, name):
            if name.endswith(("_message", "_messages")):
                raise AttributeError(name)
            return getattr(self._store, name)

    plain = Plain()
    async with rt.Session(run_identifier="run", store=plain, suspend=True):
        with pytest.raises(StateError, match=r"Plain keeps no messages: it has no put_message, .*rt\.state\.Mailbox"):
            rt.state.send("run", "t", 1, plain)
        with pytest.raises(rt.exceptions.ContextError, match="in a store that keeps messages"):
            await rt.receive("t")
        with pytest.raises(rt.exceptions.ContextError, match="ask_callback"):
            await rt.ask("Sure?")


# ---- timeouts


async def test_timeout_is_an_error_of_the_call():
    started = anyio.current_time()
    async with rt.Session(run_identifier="run") as session:
        with pytest.raises(TimeoutError, match=r"no message for 't' came within 5 s"):
            await rt.receive("t", timeout=5)
    assert anyio.current_time() - started == 5
    [record] = session.info.records
    assert (record.name, record.args, dict(record.kwargs)) == ("receive", ("t",), {"timeout": 5})
    assert record.status.value == "Failed"


async def test_message_in_time_beats_the_timeout():
    async with rt.Session(run_identifier="run") as session:
        session.start_soon(rt.receive, "t", timeout=5)
        await anyio.sleep(4)
        rt.state.send("run", "t", 1)
    assert session.info.answer == 1


async def test_resumed_run_waits_for_what_is_left():
    waited = []

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, waiting)
            await anyio.sleep(30)
            keep_journal()

    @rt.function_node
    async def waiting():
        started = anyio.current_time()
        with pytest.raises(TimeoutError):
            await rt.receive("t", timeout=100)
        waited.append(anyio.current_time() - started)

    flow = flow_of(main)
    await flow.ainvoke()
    await flow.aresume("dead")
    assert waited == [100, 0]


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
async def test_timeout_must_be_a_duration(timeout):
    async with rt.Session(run_identifier="run"):
        with pytest.raises(NodeInvocationError, match=r"rt\.receive: expected a timeout in seconds"):
            await rt.receive("t", timeout=timeout)


# ---- exactly once


async def test_message_on_record_is_not_given_again(store):
    """The process dies at each moment; the message was not removed yet, or was."""

    @rt.function_node
    async def main(count):
        return [await rt.receive("t") for _ in range(count)]

    flow = flow_of(main, store=store)
    with pytest.raises(RunSuspended):
        await flow.ainvoke(3)
    rt.state.send("run", "t", "a", store)
    with pytest.raises(RunSuspended):
        await flow.aresume("run")
    rt.state.send("run", "t", "b", store)
    rt.state.send("run", "t", "c", store)
    connection = flow.connect()
    assert await connection.aresume("run") == ["a", "b", "c"]
    assert reused(connection.session.info) == ["receive"]
    assert left(store) == 0


async def test_taken_messages_are_removed_while_the_run_goes_on(store):
    async with rt.Session(run_identifier="run", store=store):
        for number in range(3):
            rt.state.send("run", "t", number, store)
            assert await rt.receive("t") == number
            with pytest.raises(TimeoutError):
                await rt.receive("t", timeout=1)  # it looks into the mailbox once more
            assert left(store) == 0


async def test_without_a_journal_taken_messages_stay_until_the_end(store):
    async with rt.Session(run_identifier="run", store=store, durability="exit"):
        rt.state.send("run", "t", 1, store)
        assert await rt.receive("t") == 1
        with pytest.raises(TimeoutError):
            await rt.receive("t", timeout=1)
        assert left(store) == 1
    assert left(store) == 0


async def test_message_with_a_secret_of_the_session_is_not_lost():
    """It cannot be on record as a whole, so a resumed run takes it from the mailbox again."""
    received = []

    @rt.function_node
    async def main():
        rt.context.put("api_key", "correct-horse-battery-5")
        received.append(await rt.receive("t"))
        if len(received) == 1:
            raise ValueError("not this time")
        return received[-1]

    flow = flow_of(main)
    async with anyio.create_task_group() as group:

        async def send():
            await anyio.sleep(0.01)
            rt.state.send("run", "t", "my key is correct-horse-battery-5")

        group.start_soon(send)
        with pytest.raises(ValueError):
            await rt.Flow("F", main, run_identifier="run", suspend=False).ainvoke()
    assert await flow.aresume("run") == "my key is correct-horse-battery-5"
    assert received[0] == received[1]
    assert left(FileStore()) == 0


class Killed(BaseException):
    """The process dies."""


class DyingStore:
    """A store that dies at its operation number ``at``: before it, or after it. Nothing works from then on."""

    blocks = False
    OPERATIONS = ("put_message", "list_messages", "read_message", "remove_message", "save", "append", "sync", "open")

    def __init__(self, store, at, after):
        self.store, self.at, self.after, self.count = store, at, after, 0

    def __getattr__(self, name):
        found = getattr(self.store, name)
        return self.wrap(found) if name in self.OPERATIONS else found

    def wrap(self, operation):
        def wrapped(*args):
            if self.count >= self.at:
                raise Killed
            self.count += 1
            if self.count < self.at:
                return operation(*args)
            if self.after:
                operation(*args)
            raise Killed

        return wrapped

    def open(self, *args):
        appender = self.wrap(self.store.open)(*args)
        return Appender(self, appender)


class Appender:
    def __init__(self, store, appender):
        self.append, self.sync, self.close = store.wrap(appender.append), store.wrap(appender.sync), appender.close


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_killed_at_each_operation_each_message_is_taken_once(durability, after):
    """A store that dies at each of its operations, and a run that is resumed until it completes."""
    at, took = 0, []
    while True:
        at += 1
        inner = MemoryStore()
        effects: list[str] = []

        @rt.function_node(memo=False)
        async def note(text):
            effects.append(text)  # noqa: B023

        @rt.function_node
        async def main():
            received = []
            for _ in range(3):
                received.append(await rt.receive("t"))
                await rt.call(note, received[-1])
            return received

        flow = flow_of(main, store=inner, durability=durability, suspend=False, logging_setting="NONE")
        with pytest.raises(RunSuspended):
            await flow_of(main, store=inner).ainvoke()
        for text in "abc":
            rt.state.send("run", "t", text, inner)
        dying = DyingStore(inner, at, after)
        with anyio.move_on_after(50):
            with contextlib.suppress(Killed, RunSuspended):
                dying_flow = flow_of(main, store=dying, durability=durability, logging_setting="NONE", suspend=False)
                await dying_flow.aresume("run")
        was_killed = dying.count >= at
        if was_killed:
            connection = flow.connect()
            assert await connection.aresume("run") == ["a", "b", "c"]
        took.append(list(effects))
        assert left(inner) == 0
        if not was_killed:
            break
    assert at > 10
    assert all(set(each) == {"a", "b", "c"} for each in took)


# ---- under the harness


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_run_is_deterministic(seed, backend):
    async def sender():
        for number in range(3):
            await rt.sleep(number)
            rt.state.send(rt.session_id() or "", "t", number, sending.store)

    class sending:
        store = MemoryStore()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, sender)
            return await rt.call(receive_all)

    outcomes = []
    for _ in range(2):
        sending.store = MemoryStore()
        outcomes.append(testing.simulate(main, seed=seed, backend=backend, store=sending.store))
    for outcome in outcomes:
        testing.check(outcome)
        assert outcome.result == [0, 1, 2]
    assert outcomes[0].trace == outcomes[1].trace


def test_simulated_flow_is_suspended(backend):
    async def main():
        try:
            return await rt.ask("Sure?")
        finally:
            await rt.sleep(0)

    outcome = testing.simulate(rt.Flow("F", main), backend=backend)
    assert isinstance(outcome.exception, RunSuspended)
    testing.check(outcome)


def test_run_that_waits_for_ever_is_a_deadlock(backend):
    async def main():
        async with rt.Session(run_identifier="run", timeout=float("inf")):
            await rt.receive("t")

    with pytest.raises(testing.Deadlock):
        testing.run(main, backend=backend)


async def test_thread_that_may_still_send_is_waited_for():
    may_send = threading.Event()

    def send():
        may_send.wait(10)
        rt.state.send("run", "t", 1)

    thread = threading.Thread(target=send)
    with virtual.hold_clock():
        async with rt.Session(run_identifier="run") as session:
            thread.start()
            session.start_soon(rt.receive, "t")
            await anyio.sleep(0)
            may_send.set()
    thread.join()
    assert session.info.answer == 1
    check(session, FOLDER)


async def test_messages_that_nothing_received_are_named(store, caplog):
    async with rt.Session(run_identifier="run", store=store, logging_setting="QUIET"):
        await rt.call(len, "abc")
        for topic in ("a", "b", "a"):
            rt.state.send("run", topic, 1, store)
    [text] = [record.getMessage() for record in caplog.records if "has completed" in record.getMessage()]
    assert text == "The run run has completed; 3 messages that nothing received were removed: 'a', 'b'"


async def test_error_of_a_suspended_run_shows_the_topic_to_send_to():
    with pytest.raises(rt.RunSuspended, match=r"after rt\.state\.send\('run', 'carrier', \.\.\.\)"):
        await rt.Flow("F", rt.receive, run_identifier="run").ainvoke("carrier")
