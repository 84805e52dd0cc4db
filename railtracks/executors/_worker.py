"""What runs in a worker: a function and its arguments come as bytes, and what becomes of them goes back as bytes."""

from __future__ import annotations

import functools
import inspect
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Any

from railtracks._concurrency._after_fork import end_forked_child, fork_count
from railtracks._concurrency._event_loop import running_library
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import SessionError, TransferError
from railtracks.executors._capture import Capture, captured
from railtracks.executors._outcome import pack_exception, pack_outcome, pack_result
from railtracks.executors._pickling import NotQuickError, dumps, loads, seal, unseal

_INTERPRETER = os.urandom(8).hex()


@functools.cache
def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def interpreter() -> tuple[str, int]:
    """Return what identifies this interpreter among all; a forked child has another process id."""
    return _INTERPRETER, os.getpid()


def pack_work(
    func: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    backend: str = "asyncio",
    must_be_quick: bool = False,
) -> bytes:
    """Return a function and its arguments as bytes, for :func:`run`.

    Args:
        func: The function, sync or async.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        name: The name of the node, for errors.
        backend: The backend of the event loop that an async function runs in.
        must_be_quick: Whether to give up as soon as it takes long.

    Raises:
        TransferError: the function or an argument cannot be pickled; the text names it.
        NotQuickError: It takes long, and must be quick.
    """
    import logging
    from pickle import dumps as dump

    head = {"name": name, "backend": backend, "home": interpreter(), "log_level": logging.root.level}
    call = (func, args, dict(kwargs or {}))
    try:
        body = dumps(call, must_be_quick=must_be_quick)
    except TransferError as exc:
        if must_be_quick:
            raise NotQuickError from exc  # finding the part that is at fault takes longer
        raise _blame(exc, name, *call) from exc.__cause__
    return seal(dump((head, body)))


def _blame(exc: TransferError, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TransferError:
    """Return an error that names the part that cannot be pickled."""
    parts: dict[str, Any] = {f"the function of the node {name}": func}
    parts |= {f"argument {at} of {name}": arg for at, arg in enumerate(args, start=1)}
    parts |= {f"argument {key!r} of {name}": arg for key, arg in kwargs.items()}
    for what, part in parts.items():
        try:
            dumps(part, what)
        except TransferError as found:
            return found
    return exc


def run(work: bytes, collect: Callable[[Capture], None] | None = None) -> bytes:
    """Run what :func:`pack_work` packed, here, and return what :func:`unpack_outcome` unpacks. Never raises.

    It runs in a context of its own, so that nothing is left in that of a thread of a pool.

    Args:
        work: The work.
        collect: Called afterwards to add output that was not written in that context.
    """
    capture = Capture()
    name = "the node"
    try:
        head, body = _load(unseal(work, "the work for a worker"), "the work")
        name = head["name"] or name
        ended = _context().run(_run, head, body, name, capture)
        if collect is not None:
            collect(capture)
    except BaseException as exc:
        ended = pack_exception(exc, name)
    return pack_outcome(
        ended=ended,
        output=capture.output,
        output_dropped=capture.output_dropped,
        logs=capture.logs,
        logs_dropped=capture.logs_dropped,
        process=os.getpid(),
        host=host(),
    )


def _context() -> Context:
    """Return an empty context; in a worker that a test harness simulates, with its hooks."""
    context, hooks = Context(), runtime_hooks.get()
    if hooks.run_loop is not None:
        context.run(runtime_hooks.set, hooks)
    return context


def _run(head: Mapping[str, Any], body: bytes, name: str, capture: Capture) -> dict[str, Any]:
    forks = fork_count()
    try:
        # What is logged where our own handlers are has reached them already.
        log_level = None if head["home"] == interpreter() else head["log_level"]
        with captured(capture, log_level):
            func, args, kwargs = _load(body, f"{name}, or an argument of it,")
            result = _call(func, args, kwargs, head["backend"])
        if fork_count() != forks:  # the worker itself answers
            end_forked_child(None)
        return pack_result(result, name)
    except BaseException as exc:
        if fork_count() != forks:
            end_forked_child(exc)
        return pack_exception(exc, name)


def _load(data: bytes | memoryview, what: str) -> Any:
    try:
        return loads(data)
    except Exception as exc:  # whatever the import of a module raises, among others
        raise TransferError(
            f"{what} cannot be unpickled in the worker: {type(exc).__name__}: {exc}; "
            f"the worker needs the same code and packages, on its sys.path"
        ) from exc


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], backend: str) -> Any:
    result = func(*args, **kwargs)
    return _in_event_loop(result, backend) if inspect.isawaitable(result) else result


def _in_event_loop(awaitable: Awaitable[Any], backend: str) -> Any:
    import anyio

    if library := running_library():
        if inspect.iscoroutine(awaitable):
            awaitable.close()  # or Python would warn that it was never awaited
        raise SessionError(
            f"async code cannot run in this worker, forked in a {library} event loop that it seems to be in; "
            f"make the executor with mp_context=multiprocessing.get_context('forkserver'), or 'spawn'"
        )

    async def main() -> Any:
        return await awaitable

    return (runtime_hooks.get().run_loop or anyio.run)(main, backend=backend)
