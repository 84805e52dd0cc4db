"""What a worker answers: a result or an exception, and what was printed and logged on the way.

Result and exception are bytes inside the answer, so that the rest can be read even where they cannot be unpickled.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from railtracks._concurrency._event_loop import cancellation_types
from railtracks._concurrency._kinds import is_kind
from railtracks.exceptions import RemoteError, RemoteTraceback, TransferError
from railtracks.executors._pickling import dumps, loads, seal, unseal

__all__ = ["Outcome", "pack_exception", "pack_outcome", "pack_result", "unpack_outcome"]


_PLAIN = frozenset({bool, bytes, float, int, str, type(None)})


@attrs.frozen
class Outcome:
    """The answer of a worker.

    Attributes:
        output: What was written to ``sys.stdout`` and ``sys.stderr``, in its order: the name of the stream, and a text.
        output_dropped: How many characters more were written.
        logs: The attributes of the log records, for ``logging.makeLogRecord``.
        logs_dropped: How many more were logged.
        process: The process id of the worker.
        host: The name of its machine.
    """

    output: Sequence[tuple[str, str]] = ()
    output_dropped: int = 0
    logs: Sequence[Mapping[str, Any]] = ()
    logs_dropped: int = 0
    process: int = 0
    host: str = ""
    _ended: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the function has returned."""
        return "result" in self._ended

    def unwrap(self) -> Any:
        """Return the result, or raise the exception, whose cause is its traceback in the worker.

        Raises:
            BaseException: what the function raised.
            RemoteError: it raised what cannot be brought back.
            TransferError: the result cannot be brought back.
        """
        name = self._ended["name"]
        if self.is_success:
            try:
                return loads(self._ended["result"])
            except Exception as exc:
                raise TransferError(
                    f"the result of {name} came back from a worker, but cannot be unpickled here: "
                    f"{type(exc).__name__}: {exc}"
                ) from exc
        raise self._exception() from RemoteTraceback(self._ended["traceback"])

    def _exception(self) -> BaseException:
        ended = self._ended
        reason = ended["reason"]
        if ended["exception"] is not None:
            try:
                exc = loads(ended["exception"])
                if is_kind(exc, BaseException):
                    return exc
            except Exception as problem:
                reason = f"it cannot be unpickled here: {type(problem).__name__}: {problem}"
        return RemoteError(ended["type"], ended["text"], ended["traceback"], reason)


def pack_result(result: Any, name: str) -> dict[str, Any]:
    """Return what is sent for a result.

    Raises:
        TransferError: the result cannot be pickled.
    """
    kind = type(result)
    if kind in _PLAIN:  # which many results are, and cloudpickle takes three times as long
        from pickle import dumps as dump

        return {"name": name, "result": dump(result)}
    return {
        "name": name,
        "result": dumps(result, f"the result of {name}, of type {kind.__module__}.{kind.__qualname__},"),
    }


def pack_exception(exc: BaseException, name: str) -> dict[str, Any]:
    """Return what is sent for an exception: itself if it survives that, and in any case what it says."""
    kind = type(exc)
    data, reason = _pickled(exc)
    return {
        "name": name,
        "exception": data,
        "type": f"{kind.__module__}.{kind.__qualname__}",
        "text": _text_of(exc),
        "traceback": _traceback_text(exc),
        "reason": reason,
    }


def _pickled(exc: BaseException) -> tuple[bytes | None, str]:
    """Return an exception as bytes if what they make is the same one, or else None and why not."""
    if issubclass(type(exc), (*cancellation_types(), GeneratorExit)):
        return None, "it cancels tasks of the event loop that it was raised in, and would cancel others here"
    try:
        data = dumps(exc, "the exception")
        copy = loads(data)
    except TransferError as problem:
        return None, f"it cannot be pickled: {problem.__cause__}"
    except Exception as problem:
        return None, f"it cannot be unpickled: {type(problem).__name__}: {problem}"
    if type(copy) is not type(exc) or _text_of(copy) != _text_of(exc):
        return None, f"unpickling it makes another exception: {type(copy).__name__}: {_text_of(copy)}"
    return data, ""


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as problem:  # `__str__` of a user
        return f"<its text raised {type(problem).__name__}>"


def _traceback_text(exc: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(exc)).rstrip()
    except Exception as problem:  # `__str__` of a user
        return f"<formatting its traceback raised {type(problem).__name__}>"


def pack_outcome(**members: Any) -> bytes:
    """Return an answer as bytes: the members of an :class:`Outcome`, which are plain data."""
    from pickle import dumps as dump

    return seal(dump(members))


def unpack_outcome(data: bytes, what: str = "the answer of a worker") -> Outcome:
    """Return the answer that a worker sent.

    Args:
        data: The answer.
        what: What it is, for the error.

    Raises:
        TransferError: it was damaged on its way.
    """
    return Outcome(**loads(unseal(data, what)))
