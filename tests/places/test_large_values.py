"""Large values on their way to workers and back: the event loop goes on while they are pickled and unpickled."""

from __future__ import annotations

import threading
from functools import partial

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.exceptions import TransferError
from railtracks.executors._pickling import MAX_QUICK_BYTES, NotQuickError, dumps
from railtracks.state import Status
from tests.places import nodes
from tests.places.test_places import REMOTE, run, session

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests

PATIENCE = 20
MANY = 2 * MAX_QUICK_BYTES


class Gate:
    """Is pickled, or unpickled, once the event loop has opened it."""

    here = False
    opened = threading.Event()
    reached = threading.Event()

    @classmethod
    def pass_through(cls):
        cls.reached.set()
        assert cls.opened.wait(PATIENCE), "the event loop did not go on"

    async def wait_reached(self):
        assert await anyio.to_thread.run_sync(self.reached.wait, PATIENCE), "it was not pickled"

    async def open(self):
        await self.wait_reached()
        self.opened.set()


@pytest.fixture
def gate():
    Gate.opened.clear()
    Gate.reached.clear()
    yield Gate()
    Gate.opened.set()


class SlowToPickle(Gate):
    def __reduce__(self):
        self.pass_through()
        return list, ([1, 2, 3],)


class SlowToUnpickle(Gate):
    data: bytes

    def __setstate__(self, state):
        if Gate.here:
            self.pass_through()
        vars(self).update(state)


def length(values):
    return len(values)


def at_place(where):
    return rt.function_node(length, where=where)


@pytest.mark.parametrize("where", REMOTE)
@pytest.mark.parametrize("through", ["argument", "context"])
def test_the_loop_goes_on_while_arguments_are_pickled(where, through, backend, gate):
    async def main():
        async with session(save_state=False), anyio.create_task_group() as group:
            group.start_soon(gate.open)
            if through == "context":
                rt.context.put("slow", SlowToPickle())
                assert await rt.call(rt.function_node(lambda: len(rt.context.get("slow")), where=where)) == 3
            else:
                assert await rt.call(at_place(where), SlowToPickle()) == 3

    run(backend, main)


@pytest.mark.parametrize("where", REMOTE)
def test_the_loop_goes_on_while_results_are_unpickled(where, backend, gate, monkeypatch):
    def make():
        made = SlowToUnpickle()
        made.data = b"x" * MAX_QUICK_BYTES
        return made

    async def main():
        monkeypatch.setattr(Gate, "here", True)
        async with session(save_state=False), anyio.create_task_group() as group:
            group.start_soon(gate.open)
            assert len((await rt.call(rt.function_node(make, where=where))).data) == MAX_QUICK_BYTES

    run(backend, main)


def test_the_loop_goes_on_for_large_context_changes(backend, gate, monkeypatch):
    def put():
        made = SlowToUnpickle()
        made.data = b"x" * MAX_QUICK_BYTES
        rt.context.put("made", made)

    async def main():
        monkeypatch.setattr(Gate, "here", True)
        async with session(save_state=False), anyio.create_task_group() as group:
            group.start_soon(gate.open)
            await rt.call(rt.function_node(put, where="process"))
            assert len(rt.context.get("made").data) == MAX_QUICK_BYTES

    run(backend, main)


@pytest.mark.parametrize("where", REMOTE)
def test_a_call_is_cancelled_while_it_is_pickled(where, backend, gate):
    async def main():
        async with session() as opened:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(rt.call, at_place(where), SlowToPickle()))
                await gate.wait_reached()
                group.cancel_scope.cancel()
            assert [record.status for record in opened.info.records] == [Status.CANCELLED]
            gate.opened.set()
            assert await rt.call(at_place(where), [1]) == 1

    run(backend, main)


def test_what_changes_while_it_is_pickled_is_pickled(backend, gate):
    """A dictionary cannot be iterated over while it grows; then it is pickled where it cannot."""

    async def main():
        values = {"slow": SlowToPickle(), 1: 1}

        async def grow():
            await gate.wait_reached()
            values["more"] = 1
            gate.opened.set()

        async with session(save_state=False), anyio.create_task_group() as group:
            group.start_soon(grow)
            assert await rt.call(at_place("process"), values) == 3

    run(backend, main)


@pytest.mark.parametrize("where", REMOTE)
def test_large_arguments_and_results_arrive(where, backend):
    async def main():
        texts = [str(number) for number in range(MANY // 8)]
        async with session(save_state=False):
            found = await rt.call(rt.function_node(lambda values: values[::-1], where=where), texts)
            assert found == texts[::-1]
            with pytest.raises(TransferError, match=r"argument 2 of .* cannot be sent"):
                await rt.call(rt.function_node(lambda values, lock: None, where=where), texts, threading.Lock())
            error = await rt.call_batch(at_fail(where), [texts])
            assert error[0].args == (texts,)

    run(backend, main)


def at_fail(where):
    @rt.function_node(where=where)
    def fail(values):
        raise LookupError(values)

    return fail


class Plain:
    def __init__(self, below=None):
        self.below = below


@pytest.mark.parametrize(
    ("value", "is_quick"),
    [
        (list(range(1_000)), True),
        ([Plain(number) for number in range(500)], True),
        (nodes.work, True),
        (["some text"] * MANY, False),
        ([str(number) for number in range(MANY)], False),
        ([Plain() for _ in range(MANY)], False),
        ("x" * MANY, False),
        (b"x" * MANY, False),
        (SlowToPickle(), False),
    ],
    ids=["numbers", "objects", "node", "same text", "texts", "many objects", "text", "bytes", "own reduce"],
)
def test_what_is_pickled_in_the_event_loop(value, is_quick):
    Gate.opened.set()
    try:
        data = dumps(value, must_be_quick=True)
    except NotQuickError:
        assert not is_quick
    else:
        assert is_quick
        assert data == dumps(value)
