"""Work in an executor: the bridge between its futures and the event loop.

Nothing polls. The executor's own thread wakes the event loop when a future is done. A ``submit`` that may wait, or that
may take long, is called in a worker thread.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import nullcontext
from typing import Any, NamedTuple

from anyio.lowlevel import current_token

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._thread_limit import ThreadLimit
from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import ConfigError, RTError, WorkerLostError
from railtracks.executors import _worker
from railtracks.executors._kinds import LOST, UNKNOWN, Kind, kind_of
from railtracks.executors._queue import WorkQueue
from railtracks.executors._runner import AroundWait, Capabilities, hold_clock

MAX_WORK_ON_LOOP = 1_000_000
"""Bytes of work from which on even a ``submit`` that never waits is called in a worker thread: it may copy them."""
MAX_SUBMITTERS = 8
"""How many calls of ``submit`` of one executor may wait at once, each in a thread."""


class ExecutorRunner:
    """Runs work in an executor of ``concurrent.futures``, or one like it. Made by :func:`runner_of`.

    Args:
        executor: The executor; None if ``make`` makes it.
        make: Makes an executor, which then belongs to this runner: a broken one is replaced, and it is closed in the
            end. Called in a worker thread.
        name: Its name in the session.
    """

    def __init__(self, executor: Any, make: Callable[[], Any] | None, name: str) -> None:
        self.name = name
        self._make = make
        self._executor: Any = executor
        self._kind: Kind | None = None if executor is None else kind_of(executor, name)
        self._lock = threading.Lock()  # threads make and replace the executor
        self._futures: set[Future[bytes]] = set()
        self._limit: ThreadLimit | None = None
        self._queue = WorkQueue()
        self._is_closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What the executor can do; the least, while the function that makes it was not called yet."""
        return UNKNOWN.capabilities if self._kind is None else self._kind.capabilities

    async def run(
        self,
        work: bytes,
        *,
        node: str = "the node",
        on_abandon: Callable[[], Awaitable[bool]] | None = None,
        around_wait: AroundWait = nullcontext,
    ) -> bytes:
        """Run work in the executor; see :class:`Runner`."""
        waiter = _Waiter()
        hold = hold_clock()
        try:
            future, executor = await self._submit(work, node, around_wait)
        except BaseException:
            hold.close()
            raise
        assert self._kind is not None
        if not self._kind.holds_clock:
            hold.close()
        future.add_done_callback(waiter.wake)
        future.add_done_callback(lambda _: hold.close())
        try:
            if self._queue.add(future, self._kind.places(executor), waiter.wake):
                with around_wait():
                    await waiter.wait_while(lambda: self._queue.has(future))
            await waiter.wait_while(lambda: not future.done())
        except BaseException:
            if not future.done():
                await self._leave(future, waiter, on_abandon)
            raise
        return self._result(future, executor, node)

    async def close(self) -> None:
        """Close the executor if it belongs to this runner; see :class:`Runner`. What runs is killed if it can be."""
        if self._make is None or self._kind is None:
            self._is_closed = True
        else:
            await run_in_thread(self._close, name=f"close the executor {self.name}")

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            assert self._kind is not None
            self._kind.close(executor, any(not future.done() for future in list(self._futures)))

    # ---- submitting

    async def _submit(self, work: bytes, node: str, around_wait: AroundWait) -> _Submitted:
        """Submit work. Cancellation: a ``submit`` that waits is abandoned, and what it submits is cancelled."""
        if self._executor is None and self._make is not None:  # before it is known whether `submit` may wait
            await run_in_thread(lambda: self._prepare(node), abandon_on_cancel=True, name=node)
        executor, kind = self._executor, self._kind
        if (
            executor is not None
            and kind is not None
            and len(work) < MAX_WORK_ON_LOOP
            and kind.submits_at_once(executor)
        ):
            return self._submit_now(work, node)
        if self._limit is None:
            self._limit = ThreadLimit(MAX_SUBMITTERS, _ignore_congestion)
        submission = _Submission(lambda: self._submit_now(work, node))
        try:
            with around_wait() if kind is not None and kind.submit_waits else nullcontext():
                return await run_in_thread(submission, abandon_on_cancel=True, limit=self._limit, name=node)
        except BaseException:
            submission.withdraw()
            raise

    def _prepare(self, node: str) -> None:
        """Make the executor, if there is none. In a worker thread."""
        try:
            self._current()
        except RTError:
            raise
        except Exception as exc:
            raise self._refused(node, exc) from exc

    def _submit_now(self, work: bytes, node: str) -> _Submitted:
        """Submit work, to a new executor if the one that this runner made is broken. In any thread."""
        try:
            executor, kind = self._current()
            try:
                future = kind.submit(executor, _worker.run, work)
            except BrokenExecutor:
                if not self._replace(executor):
                    raise
                executor, kind = self._current()
                future = kind.submit(executor, _worker.run, work)
        except RTError:
            raise
        except Exception as exc:
            raise self._refused(node, exc) from exc
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return _Submitted(future, executor)

    def _current(self) -> tuple[Any, Kind]:
        with self._lock:
            if self._is_closed:
                raise self._closed()
            if self._executor is None:
                assert self._make is not None
                executor = self._make()
                self._kind = kind_of(executor, self.name)
                if self._is_closed:  # meanwhile, while nobody waited for this thread any more
                    self._kind.close(executor, False)  # type: ignore[unreachable]  # another thread sets it
                    raise self._closed()
                self._executor = executor
            assert self._kind is not None
            return self._executor, self._kind

    def _replace(self, broken: Any) -> bool:
        """Drop a broken executor, so that the next call makes another one. Return whether that will be so."""
        if self._make is None:
            return False
        with self._lock:
            if self._executor is broken:
                self._executor = None
        broken.shutdown(wait=False)
        return True

    # ---- waiting

    async def _leave(
        self, future: Future[bytes], waiter: _Waiter, on_abandon: Callable[[], Awaitable[bool]] | None
    ) -> None:
        """Cancel work whose call was cancelled, or note that it goes on."""
        assert self._kind is not None
        was_cancelled = _cancel(future)
        if self._kind.cancels_for_certain if was_cancelled else future.done():
            return
        if on_abandon is not None and await on_abandon():
            shield = Shield()
            await shield.wait_while(lambda: not future.done(), waiter.changed)
            shield.check()

    def _result(self, future: Future[bytes], executor: Any, node: str) -> bytes:
        try:
            result = future.result(timeout=0)
        except CancelledError as exc:
            raise WorkerLostError(
                f"{node} did not run: its executor {self.name!r} cancelled it, as one does that is shut down", self.name
            ) from exc
        except BaseException as exc:  # `_worker.run` never raises, so it is the executor's
            if is_kind(exc, BrokenExecutor):
                self._replace(executor)
            raise self._lost(node, exc) from exc
        if result == LOST:
            raise WorkerLostError(
                f"{node}: its worker of the executor {self.name!r} died, or left the cluster, before its answer was "
                f"here; it may have run, in whole or in part, and it is not run again unless the node has retries=",
                self.name,
            )
        if type(result) is not bytes:
            raise WorkerLostError(
                f"{node}: the executor {self.name!r} returned {type(result).__name__} in place of its worker's answer",
                self.name,
            )
        return result

    # ---- errors

    def _closed(self) -> WorkerLostError:
        return WorkerLostError(f"the executor {self.name!r} was closed with its session", self.name)

    def _lost(self, node: str, exc: BaseException) -> WorkerLostError:
        reason = " ".join(str(exc).split()).removesuffix(".")  # loky's has paragraphs
        what = f"{node}: a worker of the executor {self.name!r} was lost: {type(exc).__name__}: {reason}"
        if not is_kind(exc, BrokenExecutor):
            return WorkerLostError(what, self.name)
        if self._make is not None:
            return WorkerLostError(f"{what}. The next call gets a new executor", self.name)
        return WorkerLostError(
            f"{what}. The executor is broken for all who use it; pass a function that makes one, "
            f"executors={{{self.name!r}: lambda: {type(self._executor).__name__}(...)}}, and it is replaced when it "
            f"breaks",
            self.name,
        )

    def _refused(self, node: str, exc: Exception) -> WorkerLostError:
        if is_kind(exc, BrokenExecutor):
            return self._lost(node, exc)
        return WorkerLostError(
            f"{node} did not run: the executor {self.name!r} takes no work: {type(exc).__name__}: {exc}", self.name
        )

    def __repr__(self) -> str:
        return f"<executor {self.name!r}>"


