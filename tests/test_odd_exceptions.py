"""Exceptions of every kind that a node raised come out of every kind of call as the same object, and are on record."""

import dataclasses
from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.state import Status


class OddError(BaseException):
    """Neither an ``Exception``, nor what ends a program."""


class FalsyError(Exception):
    def __bool__(self):
        return False


class EmptyError(Exception):
    def __len__(self):
        return 0


class FalsyOddError(FalsyError, OddError):
    pass


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int = 7


@attrs.frozen
class FrozenAttrsError(Exception):
    code: int = 7


@dataclasses.dataclass(frozen=True)
class FrozenOddError(OddError):
    code: int = 7


class ClaimsError(Exception):
    @property  # type: ignore[misc]  # as a lazy proxy may do
    def __class__(self):
        raise RuntimeError("no code of an exception may matter")


class ClaimsOddError(ClaimsError, OddError):
    pass


class EqualityError(Exception):
    """As one that compares a code which other exceptions do not have."""

    def __eq__(self, other):
        raise RuntimeError("no code of an exception may matter")

    __hash__ = Exception.__hash__


class TimeOut(TimeoutError):
    pass


ERRORS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("no"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "pytest.fail": lambda: pytest.fail.Exception("no"),
    "BaseException": lambda: OddError("no"),
    "GeneratorExit": GeneratorExit,
    "falsy": lambda: FalsyError("no"),
    "of length 0": lambda: EmptyError("no"),
    "falsy BaseException": lambda: FalsyOddError("no"),
    "frozen": FrozenError,
    "frozen, of attrs": FrozenAttrsError,
    "frozen BaseException": FrozenOddError,
    "__class__ that raises": lambda: ClaimsError("no"),
    "BaseException with a __class__ that raises": lambda: ClaimsOddError("no"),
    "== that raises": lambda: EqualityError("no"),
    "TimeoutError": lambda: TimeOut("no", 42),
    "group": lambda: ExceptionGroup("no", [ValueError("no")]),
    "group of one with == that raises": lambda: ExceptionGroup("no", [EqualityError("no")]),
    "group of BaseExceptions": lambda: BaseExceptionGroup("no", [OddError("no"), ValueError("no")]),
    "StopAsyncIteration": lambda: StopAsyncIteration("no"),
}
OPTIONS: Any = {"save_state": False, "logging_setting": "QUIET"}  # a line for each failure
CAUSE = KeyError("the cause")


