"""The Coordinator: runs the calls of a session, and cancels them.

Why it is as it is. A nested call is the hot path, and it awaits the node in the caller's own task: no task, no lock, no
scope, no await of its own. So a call can only be cancelled where its task has a scope of ours, and that is where a call
enters a task (see ``_entering.py``). ``timeout`` is the deadline of the scopes below a top-level call; ``end_on_error``
cancels all scopes of the session. Nothing else stops anything.

Here is what a nested call comes through, and the life of the session. How calls end is in ``_call_ends.py``, what
policies do in ``_node_policies.py``, and where nodes run in ``_places.py``; these see the Coordinator as a protocol.

Everything here runs on the session's one event loop, and state is changed only between awaits, so there is nothing
to lock.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import EventLoopToken, checkpoint, current_token

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._headroom import require_headroom
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks._policies import NO_POLICIES, Policies
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import RunSuspended, SessionEndedError, StateError
from railtracks.execution._attempts import Attempts
from railtracks.execution._blocked_loop import WatchedLoop, unwatch_loop, watch_loop
from railtracks.execution._branches import Branches
from railtracks.execution._budget import Budget
from railtracks.execution._call_ends import on_cancelled, on_error, record_end, replay
from railtracks.execution._call_log import CallLog
from railtracks.execution._call_scopes import CallScopes, RootCall
from railtracks.execution._call_secrets import register_call_secrets
from railtracks.execution._lifecycle import Lifecycle, Phase
from railtracks.execution._loop_binding import LoopBinding
from railtracks.execution._node_errors import is_cancellation, not_awaited, reason_of
from railtracks.execution._node_policies import Call, run_with_policies
from railtracks.execution._pump_nursery import TaskSpawner
from railtracks.execution._strategies import ExecutionStrategy, InTaskStrategy, ThreadStrategy
from railtracks.nodes import FunctionNode
from railtracks.pubsub import RTPublisher
from railtracks.state import CallCreated, CallRecord, Reason, Status, Store
from railtracks.state._records import DELETED, is_retried
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._record_text import object_text
from railtracks.state._serialization._secret_search import register_secrets
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # not loaded before they are needed, if ever
    from railtracks._progress._view import SessionView
    from railtracks._resume._history import HistoryNode
    from railtracks.execution._cached_calls import CachedCalls
    from railtracks.execution._limits import SessionLimits
    from railtracks.execution._mailbox import SessionMailbox
    from railtracks.execution._outbox import Outbox
    from railtracks.execution._places import Places
    from railtracks.execution._recording._recorder import Recorder
    from railtracks.execution._resources import Resources
    from railtracks.execution._streams import OpenStreams

YIELD_AFTER = 0.001
"""Seconds of calls that never wait, after which timers and cancellation get their turn."""
YIELD_EVERY = 128
"""Calls after which they get it anyway, whatever the clock says (a clock under test may stand still)."""
_YIELD_LAST = YIELD_EVERY - 1
_IN_TASK = InTaskStrategy()
_NO_TASK = object()
_COMPLETED = Status.COMPLETED


class Frame:
    """The session, the call and the task that the running code is in. Immutable by convention.

    Code that is in a session but in no call has a frame with the coordinator alone.

    Attributes:
        coordinator: Runs the calls of the session.
        record: The record of the current call; None outside calls.
        run: The top-level call that the current call is part of; None outside calls.
        task: The task that the frame was made in. A call from another task enters a scope of its own.
        history_node: The recorded call that the current one corresponds to, in a session that resumes a run.
    """

    __slots__ = ("coordinator", "history_node", "record", "run", "task")

    def __init__(
        self,
        coordinator: Coordinator,
        record: CallRecord | None = None,
        run: RootCall | None = None,
        task: object = _NO_TASK,
        history_node: HistoryNode | None = None,
    ) -> None:
        self.coordinator: Coordinator = coordinator
        self.history_node: HistoryNode | None = history_node
        self.record: CallRecord | None = record
        self.run: RootCall | None = run
        self.task: object = task

    @property
    def run_id(self) -> str | None:
        """The identifier of the top-level call, as events and the document have it; None outside calls."""
        return None if self.record is None else run_id(self.coordinator.session_id, self.record.run)

    @property
    def node_id(self) -> str | None:
        """The identifier of the current call, as events and the document have it; None outside calls."""
        return None if self.record is None else node_id(self.coordinator.session_id, self.record.index)


class Coordinator:
    """Runs the calls of one session.

    Attributes:
        session_id: The identifier of the session.
        config: Its settled options.
        context: The mapping behind ``rt.context``.
        clock: Returns monotonic seconds.
        origin: Seconds to add to the clock to get seconds since the epoch.
        state: The records of its calls.
        publisher: Its subscribers.
        recorder: Writes what happens to a store; None if nothing is kept.
        redactor: The secrets that the session knows.
        loop: The event loop that it runs on.
        scopes: The cancel scopes of the calls that run.
        nursery: The session's nursery; None while it has none.
        branches: The numbers of the tasks that make its calls.
        call_log: Logs and announces its calls.
        resources: What its calls share, such as connections; None if nothing yet.
        streams: Its calls that are consumed while they run; None if there were none yet.
        log: The session's log.
        threads: Runs sync nodes.
        watched_loop: The event loop that is watched for it; None if none is.
        mailbox: The messages for the run; None if its store keeps none, or if it is not stored.
        outer: The coordinator of the session around it, while its nursery is open; None if there is none.
        policies: The policies of nodes that declare none of their own; None if there are none.
        budget: The seconds that all its calls together may take; None if it has no budget.
        outbox: What goes home with the records, in the session of a worker; None elsewhere.
        store: Where the session is stored; None if it is not.
        cached_calls: Its calls whose nodes have ``cache``; None if there were none yet.
        suspends: Whether the run is suspended when it can only go on with an answer or a message.
        limits: What its calls wait for before they run, or fail at; None while no call has a limit.
        lifecycle: How far the session has come, and what it allows.
        view: What is shown of it while it runs; None if nothing is.
        failure_traceback: The traceback that the error which ended the session had then.

    Once the session is over nothing here refers back to it, so that its records are freed with the last reference.
    """

    # Slots, because a dictionary of 30 attributes or more no longer shares its keys with others of its class, and a
    # session took a tenth longer to open.
    __slots__ = (
        "__weakref__", "_in_task", "_in_thread", "_is_on_asyncio", "_must_checkpoint", "_observer",
        "_places", "_wrap", "_yield_at", "branches", "budget", "cached_calls", "call_log", "clock", "config", "context",
        "failure_traceback", "lifecycle", "limits", "log", "loop", "mailbox", "nursery", "origin", "outbox", "outer",
        "policies", "publisher", "recorder", "redactor", "resources", "scopes", "session_id", "state", "store",
        "streams", "suspends", "threads", "view", "watched_loop",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        config: ExecutorConfig,
        context: dict[str, Any],
        hooks: RuntimeHooks,
        log: SessionLog,
        redactor: Redactor,
    ) -> None:
        self.session_id: str = session_id
        self.config: ExecutorConfig = config
        self.context: dict[str, Any] = context
        self.clock: Callable[[], float] = hooks.clock
        self.origin: float = hooks.wall() - hooks.clock()
        self.state: RTState = RTState()
        observer = hooks.observer
        self._observer = observer if observer is not None and observer.observes_calls else None
        self.publisher: RTPublisher = RTPublisher(log, self._observer)
        self.redactor: Redactor = redactor
        self.loop: LoopBinding = LoopBinding()
        self.scopes: CallScopes = CallScopes()
        self.log: SessionLog = log
        self.threads: ThreadStrategy = ThreadStrategy(config.max_threads, abandon_current)
        self._in_task: ExecutionStrategy = _IN_TASK
        self._in_thread: ExecutionStrategy = self.threads
        self._wrap = hooks.wrap_strategy
        if hooks.wrap_strategy is not None:
            self._in_task, self._in_thread = map(hooks.wrap_strategy, (_IN_TASK, self.threads))
        self.call_log: CallLog = CallLog(session_id, log, self.publisher, redactor, self.state)
        self.lifecycle: Lifecycle = Lifecycle()
        self.recorder: Recorder | None
        self.nursery: TaskSpawner | None
        self.resources: Resources | None
        self.streams: OpenStreams | None
        self.failure_traceback: TracebackType | None
        self.mailbox: SessionMailbox | None
        self.outer: Coordinator | None
        self.recorder = self.nursery = self.resources = self.streams = self.failure_traceback = None
        self.view: SessionView | None
        self.outbox: Outbox | None
        self.mailbox = self.outer = self.view = self.outbox = None
        self._places: Places | None = None
        self.store: Store | None
        self.cached_calls: CachedCalls | None
        self.store = self.cached_calls = None
        self.watched_loop: WatchedLoop | None = None
        self.policies: Policies | None = config.policies
        self.budget: Budget | None = None if config.budget is None else Budget(config.budget)
        self.limits: SessionLimits | None = None
        if config.max_concurrency is not None or config.max_calls is not None or config.max_depth is not None:
            self.policies = self.policies or NO_POLICIES
            self.use_limits()
        self.suspends: bool = bool(config.suspend)
        self.branches: Branches = Branches()
        self._must_checkpoint = False  # failed or closed: nested calls look for their cancellation before they start
        self._yield_at = math.inf
        self._is_on_asyncio = False  # bound to an event loop of asyncio

    def use_limits(self) -> SessionLimits:
        """Have calls wait for limits from now on."""
        from railtracks.execution._limits import SessionLimits  # here, as few programs need it

        self.limits = SessionLimits(self)
        return self.limits

    def use_cached_calls(self) -> CachedCalls:
        """Return the cached calls, from the first one on."""
        if self.cached_calls is None:
            from railtracks.execution._cached_calls import CachedCalls  # here, as few programs need it

            self.cached_calls = CachedCalls(self)
        return self.cached_calls

    def new_root(self, timeout: float | None = None) -> RootCall:
        """Return a top-level call that begins now. The first one begins to use up the budget of the session.

        Args:
            timeout: Seconds that it may take; None: as the session says.
        """
        seconds = self.config.timeout if timeout is None else timeout
        root = RootCall(seconds, self.loop.current_time(), self.scopes.failed_batches)
        if self.budget is not None:
            self.budget.limit(root, self.clock())
        return root

    @property
    def failure(self) -> BaseException | None:
        """The error that ended the session: the first one under ``end_on_error``, or the first fatal one."""
        return self.lifecycle.failure

    @property
    def owns_nursery(self) -> bool:
        """Whether the session has opened a task group of its own, and so belongs to one event loop for good."""
        return self.loop.token is not None

    # ---- the hot path

    async def run(
        self,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        caller: Frame,
        run: RootCall,
        task: Any,
        commits: bool = True,
        branch: tuple[int, ...] | None = None,
        pauses: bool = True,
        attempts: Attempts | None = None,
    ) -> Any:
        """Run one call here and now, in the calling task, and record it.

        One function of many lines, because each call of another would cost a twentieth of what a tracked call may.

        Args:
            node: What to run.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            caller: The frame of the code that calls.
            run: The top-level call that this one is part of.
            task: The current task, of asyncio or trio.
            commits: With ``durability="sync"``, wait until the result is on disk; False if the caller will, by
                ``wait_committed``.
            branch: The task of the calling call that makes it; see ``CallRecord.branch``.
            pauses: Whether it may have to wait before it begins; False if the caller has waited, by ``pause``.
            attempts: What counts the attempts of a call that is tried again when it fails; None if it is not, and
                before the first attempt.

        Raises:
            BaseException: whatever the node raises, as the same object.

        Cancellation: recorded, with its reason, and passed on. On asyncio one that came natively, and that code in the
        call around this one has caught, is raised again, and the call does not begin.
        """
        policies = node.policies
        if policies is not None or self.policies is not None:
            policies = policies if self.policies is None else node.policies_over(self.policies)
        state, publisher = self.state, self.publisher
        now = self.clock()
        if pauses and (
            now > self._yield_at
            or len(state.entries) % YIELD_EVERY == _YIELD_LAST
            or self._must_checkpoint
            or publisher.waits_on_calls
        ):  # as `must_pause`
            await self.pause(node.name, caller)
            now = self.clock()
        if self._is_on_asyncio and task.cancelling():
            self.raise_lost_cancellation(node.name, caller, task)
        record = state.created(node.name, node.node_type, args, kwargs, caller.record, now + self.origin)
        if branch is not None:
            record.branch = branch
        if attempts is not None:
            attempts.on_created(record)
        recorder = self.recorder
        try:
            match = history_node = None
            if recorder is None:
                if kwargs or node.secrets or node.secret_positions:
                    register_call_secrets(record, node, self.redactor)
                else:  # as it would, without the cost of another call
                    for value in args:
                        if id(type(value)) not in SCALAR_IDS:
                            register_secrets(value, self.redactor)
            else:
                before = None if attempts is None else attempts.history_node
                match = recorder.on_created(record, node, caller.history_node, before)
                if match is not None:
                    if match.is_replayed:
                        if recorder.must_wait(match):
                            await recorder.wait_for_turn(match, self.context)
                        if recorder.may_replay(record, match, node, self.context):
                            return replay(self, record, match, caller.record, node)
                    elif match.is_given_up:  # the caller cancels it again, so that it does nothing
                        await anyio.sleep(match.patience)
                    history_node = match.node
            current.set(Frame(self, record, run, task, history_node))
            if policies is None or policies.where is None:
                strategy = self._in_task if node.is_async else self._in_thread
            else:
                strategy = self._strategy_of(node, policies.where)
            if publisher.watches_calls or self.call_log.announces_all or caller.record is None:
                self.call_log.created(record, caller.record, node)
            if policies is not None:
                call = Call(node, args, kwargs, record, run)
                result = await run_with_policies(policies, strategy, call, state, self.scopes)
            elif strategy is _IN_TASK:  # as it would, without the cost of another call
                result = await node.body(*args, **kwargs)
            else:
                result = await strategy.execute(node, args, kwargs)
            if type(result) is CoroutineType:
                raise not_awaited(node.name, result)
        except Exception as exc:
            is_first = attempts is None
            if attempts is None and (policies is not None or is_retried(record)):
                attempts = Attempts(self, policies, (node, args, kwargs, caller, run, task), record)
            if attempts is not None and match is not None:
                attempts.history_node = match.node
            if record.exception is exc:  # it is the recorded exception, which had been handled
                if attempts is not None:
                    attempts.on_replayed(record)
            else:
                record.exception = exc  # first: recording it fails where the stack is full; see `end_open_records`
                on_error(self, record, exc, node, attempts)
                if commits:
                    await self.wait_committed()
            if attempts is None or not is_first or not attempts.is_retried:
                raise
            failure = exc
        except BaseException as exc:
            if is_cancellation(exc):
                on_cancelled(self, record, run, exc)
                if is_kind(exc, GeneratorExit):
                    here = current.get()
                    if here is None or here.record is not record:
                        caller = here  # the garbage collector closed the coroutine, in the middle of unrelated code
            elif record.exception is not exc:  # as above
                on_error(self, record, exc, node)
            raise
        else:
            state.succeeded(record, result, self.clock() + self.origin)
            if (
                recorder is not None
                or self.mailbox is not None
                or publisher.watches_calls
                or self.call_log.announces_all
                or record.status is not _COMPLETED
                or state.items is not None
                or id(type(result)) not in SCALAR_IDS
            ):  # or else it would do nothing
                record_end(self, record)
            if commits and recorder is not None and recorder.is_synchronous:
                await recorder.wait_committed()
            return result
        finally:
            current.set(caller)
        return await attempts.try_again(failure, commits, branch)

    def _strategy_of(self, node: FunctionNode[..., Any], where: str) -> ExecutionStrategy:
        """Return what runs a node for which a place is declared. ConfigError if the session has no such place."""
        if self._places is None:
            from railtracks.execution._places import Places  # here, as few programs need it

            self._places = Places(self._in_task, self._in_thread, self._wrap)
        return self._places.strategy_of(node, where, self)

    def now(self) -> float:
        """Return the time in seconds since the epoch, on a clock that is never set back while the session is open."""
        return self.clock() + self.origin

    @property
    def must_pause(self) -> bool:
        """Whether the next call has to wait before it begins."""
        state = self.state
        return (  # as `_must_yield` says while there are no items, without the cost of another call
            self.clock() > self._yield_at
            or len(state.entries) % YIELD_EVERY == _YIELD_LAST
            or self._must_checkpoint
            or self.publisher.waits_on_calls
            if state.items is None
            else self._must_yield or self.publisher.waits_on_calls
        )

    @property
    def must_wait(self) -> bool:
        """Whether that is so although the event loop has just made a turn."""
        return self._must_checkpoint or self.publisher.waits_on_calls

    @property
    def _must_yield(self) -> bool:
        count, items = len(self.state.entries), self.state.items
        is_due = count % YIELD_EVERY == _YIELD_LAST
        if items is not None:  # calls of items are not among the entries
            is_due = (is_due and count != items.yielded_at) or items.since_yield >= YIELD_EVERY
        return is_due or self.clock() > self._yield_at or self._must_checkpoint

    async def pause(self, name: str, caller: Frame) -> None:
        """Wait as long as a call has to wait before it begins.

        Args:
            name: The name of the node that will be called.
            caller: The frame of the code that calls.

        Cancellation: the wait ends, and the call does not begin.
        """
        if self._must_yield:
            await self._checkpoint(name, caller)
        if self.publisher.waits_on_calls:
            await self.publisher.wait_for_room(CallCreated)

    async def _checkpoint(self, name: str, caller: Frame) -> None:
        """Let the event loop run other tasks, and deliver a cancellation."""
        handled = sys.exc_info()[1]
        try:
            await checkpoint()
        except BaseException:
            self._on_refused(name, caller, handled)
            raise
        self._yield_at = self.clock() + YIELD_AFTER
        if self.state.items is not None:
            self.state.items.since_yield, self.state.items.yielded_at = 0, len(self.state.entries)

    def raise_lost_cancellation(self, name: str, caller: Frame, task: object) -> None:
        """Raise the native cancellation of a task that came in a call of the session and was caught there, if any."""
        lost = self.scopes.lost_cancellation(task)
        if lost is not None:
            self._on_refused(name, caller, sys.exc_info()[1])
            raise lost

    def _on_refused(self, name: str, caller: Frame, handled: BaseException | None) -> None:
        """Notify the observer that a call was cancelled before it began."""
        if self._observer is not None and caller.record is not None:
            self._observer.on_call_refused(self.session_id, caller.record, name, handled)

    async def wait_committed(self) -> None:
        """With ``durability="sync"``, wait until all that happened so far is on disk. Cancellation: the wait ends."""
        if self.recorder is not None and self.recorder.is_synchronous:
            await self.recorder.wait_committed()

    # ---- what calls do to their own record

    def record_context_change(self, record: CallRecord | None, key: str, value: Any = DELETED) -> None:
        """Record a context change made by the call of ``record`` (None: outside any call). Thread-safe."""
        register_secrets({key: value}, self.redactor)
        if self.outbox is not None:
            self.outbox.add_change(record, key, value)
        if self._observer is not None:
            self._observer.on_context_change(self.session_id, record, key, value, value is DELETED)
        if self.cached_calls is not None:
            self.cached_calls.on_context_change(key, value)
        if self.recorder is not None and self.lifecycle.is_recorded:
            self.recorder.context.on_change(record, key, value)

    def record_context_read(self, record: CallRecord | None, key: str, value: Any) -> None:
        """Record that the call of ``record`` (None: outside any call) read a key. Thread-safe.

        Args:
            record: The call.
            key: The key.
            value: What it read; ``DELETED`` if there was no such key.
        """
        if self._observer is not None:
            self._observer.on_context_read(self.session_id, record, key, value, value is DELETED)
        if self.cached_calls is not None:
            self.cached_calls.on_context_read(key)
        if record is not None and self.recorder is not None and self.lifecycle.is_recorded:
            self.recorder.context.on_read(record, key, value)

    def set_attributes(self, record: CallRecord, attributes: Mapping[str, Any]) -> None:
        """Record what a running call says about itself, in place of what it said before."""
        record.attributes = object_text(attributes, self.redactor)
        if self.recorder is not None:
            self.recorder.on_attributes(record)

    # ---- failure and the end

    def fail(self, exc: BaseException) -> None:
        """End the session because of ``exc``: cancel all its calls.

        Raises RecursionError where the stack is almost full; the caller of the call fails as well, and comes here.
        """
        require_headroom()
        self.lifecycle.fail(exc)
        self.failure_traceback = exc.__traceback__
        self._must_checkpoint = True
        self.scopes.cancel_all(Reason.END_ON_ERROR)

    def end_early(self, error: SessionEndedError | RunSuspended | StateError, cause: Reason) -> bool:
        """Cancel all calls, because the run is suspended, was cancelled on request, or cannot be recorded.

        Return whether that began now.

        Args:
            error: What top-level calls raise, and those that come later.
            cause: Why the calls are cancelled.
        """
        if self.lifecycle.failure is not None or self.lifecycle.is_closed:
            return False
        self.state.is_suspending = cause is Reason.SUSPENDED
        self.lifecycle.fail(error)
        self._must_checkpoint = True
        self.scopes.cancel_all(cause)
        return True

    async def abandon(self, frame: Frame, executor: str | None = None) -> bool:
        """Note that a call is being cancelled while its worker thread goes on, and cancel what the thread has called.

        ``executor``: the name of the executor in which its work goes on, in place of a thread.

        Such calls run in other tasks, which on trio no scope of the call's own reaches. While the run is suspended, the
        thread waits for a message and is unwound, so it is not left behind.

        Returns:
            Whether to wait for the end of the thread.
        """
        record, exc = frame.record, sys.exc_info()[1]
        assert record is not None
        assert frame.run is not None
        is_suspending = self.state.is_suspending
        if not is_suspending:
            self.state.abandoned(record)
            self.call_log.abandoned(record, executor)
        here = sys._getframe(1)
        cause = Reason.OUTSIDE if exc is None or is_kind(exc, Exception) else reason_of(exc, frame.run, here)
        await self.scopes.cancel_calls_of(lambda caller: caller is record, cause)
        return is_suspending

    def rename(self, session_id: str) -> None:
        """Take another identifier, before the first call."""
        self.session_id = self.call_log.session_id = session_id

    def is_body(self, task: object) -> bool:
        """Return whether the body of the session runs in a task, as far as that is known."""
        return self.nursery is None or self.nursery.task is task

    def earlier_cancellations(self, task: object, is_top: bool) -> int | None:
        """Return how many native cancellations of a task came before what the session knows of it.

        None if that is not known: a top-level call is made in a task that is not the body of the session.
        """
        if not is_top:  # a task that code of users started below a call
            return 0
        return self.nursery.earlier_cancellations if self.nursery is not None and self.nursery.task is task else None

    def bind(self, token: EventLoopToken | None = None) -> None:
        """Belong to the event loop that is running in this thread, unless calls run in another.

        Args:
            token: How other threads reach that loop, if the caller has it.
        """
        if not self.loop.is_bound or not self.scopes:
            self.loop.bind()
            self._yield_at = self.clock() + YIELD_AFTER
            self._is_on_asyncio = running_library() == "asyncio"
            watch_loop(self, current_token() if token is None else token)
            self.threads.unbind()

    def unbind(self) -> None:
        """Run no more calls on the event loop: the session has ended. Idempotent."""
        unwatch_loop(self)

    async def close_resources(self, shield: Shield) -> None:
        """Close what is shared, unless a nursery is left that may use it. ``shield`` keeps what interrupts this."""
        if not self.publisher.has_host and self.resources is not None:
            await shield.attempt(self.resources.close)

    def close(self, cause: Reason = Reason.SESSION_ENDED) -> None:
        """Let no further call begin, and cancel those that run."""
        self.lifecycle.advance(Phase.CLOSING)
        self._must_checkpoint = True
        self.scopes.cancel_all(cause)


async def abandon_current() -> bool:
    """Abandon the worker thread of the current call, which is being cancelled. Return whether to wait for its end."""
    frame: Frame = current.get()
    return await frame.coordinator.abandon(frame)
