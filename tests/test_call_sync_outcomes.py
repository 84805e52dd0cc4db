"""What ``rt.call_sync`` returns and raises: the same objects that the node did."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import traceback
from collections.abc import Callable

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads


class Falsy(Exception):
    def __bool__(self):
        return False


class Stubborn(Exception):
    """Cannot be copied: its arguments are not those of its constructor."""

    def __init__(self, host, port):
        super().__init__()
        self.host, self.port = host, port


class Own(BaseException):
    pass


@dataclasses.dataclass
class Comparable(Exception):
    """Equal to others, and so not hashable."""

    code: int


ERRORS: dict[str, Callable[[], BaseException]] = {
    "TimeoutError": lambda: TimeoutError("no answer", 42),
    "InvalidStateError": asyncio.InvalidStateError,
    "CancelledError of concurrent": concurrent.futures.CancelledError,
    "CancelledError of asyncio": asyncio.CancelledError,
    "RunFinishedError": anyio.RunFinishedError,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "of BaseException": Own,
    "RuntimeError": RuntimeError,
    "falsy": Falsy,
    "not to be copied": lambda: Stubborn("db1", 5432),
    "not hashable": lambda: Comparable(5),
    "group": lambda: ExceptionGroup("mine", [TimeoutError("inner")]),
    "group of interrupts": lambda: BaseExceptionGroup("mine", [KeyboardInterrupt()]),
}


@pytest.fixture(params=ERRORS)
def error(request):
    error = ERRORS[request.param]()
    error.add_note("a note")
    return error


@pytest.fixture(params=["async", "sync"])
def node(request, error):
    async def in_task():
        raise error from KeyError("the cause")

    def in_thread():
        raise error from KeyError("the cause")

    return in_task if request.param == "async" else in_thread


def check(caught, error):
    assert caught is error
    assert repr(error.__cause__) == "KeyError('the cause')"
    assert error.__notes__ == ["a note"]
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] in ("in_task", "in_thread"), "the traceback ends where it was raised"


def test_exception_comes_out_of_a_plain_with_as_it_is(backend, node, error):
    """An exception of a node comes through the loop of a plain ``with`` as the same object."""
    with rt.Session(backend=backend) as session:
        with pytest.raises(type(error)) as caught:
            rt.call_sync(node)
        check(caught.value, error)
    assert len(session.info.records) == 1
    assert _threads.active_work_count() == 0


async def test_exception_comes_out_of_call_sync_in_a_node_as_it_is(node, error):
    """An exception of a node that a sync node calls comes out there as the same object."""
    seen = []

    def outer():
        try:
            rt.call_sync(node)
        except BaseException as exc:
            seen.append(exc)

    async with rt.Session():
        await rt.call(outer)
    check(seen[0], error)


@pytest.mark.parametrize("error", [None, Falsy(), TimeoutError, TimeoutError("returned"), asyncio.CancelledError()])
def test_exception_that_a_node_returns_is_a_result(backend, error):
    async def node():
        return error

    with rt.Session(backend=backend):
        assert rt.call_sync(node) is error


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_stop_iteration_becomes_a_runtime_error(backend, kind):
    """The StopIteration of a node comes out as the RuntimeError that Python makes of it."""
    node = {"async": None, "sync": lambda: next(iter(()))}[kind]

    async def in_task():
        raise StopIteration("mine")

    with rt.Session(backend=backend), pytest.raises(RuntimeError, match="StopIteration"):
        rt.call_sync(node or in_task)