class Ways:
    """The ways of calling a node that raises, on one backend. Each returns what came out, and the session."""

    def __init__(self, backend: str, error: BaseException, saves: bool) -> None:
        self.backend = backend
        self.error = error
        store = rt.state.MemoryStore() if saves else None
        self.options = {**OPTIONS, "save_state": saves, "store": store, "backend": backend}

    async def fails(self) -> None:
        raise self.error from CAUSE

    def fails_in_thread(self) -> None:
        raise self.error from CAUSE

    async def passes_on(self) -> None:
        await rt.call(self.fails)

    def passes_on_in_thread(self) -> None:
        rt.call_sync(self.fails)

    def run(self, body: Callable[[], Any]) -> tuple[BaseException | None, Any]:
        """Run a body in a session, and catch what comes out of it there."""

        async def main() -> tuple[BaseException | None, Any]:
            caught = None
            try:
                async with rt.Session(**self.options) as session:
                    self.session = session
                    try:
                        await body()
                    except BaseException as exc:
                        if exc is not self.error:
                            raise
                        caught = exc
            except BaseException as exc:
                caught = exc
            return caught, self.session

        return anyio.run(main, backend=self.backend)

    def call(self) -> Any:
        return self.run(lambda: rt.call(self.fails))

    def nested(self) -> Any:
        return self.run(lambda: rt.call(self.passes_on))

    def sync_node(self) -> Any:
        return self.run(lambda: rt.call(self.fails_in_thread))

    def call_sync_in_a_sync_node(self) -> Any:
        return self.run(lambda: rt.call(self.passes_on_in_thread))

    def batch(self) -> Any:
        return self.run(lambda: self._batch(False))

    def batch_that_returns(self) -> Any:
        return self.run(lambda: self._batch(True))

    async def _batch(self, return_exceptions: bool) -> None:
        async def fails_or_not(number: int) -> None:
            if number:
                await self.fails()

        for result in await rt.call_batch(fails_or_not, range(2), return_exceptions=return_exceptions):
            if result is not None:
                raise result

    def child(self) -> Any:
        async def body() -> None:
            self.session.start_soon(self.fails)

        return self.run(body)

    def stream(self) -> Any:
        async def body() -> None:
            async for _ in rt.astream(self.fails):
                pass

        return self.run(body)

    def catch(self, func: Callable[[], Any]) -> BaseException | None:
        try:
            func()
        except BaseException as exc:
            return exc
        return None

    def call_sync(self) -> Any:
        with rt.Session(**self.options) as session:
            caught = self.catch(lambda: rt.call_sync(self.fails))
        return caught, session

    def call_sync_alone(self) -> Any:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("RAILTRACKS_BACKEND", self.backend)
            patched.setenv("RAILTRACKS_SAVE_STATE", "false")
            return self.catch(lambda: rt.call_sync(self.fails)), None

    def flow(self) -> Any:
        return self.catch(lambda: rt.Flow("F", self.fails, **self.options).invoke()), None

    def async_flow(self) -> Any:
        async def main() -> BaseException | None:
            try:
                await rt.Flow("F", self.fails, **self.options).ainvoke()
            except BaseException as exc:
                return exc
            return None

        return anyio.run(main, backend=self.backend), None

    def decorator(self) -> Any:
        @rt.session(**self.options)
        async def main() -> None:
            await rt.call(self.fails)

        async def outer() -> BaseException | None:
            try:
                await main()
            except BaseException as exc:
                return exc
            return None

        return anyio.run(outer, backend=self.backend), None


WAYS = [
    "call", "nested", "sync_node", "call_sync_in_a_sync_node", "batch", "batch_that_returns", "child", "stream",
    "call_sync", "call_sync_alone", "flow", "async_flow", "decorator",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ERRORS)
def test_exception_comes_out_as_the_same_object(name, way, backend):
    error = ERRORS[name]()
    if name == "StopAsyncIteration" and way == "stream":
        pytest.skip("it would look like the end of the stream; see below")
    if "__class__" in name and way in ("call_sync_alone", "flow") and backend == "asyncio":
        pytest.skip("asyncio.run() itself never ends if its main function raises this")
    caught, session = getattr(Ways(backend, error, saves=False), way)()
    assert caught is error
    assert error.__cause__ is CAUSE
    assert error.__suppress_context__
    assert getattr(error, "__notes__", []) == []
    if session is not None:
        failed = [record for record in session.info.records if record.status is not Status.COMPLETED]
        assert failed
        assert [(record.status, record.exception, record.reason) for record in failed] == [
            (Status.FAILED, error, None) for _ in failed
        ]
    assert rt.session_id() is None


async def test_stream_is_not_ended_by_a_stop_iteration_of_its_call():
    async def fails():
        raise StopAsyncIteration("no")

    async with rt.Session(**OPTIONS) as session:
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration") as caught:
            async for _ in rt.astream(fails):
                pass
    assert caught.value.__cause__ is session.info.records[0].exception


def test_an_exception_without_a_repr_harms_no_later_event_loop(backend):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    @rt.function_node
    async def mute():
        raise Mute

    @rt.function_node
    async def speaks():
        return 1

    with pytest.raises(Mute):
        rt.Flow("Mute", mute, backend=backend, save_state=False).invoke()
    assert rt.Flow("Speaks", speaks, backend=backend, save_state=False).invoke() == 1
