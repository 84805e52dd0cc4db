"""An event loop in a thread of its own, for sessions in plain synchronous code.

Ctrl-C is raised in the main thread, wherever that is: also while the thread starts, and while its end is waited for.
So the thread is started with interrupts deferred, and a wait for it that Ctrl-C ends is begun again.
"""

from __future__ import annotations

import contextvars
import threading
import weakref
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._interrupts import DeferredInterrupts, Gate
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import SessionError

if TYPE_CHECKING:
    from railtracks._session._nursery import Finalizer, SessionNursery


class LoopThread:
    """Opens and closes the nursery of a session in one task of an event loop of its own.

    Args:
        backend: "asyncio" or "trio".
        nursery: The nursery.
        finalize: What the nursery runs when it has closed.
    """

    def __init__(self, backend: str, nursery: SessionNursery, finalize: Finalizer) -> None:
        self._backend = backend
        self._nursery = nursery
        self._finalize = finalize
        self._thread: threading.Thread | None = None  # once it has started
        self._opened = Gate()
        self._ended = Gate()
        self._error: BaseException | None = None
        self._must_close = False
        self._body_error: BaseException | None = None
        self._changed = Condition()  # on the event loop: `_must_close` was set
        self._token: EventLoopToken | None = None  # once the event loop runs
        _threads.add(self)

    def open(self) -> None:
        """Start the thread unless it has started, and block until the nursery is open.

        Raises:
            Exception: the event loop could not be started.
            KeyboardInterrupt: Ctrl-C came while this waited; the thread goes on.
        """
        if self._thread is None and self._error is None:
            run = contextvars.copy_context().run
            thread = threading.Thread(target=run, args=(self._run,), name="railtracks-session", daemon=True)
            with DeferredInterrupts():
                thread.start()
                self._thread = thread
        self._opened.wait()
        if self._error is not None:
            raise self._error

    def close(self, exc: BaseException | None) -> None:
        """Close the nursery, given what the session's body raised, and end the thread. Blocks until both are done.

        Raises:
            BaseException: whatever closing the nursery raises.
            KeyboardInterrupt: Ctrl-C came while this waited. What was left is cancelled, and has ended.
        """
        if self._thread is None:
            return
        interrupt: KeyboardInterrupt | None = None
        self._body_error = exc
        self._must_close = True
        while not self._ended.is_open:
            try:
                self._notify(interrupt)
                self._ended.wait()
            except KeyboardInterrupt as error:
                interrupt = error
        self._thread.join()
        failure, self._error = self._error, None  # it is raised once: closing again finds it closed
        if interrupt is not None:
            raise interrupt
        if failure is not None:
            raise failure

    def detach_after_fork(self) -> None:
        """Forget the thread, in a forked child: it is the parent's."""
        self._thread = None
        self._opened.is_open = True
        self._error = SessionError(
            "the event loop of this session runs in the parent process; open a session of its own in a forked child"
        )

    def _notify(self, interrupt: KeyboardInterrupt | None) -> None:
        """Wake the event loop, so that it closes the nursery, or notes a Ctrl-C."""
        if self._token is None:
            return  # the event loop does not run yet; it reads `_must_close` when it does

        def wake() -> None:
            self._changed.notify_all()
            if interrupt is not None:
                self._nursery.interrupt(interrupt)

        call_soon(self._token, wake)

    def _run(self) -> None:
        try:
            (runtime_hooks.get().run_loop or anyio.run)(self._main, backend=self._backend)
        except BaseException as exc:  # raised in the thread that waits
            self._error = exc
        finally:
            if not self._opened.is_open:
                self._opened.open()
            self._ended.open()

    async def _main(self) -> None:
        await self._nursery.open()
        self._token = current_token()
        self._opened.open()
        shield = Shield()
        await shield.wait_while(lambda: not self._must_close, self._changed)
        await self._nursery.close(self._body_error, self._finalize)


_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@after_fork
def _detach_all_after_fork() -> None:
    for thread in _threads:
        thread.detach_after_fork()
