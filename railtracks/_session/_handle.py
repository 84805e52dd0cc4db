"""What ``start_soon`` returns: a handle of the call that it has started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._task_groups import split_cancellation
from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.execution import Coordinator, Frame
from railtracks.execution._entering import enter
from railtracks.execution._node_errors import is_cancellation
from railtracks.nodes import FunctionNode
from railtracks.state import Reason, Status


@final
class CallHandle:
    """A call that ``session.start_soon`` has started.

    Attributes:
        name: The name of the node.
    """

    __slots__ = (
        "_coordinator",
        "_ended",
        "_error",
        "_has_returned",
        "_is_cancelled",
        "_result",
        "_status",
        "_task",
        "name",
    )

    def __init__(self, coordinator: Coordinator, name: str) -> None:
        self.name: str = name
        self._coordinator = coordinator
        self._status = Status.OPEN
        self._task: object = None  # once it has begun
        self._is_cancelled = False
        self._result: Any = None
        self._has_returned = False
        self._error: BaseException | None = None
        self._ended = Condition()  # of its own: that of the session wakes who waits for any call

    @property
    def status(self) -> Status:
        """How the call has ended; ``Status.OPEN`` until then."""
        return self._status

    def cancel(self) -> None:
        """Cancel the call and all below it, soon, with the reason ``Reason.HANDLE``. Thread-safe and idempotent.

        The session does not raise anything for that. One that has not begun never begins, and is not on record. A call
        that has ended stays as it is.
        """
        loop = self._coordinator.loop
        if loop.is_this_thread or loop.token is None:
            self._cancel()
        else:
            call_soon(loop.token, self._cancel)

    def _cancel(self) -> None:
        if self._status is Status.OPEN:
            self._is_cancelled = True
            if self._task is not None:
                self._coordinator.scopes.cancel_task(self._task, Reason.HANDLE)

    async def wait(self) -> Status:
        """Wait until the call has ended, and return how.

        It does not raise what the call raised: the session does that at its end, and ``result`` does.

        Raises:
            SessionError: another event loop runs here than that of the session.

        Cancellation: the wait ends, and the call goes on.
        """
        if self._status is Status.OPEN and not self._coordinator.loop.is_this_thread:
            raise SessionError(f"the call of {self.name} can be waited for in the event loop of its session only")
        await self._ended.wait_while(lambda: self._status is Status.OPEN)
        return self._status

    def result(self) -> Any:
        """Return the result of the call, or raise its exception, as ``await rt.call`` would have. Thread-safe.

        The session raises the exception at its end all the same.

        Raises:
            SessionError: the call has not ended.
            SessionEndedError: it was cancelled, or came too late.
            BaseException: whatever it raised, as the same object.
        """
        if self._status is Status.OPEN:
            raise SessionError(f"the call of {self.name} has not ended; write `await handle.wait()` before")
        if self._error is not None:
            raise self._error
        if not self._has_returned:
            raise SessionEndedError(f"the call of {self.name} was cancelled")
        return self._result

    def __repr__(self) -> str:
        return f"<call of {self.name}: {self._status.value}>"

    # ---- for the nursery

    async def _run(
        self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], frame: Frame
    ) -> None:
        """Run the call in the current task. The session raises what this raises."""
        if self._is_cancelled:
            return
        coordinator = self._coordinator
        self._task = coordinator.loop.current_task()
        branch = coordinator.branches.of_task(self._task, None)
        root = coordinator.new_root()
        try:
            self._result = await enter(node, args, kwargs, frame, branch=branch, root=root)
        except BaseException as exc:
            self._error = None if is_cancellation(exc) else exc  # that is of a scope, and of no use elsewhere
            self._status = self._status_of(exc, root.index, branch)
            if not self._has_caused(exc):
                raise
        else:
            self._status, self._has_returned = Status.COMPLETED, True
        finally:
            self._task = None

    def _status_of(self, exc: BaseException, index: int | None, branch: tuple[int, ...]) -> Status:
        """Return how the call has ended: as its record says, unless it was refused.

        Args:
            exc: What it has raised.
            index: The index of its record; None if it was refused. If it was refused in the last moment, there may be
                the record of another call, which another task has made.
            branch: The task of the call.
        """
        entries = self._coordinator.state.entries
        record = entries[index] if index is not None and index < len(entries) else None
        if record is not None and record.branch == branch:
            return record.status
        is_ended = is_kind(exc, SessionEndedError) or split_cancellation(exc)[0] is not None
        return Status.CANCELLED if is_ended else Status.FAILED

    def _has_caused(self, exc: BaseException) -> bool:
        """Return whether the call has raised this because of ``cancel``."""
        return self._is_cancelled and self._coordinator.failure is None and type(exc) is SessionEndedError

    def _end(self) -> None:
        """Note that the task has ended, whatever it has run."""
        if self._status is Status.OPEN:
            self._status = Status.CANCELLED
        self._ended.notify_all()