class _Waiter:
    """A task that waits for a future, which another thread completes."""

    __slots__ = ("_token", "changed")

    def __init__(self) -> None:
        self.changed = Condition()
        self._token = current_token()

    def wake(self, _: object = None) -> None:
        """Have the task look again. In any thread; if the event loop has ended, nothing happens."""
        call_soon(self._token, self.changed.notify_all)

    async def wait_while(self, condition: Callable[[], bool]) -> None:
        await self.changed.wait_while(condition)


class _Submitted(NamedTuple):
    future: Future[bytes]
    executor: Any
    """The one that it was submitted to; it may have been replaced since."""


class _Submission:
    """A call of ``submit`` in a worker thread, which may be abandoned; then its future is cancelled when it comes."""

    def __init__(self, submit: Callable[[], _Submitted]) -> None:
        self._submit = submit
        self._lock = threading.Lock()
        self._future: Future[bytes] | None = None
        self._is_withdrawn = False

    def __call__(self) -> _Submitted:
        submitted = self._submit()
        with self._lock:
            self._future = submitted.future
            is_withdrawn = self._is_withdrawn
        if is_withdrawn:
            _cancel(submitted.future)
        return submitted

    def withdraw(self) -> None:
        """Cancel what was submitted, or what will be."""
        with self._lock:
            self._is_withdrawn = True
            future = self._future
        if future is not None:
            _cancel(future)


def _cancel(future: Future[bytes]) -> bool:
    """Cancel work that has not begun. Return whether it is cancelled.

    When a worker has died, and before they kill their workers, executors of processes fail all that is queued, also
    what was cancelled. That raises in their thread, which ends: other work is never done then, and workers go on. So
    what was cancelled takes no exception.
    """
    was_cancelled = future.cancel()
    if was_cancelled:
        future.set_exception = _take_no_exception  # type: ignore[method-assign]
    return was_cancelled


def _take_no_exception(exception: BaseException | None) -> None:
    """Do nothing, in place of ``Future.set_exception``."""


def _ignore_congestion(name: str, holders: Sequence[str]) -> None:
    """Do nothing: an executor whose ``submit`` waits does so on purpose."""


def runner_of(executor: Any, name: str) -> ExecutorRunner:
    """Return what runs work in an executor.

    Args:
        executor: An executor, which stays the caller's: it is neither closed nor replaced. Or a function that returns
            one, which is called when it is needed; that executor is replaced when it breaks, and closed in the end.
        name: Its name in the session.

    Raises:
        ConfigError: it is neither.
    """
    if callable(getattr(executor, "submit", None)) and not isinstance(executor, type):
        return ExecutorRunner(executor, None, name)
    if not callable(executor):
        raise ConfigError(
            f"executors[{name!r}] is {executor!r}, which has no method `submit`; pass an executor such as "
            f"concurrent.futures.ThreadPoolExecutor(4), or a function that returns one"
        )
    return ExecutorRunner(None, executor, name)
