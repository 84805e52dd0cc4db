"""``astream``: a call whose text is consumed while the call runs.

The call runs in a task of the session, beside its consumer, and sends each piece when the consumer asks for it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

import anyio

from railtracks._calls._call import call
from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._event_loop import task_getter
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._task_stream import TaskStream
from railtracks._context_variable import current, on_replayed
from railtracks.agents._histories import replayed_chunks
from railtracks.agents._response import Chunk
from railtracks.agents._sink import sink
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from railtracks.execution import Frame, split_cancellation
from railtracks.execution._entering import check_can_call
from railtracks.execution._lifecycle import Operation
from railtracks.execution._streams import OpenStreams
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.pubsub import callback_of
from railtracks.state import CallRecord


def astream(node: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream:
    """Call ``node`` as ``rt.call`` does, and iterate over what its agents write while they write it.

    ::

        async for chunk in rt.astream(MyAgent, "Tell me a story"):
            if chunk.kind == "text":
                print(chunk.text, end="", flush=True)
        response = chunk.response

    Args:
        node: What ``rt.call`` takes: an agent, or a node that calls agents. The agents below it are streamed too,
            except those that a node below it streams itself, or runs on an event loop of its own (a sync node that
            opens a session). ``chunk.agent`` and ``chunk.node_id`` say which agent wrote a chunk.
        *args: The arguments of the node.
        **kwargs: Its keyword arguments.

    The call begins when the first chunk is asked for, and continues as chunks are taken: an agent waits until its chunk
    is. It is nested in the call that asks for the first chunk, or a top-level one. The time that the consumer takes
    counts towards the session's ``timeout``.

    A call that fails is tried again, as the ``retries`` of its node say, until a chunk of it was taken. After that its
    exception is raised, as another attempt would begin anew. An agent whose result is cached gives its text in one
    chunk.

    Leaving the loop drops the stream, and that cancels the call. If something else refers to the stream, such as a
    variable, write ``async with rt.astream(...) as stream:`` around the loop; that also waits until the call has ended.
    In any case the call is cancelled when the call that opened the stream ends.

    Raises:
        NodeCreationError: ``node`` is not a node. Raised at once; everything else when a chunk is asked for.
        ContextError: There is no session.
        SessionError: The session was entered with a plain ``with`` in async code and has no nursery; or the current
            event loop is not the session's; or the stream is opened where the session would not wait for its consumer:
            in a subscriber's callback, or outside of calls once the session's body has ended.
        SessionEndedError: The session ended the call.
        Exception: What ``rt.call`` would raise, as the same object, after the chunks that came before it.

    Cancellation: Cancelling the consumer ends its loop, and so cancels the call.
    """
    return Stream(as_node(node, "rt.astream"), args, kwargs)


@final
class Stream(TaskStream[Chunk]):
    """The chunks of one call, for one task to consume; made by ``rt.astream``."""

    def __init__(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(_Producer(node, args, kwargs))


class _Producer:
    """The call. It does not refer to the ``Stream``, so that dropping the stream while the call runs cancels it."""

    def __init__(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._node, self._args, self._kwargs = node, args, kwargs
        self._scope: anyio.CancelScope | None = None  # set once the call has begun
        self._error: BaseException | None = None  # raised once the chunks before it were taken
        self._last_taken = False  # True once the last chunk was taken
        self._replayed: deque[Chunk] = deque()  # chunks of replayed calls that were not sent yet
        self.is_exhausted = False  # True once there is nothing more to take
        self.has_ended = False  # True once the call has ended

    def start(self) -> None:
        """Begin the call, nested in the current one.

        Raises: See ``astream``.
        """
        frame: Frame | None = current.get()
        if frame is None:
            raise ContextError(
                f"rt.astream({self._node.name}, ...) needs a session for its call; write "
                f"`async with rt.Session():` around the loop"
            )
        coordinator = frame.coordinator
        check_can_call(self._node, frame)
        coordinator.lifecycle.require(Operation.STREAM, f"rt.astream({self._node.name}, ...)")
        nursery = coordinator.nursery
        if nursery is None:
            raise SessionError(
                f"rt.astream({self._node.name}, ...) needs a session with a nursery; enter it with "
                f"`async with rt.Session():`"
            )
        is_callback = callback_of.get() is coordinator.publisher
        if frame.record is None and (coordinator.lifecycle.has_body_ended or is_callback):
            where = "in a subscriber's callback" if is_callback else "after the session's body had ended"
            raise SessionError(
                f"rt.astream({self._node.name}, ...) was started {where}, where the session does not wait for its "
                f"consumer; stream in a node"
            )
        self.ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self._thread = threading.get_ident()
        # No buffer: each chunk is taken before the next is made.
        self._send, self._receive = anyio.create_memory_object_stream[Chunk](0)
        streams = coordinator.streams = coordinator.streams or OpenStreams()
        cancel = self._scope.cancel
        streams.add(cancel, frame.run, frame.record)
        nursery.spawn(functools.partial(self._run, self._scope), functools.partial(self._end, streams, cancel))

    def _end(self, streams: OpenStreams, cancel: Callable[[], object]) -> None:
        """Note that the task of the call has ended. It may have been cancelled before its first step."""
        self._send.close()
        self._receive.close()  # loses nothing: there is no buffer
        self.has_ended = True
        self.ended.set()
        streams.discard(cancel)

    async def _run(self, scope: anyio.CancelScope) -> None:
        sink.set(self)
        on_replayed.set(self.replay)
        interrupt: BaseException | None = None
        current_task = task_getter()
        task = current_task()
        try:
            with scope:
                result = await call(self._node, *self._args, **self._kwargs)
                await self._send_in_order(Chunk("", self._node.name, response=result, kind="final"))
                self._last_taken = True
        except GeneratorExit as exc:
            if not _is_current(task, current_task):
                raise  # the coroutine is being destroyed, maybe after its event loop was closed
            self._error = exc  # raised by the node
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if is_kind(error, (KeyboardInterrupt, SystemExit)):  # which the session handles
                interrupt = error
            else:
                self._error = error
                if cancellation is not None:
                    await checkpoint_if_cancelled()
                    # This task was not cancelled: the call awaited something of its own that was. If the exception
                    # left this task, it would look as if the whole session were cancelled.
                    self._error = cancellation if error is None else error
        if interrupt is not None:
            raise interrupt

    @property
    def is_on_loop_thread(self) -> bool:
        """See ``Sink``."""
        return self._thread == threading.get_ident()

    def replay(self, session_id: str, records: Sequence[CallRecord]) -> None:
        """Add what the agents of replayed calls wrote; it is sent before the next chunk."""
        if self.is_on_loop_thread:
            self._replayed.extend(replayed_chunks(session_id, records))

    async def send(self, item: Chunk, /) -> None:
        """Send a chunk, and wait until it is taken.

        Does nothing once the call has ended: an agent below may outlive the call that was streamed.
        """
        if not self.has_ended:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the call ended meanwhile
                await self._send_in_order(item)

    async def _send_in_order(self, item: Chunk) -> None:
        while self._replayed:
            await self._send.send(self._replayed.popleft())
        await self._send.send(item)

    async def next(self) -> Chunk:
        """Return the next chunk, or raise the error of the call, once, or StopAsyncIteration."""
        if not self.is_exhausted:
            try:
                return await self._receive.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                await self.ended.wait()
        error, self._error = self._error, None
        is_complete, self.is_exhausted = self.is_exhausted or self._last_taken, True
        if is_kind(error, StopAsyncIteration):  # it would look like the end of the stream
            raise RuntimeError(f"the call of {self._node.name} raised StopAsyncIteration") from error
        if error is not None:
            raise error
        if not is_complete:
            raise SessionEndedError(f"the call of {self._node.name} was cancelled by its session, and its stream ended")
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Cancel the call: no more chunks will be taken."""
        self.is_exhausted = True
        if self._scope is not None:
            self._scope.cancel()


def _is_current(task: object, current_task: Callable[[], object]) -> bool:
    """Return whether ``task`` is running at this moment."""
    try:
        return current_task() is task
    except RuntimeError:  # no event loop is running
        return False
