"""``astream``: a call whose text is consumed while it is made.

The call runs in a task of the session's own, beside its consumer, and hands over each piece when the consumer asks for
it. Leaving the loop drops the stream, and that cancels the call. An async generator could not do so: Python leaves one
suspended when its loop is left, and ends it later, in another task.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import anyio
from anyio.lowlevel import current_token

from railtracks._calls._call import call
from railtracks._concurrency._cancellation import pass_cancellation_on, shielded
from railtracks._concurrency._event_loop import call_soon
from railtracks._context_variable import current, reused
from railtracks.agents._histories import spoken
from railtracks.agents._response import Chunk
from railtracks.agents._sink import sink
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from railtracks.execution import Frame, divide
from railtracks.execution._entering import check_can_call
from railtracks.execution._streams import OpenStreams
from railtracks.nodes import FunctionNode
from railtracks.nodes._function import as_node
from railtracks.pubsub import in_callback
from railtracks.state import CallRecord

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken


def astream(node: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Stream:
    """Call ``node`` as ``rt.call`` does, and get what its agents say while they say it::

        async for chunk in rt.astream(MyAgent, "Tell me a story"):
            print(chunk.text, end="", flush=True)
        response = chunk.response

    Args:
        node: What ``rt.call`` takes: an agent, or a node that calls agents. Agents below it are heard too, but for
            those that a node below it streams itself, or runs on an event loop of its own (a sync node that opens a
            session); ``chunk.agent`` and ``chunk.node_id`` say whose each chunk is.
        *args: For the node.
        **kwargs: The same.

    The call begins with the first chunk that is asked for, and goes on as chunks are taken: an agent waits until its
    chunk is. It is nested in the call that asks, or a top-level one. The time that its consumer takes counts towards
    the session's ``timeout``.

    Leaving the loop drops the stream, and that cancels the call. Where something else refers to the stream, such as a
    variable, write ``async with rt.astream(...) as stream:`` around the loop; that also waits until the call has ended.
    At the latest it is cancelled when the call that opened it is over.

    Raises:
        NodeCreationError: ``node`` is none; at once.
        ContextError: there is no session; when the first chunk is asked for, like all that follows.
        SessionError: the session was entered with a plain ``with`` in async code, and has no nursery; this is not its
            event loop; or nobody would wait for the consumer: in a subscriber's callback, or outside of calls when the
            session's body is over.
        SessionEndedError: the session ended the call.
        Exception: what ``rt.call`` would raise, as the same object, after the chunks that came before.
    Cancellation: of the consumer, ends its loop, and so the call.
    """
    return Stream(as_node(node, "rt.astream"), args, kwargs)


@final
class Stream(AsyncIterator[Chunk]):
    """The chunks of one call; made by ``rt.astream``. To be consumed by one task."""

    def __init__(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._producer = _Producer(node, args, kwargs)
        self._token: EventLoopToken | None = None  # of the event loop, once it runs

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Chunk:
        if self._token is None and not self._producer.is_done:
            self._producer.start()
            self._token = current_token()
        return await self._producer.next()

    async def aclose(self) -> None:
        """Cancel the call, if it runs, and wait until it has ended. Cancellation: passed on after that."""
        self._producer.cancel()
        if self._token is not None:
            await shielded(self._producer.over.wait)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Where Python collects garbage, that may be any thread, at any time.
        if self._token is not None and not self._producer.is_over:
            with contextlib.suppress(RuntimeError):  # the event loop has gone, and the call with it
                call_soon(self._token, self._producer.cancel)


class _Producer:
    """The call. It knows nothing of the ``Stream``, which can so be dropped while it runs."""

    def __init__(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._node, self._args, self._kwargs = node, args, kwargs
        self._scope: anyio.CancelScope | None = None  # once it has begun
        self._error: BaseException | None = None  # to be raised when the chunks before it were taken
        self._complete = False  # the last chunk was taken
        self._repeated: deque[Chunk] = deque()  # said in calls that were reused, not handed over yet
        self.is_done = False  # there is nothing more to give
        self.is_over = False  # the call has ended

    def start(self) -> None:
        """Begin, as a call of whoever runs now."""
        frame: Frame | None = current.get()
        if frame is None:
            raise ContextError(
                f"rt.astream({self._node.name}, ...) needs a session that its call can run in; write "
                f"`async with rt.Session():` around the loop"
            )
        coordinator = frame.coordinator
        check_can_call(self._node, frame)
        nursery = coordinator.nursery
        if nursery is None:
            raise SessionError(
                f"rt.astream({self._node.name}, ...) needs a session with a nursery; enter it with "
                f"`async with rt.Session():`"
            )
        if frame.record is None and (nursery.body_finished or in_callback.get()):
            where = "in a subscriber's callback" if in_callback.get() else "after the session's body had ended"
            raise SessionError(
                f"rt.astream({self._node.name}, ...) came {where}: nobody waits for its reader there; stream in a node"
            )
        self.over = anyio.Event()
        self._scope = anyio.CancelScope()
        self._thread = threading.get_ident()
        self._send, self._receive = anyio.create_memory_object_stream[Chunk](0)  # each is taken before the next is made
        streams = coordinator.streams = coordinator.streams or OpenStreams()
        nursery.spawn(functools.partial(self._run, streams, self._scope))
        streams.add(self._scope.cancel, frame.run, frame.record)

    async def _run(self, streams: OpenStreams, scope: anyio.CancelScope) -> None:
        sink.set(self)
        reused.set(self.repeat)
        try:
            with scope:
                result = await call(self._node, *self._args, **self._kwargs)
                await self._hand_over(Chunk("", self._node.name, response=result))
                self._complete = True
        except GeneratorExit:  # the coroutine is thrown away; no event loop need be running
            raise
        except BaseException as exc:
            cancellation, error = divide(exc)
            if error is not None and not isinstance(error, Exception):  # Ctrl-C, which is the session's
                raise error from None
            self._error = error
            if cancellation is not None:
                await pass_cancellation_on()
                # Nobody cancelled this: the call awaited something of its own that was cancelled. Let out of this task
                # it would look like a cancellation of the whole session.
                self._error = error or cancellation
        finally:
            self._send.close()
            self._receive.close()  # nothing is in it: there is no buffer
            self.is_over = True
            self.over.set()
            streams.discard(scope.cancel)

    @property
    def is_here(self) -> bool:
        return self._thread == threading.get_ident()

    def repeat(self, session_id: str, records: Sequence[CallRecord]) -> None:
        """Calls need not run, as they are on record: hand over what their agents said, before anything else."""
        if self.is_here:
            self._repeated.extend(spoken(session_id, records))

    async def send(self, item: Chunk, /) -> None:
        """Hand a piece over. Does nothing when the stream is over: an agent may outlive the one that it began in."""
        if not self.is_over:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # it ended meanwhile
                await self._hand_over(item)

    async def _hand_over(self, item: Chunk) -> None:
        while self._repeated:
            await self._send.send(self._repeated.popleft())
        await self._send.send(item)

    async def next(self) -> Chunk:
        """The next chunk; or what the call raised, once; or else the end."""
        if not self.is_done:
            try:
                return await self._receive.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                await self.over.wait()
        error, self._error = self._error, None
        ended, self.is_done = self.is_done or self._complete, True
        if error is not None:
            raise error
        if not ended:
            raise SessionEndedError(f"the call of {self._node.name} was cancelled by its session, and its stream ended")
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Nobody takes any more."""
        self.is_done = True
        if self._scope is not None:
            self._scope.cancel()
