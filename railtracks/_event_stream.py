"""``EventStream``: a run of a flow whose events are consumed while it runs.

In a session, the run is a task of that session, which ends it with the call that has started it. Elsewhere it has a
task of its own, which nothing waits for but the stream.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, final

import anyio

from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._free_tasks import start_free_task
from railtracks._concurrency._handoff import Handoff
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._task_stream import TaskStream
from railtracks._context_variable import current, on_replayed
from railtracks._session._session import Session
from railtracks.agents import Chunk  # the package first: see `_lazy.py`
from railtracks.agents._histories import replayed_chunks
from railtracks.agents._sink import sink
from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.execution import Frame, split_cancellation
from railtracks.execution._streams import OpenStreams
from railtracks.pubsub import Subscription
from railtracks.state import AgentText, CallRecord, Event, ExecutionInfo

T = TypeVar("T")
_CAPACITY = 16
"""How many events may wait for the consumer before new calls and broadcasts wait for it."""


@final
class EventStream(TaskStream[Event], Generic[T]):
    """The events of one run of a flow, for one task to consume; made by ``flow.astream_events``."""

    _producer: _Run[T]

    def __init__(self, session: Session, run: Callable[[], Awaitable[T]]) -> None:
        super().__init__(_Run(session, run))

    @property
    def result(self) -> T:
        """What the flow has returned. Raises SessionError unless it has returned, and all events were consumed."""
        if not self._producer.is_complete or not self._producer.is_exhausted:
            raise SessionError("the stream has no result: it has not ended, or its flow has not returned")
        return self._producer.result

    async def aclose(self) -> None:
        """Cancel the run if it is not over, and wait until its session has ended.

        Raises:
            SessionError: it was called in the run itself, which cannot wait for its own end.

        Cancellation: takes effect after that.
        """
        frame: Frame | None = current.get()
        if frame is not None and frame.coordinator is self._producer.session._coordinator:
            raise SessionError("a run cannot close the stream of its own events; close it where they are consumed")
        await super().aclose()

    @property
    def info(self) -> ExecutionInfo:
        """A snapshot of the session of the run."""
        return self._producer.session.info


class _Run(Generic[T]):
    """The run. It does not refer to the ``EventStream``, so that dropping that while the run goes on cancels it."""

    result: T

    def __init__(self, session: Session, run: Callable[[], Awaitable[T]]) -> None:
        self.session = session
        self._run_flow = run
        self._scope: anyio.CancelScope | None = None  # set once the run has begun
        self._error: BaseException | None = None  # raised once the events before it were consumed
        self.is_complete = False  # the flow has returned
        self.is_exhausted = False  # all events were consumed, or no more are wanted
        self.has_ended = False

    def start(self) -> None:
        """Begin the run."""
        self.ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self._channel: Handoff[Event] = Handoff()  # each event is consumed before the next is delivered
        self._subscription = Subscription(
            self._deliver, name="astream_events", kinds=(Event,), capacity=_CAPACITY, policy="wait",
            on_error="remove", log=self.session._log, is_patient=True,
        )  # fmt: skip
        self.session._coordinator.publisher.add(self._subscription)
        frame: Frame | None = current.get()
        coordinator = None if frame is None else frame.coordinator
        if frame is None or coordinator is None or coordinator.nursery is None or not coordinator.loop.is_current:
            start_free_task(self._run, self._end)
            return
        streams = coordinator.streams = coordinator.streams or OpenStreams()
        streams.add(self.cancel, frame.run, frame.record)
        coordinator.nursery.spawn(self._run, functools.partial(self._end, streams))

    async def _run(self) -> None:
        assert self._scope is not None
        sink.set(self)
        on_replayed.set(self._replay)
        try:
            with self._scope:
                self.result = await self._run_flow()
                self.is_complete = True
        except BaseException as exc:
            cancellation, self._error = split_cancellation(exc)
            if cancellation is not None and not is_stray_cancellation(cancellation):
                raise cancellation from None
            self._error = self._error or cancellation

    def _end(self, streams: OpenStreams | None = None) -> None:
        """Note that the task has ended. It may have been cancelled before its first step."""
        self.has_ended = True
        self._channel.close()  # loses nothing: there is no buffer
        self.ended.set()
        if streams is not None:
            streams.discard(self.cancel)

    async def _deliver(self, event: Event) -> None:
        try:
            await self._channel.send(event)
        except anyio.BrokenResourceError:  # the consumer has left
            self._subscription.close()

    # ---- what agents write: see ``Sink``

    @property
    def is_on_loop_thread(self) -> bool:
        """Whether the current thread runs the event loop of the session."""
        return self.session._coordinator.loop.is_current

    async def send(self, item: Chunk, /) -> None:
        """Publish a piece of text, after what happened before it, and wait until there is room for it."""
        await self.session._coordinator.publisher.wait_for_room(AgentText)
        self._publish(item)

    def _replay(self, session_id: str, records: Sequence[CallRecord]) -> None:
        """Publish what the agents of replayed calls had written."""
        if self.is_on_loop_thread:
            for chunk in replayed_chunks(session_id, records):
                self._publish(chunk)

    def _publish(self, chunk: Chunk) -> None:
        if chunk.kind != "text":  # the calls of tools have events of their own
            return
        coordinator = self.session._coordinator
        event = AgentText(
            session_id=coordinator.session_id, time=coordinator.now(), agent=chunk.agent, node_id=chunk.node_id,
            text=chunk.text,
        )  # fmt: skip
        coordinator.publisher.publish(event)

    # ---- the consumer

    async def next(self) -> Event:
        """Return the next event, or raise the error of the run, once, or StopAsyncIteration."""
        if self.is_exhausted:
            raise StopAsyncIteration
        try:
            return await self._channel.receive()
        except anyio.EndOfStream:
            await self.ended.wait()
        was_left, self.is_exhausted = self.is_exhausted, True
        error, self._error = self._error, None
        if is_kind(error, StopAsyncIteration):  # it would look like the end of the stream
            raise RuntimeError("the flow raised StopAsyncIteration") from error
        if error is not None:
            raise error
        if not self.is_complete and not was_left:
            raise SessionEndedError("the run was cancelled from outside, and its stream of events ended")
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Cancel the run: no more events will be consumed."""
        if self.has_ended:
            return
        self.is_exhausted = True
        if self._scope is not None:
            self._channel.close()  # what waits to be delivered is dropped
            self._scope.cancel()
