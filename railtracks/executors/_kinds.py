"""The executors of others: what each can do, how work is submitted to it, and how it is closed.

Only the protocol of ``concurrent.futures.Executor`` is the same everywhere, and it says nothing of these. An executor
is recognised by the names of its classes, so that none of their modules is loaded here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import attrs

from railtracks.exceptions import ConfigError
from railtracks.executors._runner import Capabilities

_LOG = logging.getLogger("RT")
Submit = Callable[[Any, Callable[[bytes], bytes], bytes], "Future[bytes]"]
Close = Callable[[Any, bool], None]


def _submit(executor: Any, func: Callable[[bytes], bytes], work: bytes) -> Future[bytes]:
    future: Future[bytes] = executor.submit(func, work)
    return future


def _submit_to_pebble(executor: Any, func: Callable[[bytes], bytes], work: bytes) -> Future[bytes]:
    future: Future[bytes] = executor.schedule(func, args=(work,))  # its `submit` has another signature
    return future


def _submit_to_dask(executor: Any, func: Callable[[bytes], bytes], work: bytes) -> Future[bytes]:
    # Pure functions are run once for equal arguments. Two equal calls are two calls.
    future: Future[bytes] = executor.submit(func, work, pure=False)
    return future


def _close_threads(executor: Any, is_at_work: bool) -> None:
    executor.shutdown(wait=not is_at_work, cancel_futures=True)  # a thread that was abandoned cannot be ended


def _close_processes(executor: Any, is_at_work: bool) -> None:
    if is_at_work:
        if hasattr(executor, "kill_workers"):  # from Python 3.14 on
            executor.kill_workers()
            return
        for process in list((getattr(executor, "_processes", None) or {}).values()):
            with suppress(ValueError, OSError):  # it has ended, and was closed
                process.kill()
    executor.shutdown(wait=True, cancel_futures=True)


def _close_loky(executor: Any, is_at_work: bool) -> None:
    executor.shutdown(wait=True, kill_workers=is_at_work)


def _close_pebble(executor: Any, is_at_work: bool) -> None:  # noqa: ARG001 (nothing of the session runs, or is to)
    # Not ``close``, which starts a process anew for each piece of work that was cancelled on its way to one.
    executor.stop()
    executor.join()


def _close_dask(executor: Any, is_at_work: bool) -> None:  # noqa: ARG001 (nothing runs here)
    executor.shutdown(wait=False)  # cancels what is queued; the cluster belongs to whoever made it


def _close_other(executor: Any, is_at_work: bool) -> None:
    executor.shutdown(wait=not is_at_work)


@attrs.frozen(kw_only=True)
class Kind:
    """How one kind of executor is used."""

    capabilities: Capabilities
    submit: Submit = _submit
    close: Close = _close_other
    cancels_for_certain: bool = True
    """Whether ``cancel()`` of its futures returns True only if the work never begins, or ends then."""
    submits_at_once: Callable[[Any], bool] = attrs.field(default=lambda _: False)
    """Returns whether ``submit`` returns at once: it neither waits nor starts a process."""
    submit_waits: bool = False
    """Whether ``submit`` may wait until the executor takes the work."""
    places: Callable[[Any], int | None] = attrs.field(default=lambda _: None)
    """Returns how many pieces of work run at once, in the order of ``submit``; None if that is not known."""
    holds_clock: bool = True
    """Whether a virtual clock stands still while its workers are at work: not if they live by that clock."""


def _has_all_processes(executor: Any) -> bool:
    """Return whether ``submit`` starts no more processes. Private names; without them it is called in a thread."""
    processes = getattr(executor, "_processes", None)
    return processes is not None and len(processes) >= getattr(executor, "_max_workers", float("inf"))


def _max_workers(executor: Any) -> int | None:
    """Return how many workers an executor has. A private name; without it, it is not known."""
    return _count(getattr(executor, "_max_workers", None))


def _workers_of_pebble(executor: Any) -> int | None:
    """Return the same for a pool of pebble, from a private name, too."""
    return _count(getattr(getattr(executor, "_context", None), "workers", None))


def _count(workers: Any) -> int | None:
    return workers if type(workers) is int and workers > 0 else None


_THREADS = Capabilities(kind="thread", kills_running=False, survives_crash=False)
_PROCESSES = Capabilities(kind="process", kills_running=False, survives_crash=False)
_KINDS = {
    "concurrent.futures.interpreter.InterpreterPoolExecutor": Kind(
        capabilities=attrs.evolve(_THREADS, kind="interpreter"), close=_close_threads, places=_max_workers
    ),
    "concurrent.futures.thread.ThreadPoolExecutor": Kind(
        capabilities=_THREADS, close=_close_threads, submits_at_once=lambda _: True, places=_max_workers
    ),
    "concurrent.futures.process.ProcessPoolExecutor": Kind(
        capabilities=_PROCESSES, close=_close_processes, submits_at_once=_has_all_processes, places=_max_workers
    ),
    "loky.process_executor.ProcessPoolExecutor": Kind(capabilities=_PROCESSES, close=_close_loky, places=_max_workers),
    "pebble.pool.process.ProcessPool": Kind(
        capabilities=Capabilities(kind="process", kills_running=True, survives_crash=True),
        submit=_submit_to_pebble,
        close=_close_pebble,
        places=_workers_of_pebble,
    ),
    "pebble.pool.thread.ThreadPool": Kind(
        capabilities=_THREADS,
        submit=_submit_to_pebble,
        close=_close_pebble,
        cancels_for_certain=False,
        places=_workers_of_pebble,
    ),
    "distributed.cfexecutor.ClientExecutor": Kind(
        capabilities=Capabilities(kind="machine", kills_running=False, survives_crash=True),
        submit=_submit_to_dask,
        close=_close_dask,
        cancels_for_certain=False,
    ),
    "railtracks.executors._dask.DaskExecutor": Kind(
        capabilities=Capabilities(kind="machine", kills_running=False, survives_crash=True),
        close=_close_dask,
        cancels_for_certain=False,
        submits_at_once=lambda _: True,
    ),
    "railtracks.testing._executor.Executor": Kind(  # of ``railtracks.testing.faults``
        capabilities=Capabilities(kind="machine", kills_running=False, survives_crash=True),
        submits_at_once=lambda _: True,
        holds_clock=False,
    ),
}
LOST = b""
"""What comes in place of an answer if work was sent once, and is not sent again."""
UNKNOWN = Kind(
    capabilities=Capabilities(kind="machine", kills_running=False, survives_crash=False),
    cancels_for_certain=False,
    submit_waits=True,
)
"""What is assumed of an executor that is not known: the least."""


def kind_of(executor: Any, name: str) -> Kind:
    """Return how an executor is used.

    Args:
        executor: It, or one of a class derived from it.
        name: Its name in the session, for errors.

    Raises:
        ConfigError: it is not an executor.
    """
    for cls in type(executor).__mro__:
        kind = _KINDS.get(f"{cls.__module__}.{cls.__qualname__}")
        if kind is not None:
            _warn_of_forks(executor, name)
            # A derived class may do anything in its `submit`.
            return (
                kind
                if cls is type(executor)
                else attrs.evolve(kind, submits_at_once=lambda _: False, submit_waits=True)
            )
        if f"{cls.__module__}.{cls.__qualname__}" == "distributed.client.Client":  # whose futures are others
            raise ConfigError(f"executors[{name!r}] is a client of Dask; pass rt.executors.Dask(client)")
    if not callable(getattr(executor, "submit", None)):
        raise ConfigError(
            f"executors[{name!r}] is {executor!r}, which has no method `submit`; pass an executor such as "
            f"concurrent.futures.ThreadPoolExecutor(4), or a function that returns one"
        )
    return UNKNOWN


def _warn_of_forks(executor: Any, name: str) -> None:
    context = getattr(executor, "_mp_context", None)  # private; the start method is asked for nowhere else
    if context is None or context.get_start_method() != "fork" or getattr(executor, "_processes", None):
        return
    _LOG.warning(
        "executors[%r] forks its workers while an event loop and threads run, of which each child inherits pieces: "
        "locks that other threads hold stay locked in it for ever, and it may hang; write "
        "ProcessPoolExecutor(..., mp_context=multiprocessing.get_context('forkserver')), or 'spawn'",
        name,
    )
