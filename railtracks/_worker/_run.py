"""Doing an order: one call, in a session of the worker, and a report of what has become of it."""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import anyio

from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._test_hooks import runtime_hooks
from railtracks._worker._session import WorkerSession
from railtracks.exceptions import GlobalTimeOutError
from railtracks.execution import Frame
from railtracks.execution._call_scopes import RootCall
from railtracks.execution._entering import enter
from railtracks.execution._from_thread import run_in_session
from railtracks.execution._node_errors import is_cancellation
from railtracks.execution._recording._recorder import UNWRITTEN
from railtracks.execution._remote._order import Order, Report
from railtracks.execution._remote._rows import rows_of
from railtracks.execution._work_thread import WorkThread
from railtracks.executors._outcome import pack_exception, pack_result
from railtracks.executors._pickling import dumps
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import is_awaited
from railtracks.nodes._resolve import invoke_if_node
from railtracks.state import Reason
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._record_text import NO_OUTPUT

Cancel = Callable[[Reason], None]
"""Cancels the call that a worker runs. Thread-safe."""


def run(order: Order, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Report:
    """Do an order in a worker that shares no memory with the session. It raises nothing that the node raises."""
    _mark_log_records()
    job = _Job(order, _without_policies(node), args, kwargs, lambda: WorkerSession(order, dumps, None))
    ended: Mapping[str, Any]
    try:
        result = job.run()
        is_plain = id(type(result)) in SCALAR_IDS
        ended = {"value": result} if is_plain else pack_result(result, node.name)
    except BaseException as exc:  # it is raised at home
        ended = pack_exception(exc, node.name)
        return job.report(ended, exc)
    return job.report(ended, None)


def run_here(
    order: Order,
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    redactor: Redactor,
    on_begun: Callable[[Cancel], object],
) -> Report:
    """Do an order in a thread of the process of the session: what it returns or raises is not copied.

    Args:
        order: The order.
        node: The node, which is async.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        redactor: The secrets that the session knows.
        on_begun: Called once with what cancels the call, in this thread.
    """
    make = functools.partial(WorkerSession, order, _unchanged, redactor)
    job = _Job(order, _without_policies(node), args, kwargs, make, on_begun)
    try:
        ended: dict[str, Any] = {"value": job.run()}
    except BaseException as exc:  # it is raised at home
        ended = {"error": exc}
    return job.report(ended, ended.get("error"))


def _unchanged(value: Any, _: str) -> Any:
    return value


def _without_policies(node: FunctionNode[..., Any]) -> FunctionNode[..., Any]:
    """Return a node without policies: at home they apply to the call as a whole."""
    plain: FunctionNode[..., Any] = object.__new__(type(node))
    plain.__dict__.update(node.__dict__)
    plain.policies, plain._policies_over = OWN_POLICIES, None
    return plain


class _Job:
    """One call in a worker.

    Args:
        order: The order.
        node: The node.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        make_session: Makes the session here.
        on_begun: Called with what cancels the call, if the node is async.
    """

    def __init__(
        self,
        order: Order,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        make_session: Callable[[], WorkerSession],
        on_begun: Callable[[Cancel], object] = bool,
    ) -> None:
        self._order = order
        self._node = node
        self._args = args
        self._kwargs = kwargs
        self._make_session = make_session
        self._on_begun = on_begun
        self._session: WorkerSession | None = None  # once it is needed
        self._opening = threading.Lock()
        self._thread: WorkThread | None = None  # that of a sync node
        self._hooks = runtime_hooks.get()
        self._started = self._hooks.wall()

    def run(self) -> Any:
        """Run the node, and return what it returns or raise what it raises."""
        if self._node.is_async:
            self._session = self._make_session()
            run = self._hooks.run_loop or anyio.run
            return run(self._run_async, self._session, backend=self._session.backend)
        return self._run_sync()

    async def _run_async(self, session: WorkerSession) -> Any:
        async with session:
            coordinator = session.coordinator
            token = coordinator.loop.token
            assert token is not None
            self._on_begun(lambda cause: call_soon(token, lambda: coordinator.scopes.cancel_all(cause)))
            root = RootCall(self._order.seconds, anyio.current_time())
            return await enter(self._node, self._args, self._kwargs, Frame(coordinator), root=root)

    # ---- sync nodes: most need nothing of a session, so it is opened when something asks for it

    def _run_sync(self) -> Any:
        """Run a sync node in this thread. An event loop runs beside it only once the node needs one."""
        frame, self._thread = _LateFrame(self._open), WorkThread()
        if self._order.history is not None:
            self._open(frame)
        around = current.set(frame)
        try:
            try:
                result = invoke_if_node(self._node.body(*self._args, **self._kwargs))
                if is_awaited(result):
                    result = _await(result, frame, self._node.name)
            finally:
                current.reset(around)
        except BaseException as exc:
            if self._session is not None:
                self._record_failure(self._session, exc)
                self._session.__exit__(type(exc), exc, exc.__traceback__)
            raise
        if self._session is not None:
            coordinator = self._session.coordinator
            root = coordinator.state.entries[0]
            assert root is not None
            coordinator.state.succeeded(root, None, coordinator.now())
            self._session.__exit__(None, None, None)
        return result

    def _open(self, frame: _LateFrame) -> None:
        """Open the session, and fill in the frame of the call. Thread-safe."""
        with self._opening:
            if self._session is not None:
                return
            before = current.get()
            current.set(None)  # it is a session of its own
            session = self._make_session()
            session.__enter__()
            current.set(before)
            coordinator, node = session.coordinator, self._node
            record = coordinator.state.created(
                node.name, node.node_type, self._args, self._kwargs, None, coordinator.now()
            )
            record.started = self._started
            match = session.recorder.on_created(record, node, None)
            frame.coordinator, frame.record, frame.run = coordinator, record, _Root(self._order.seconds, self._started)
            frame.task, frame.history_node = self._thread, None if match is None else match.node
            self._session = session

    @staticmethod
    def _record_failure(session: WorkerSession, exc: BaseException) -> None:
        coordinator = session.coordinator
        record = coordinator.state.entries[0]
        assert record is not None
        if not is_kind(exc, Exception) and is_cancellation(exc):
            coordinator.state.cancelled(record, Reason.OUTSIDE, coordinator.now())
            return
        coordinator.state.failed(record, exc, coordinator.now())
        session.recorder.on_ended(record)

    # ---- the end

    def report(self, ended: Mapping[str, Any], error: BaseException | None) -> Report:
        """Return what has become of the call.

        Args:
            ended: Its result or its exception, as a report has it.
            error: The exception.
        """
        session = self._session
        if session is None:
            return Report(ended=ended, started=self._started, ended_at=self._hooks.wall())
        coordinator = session.coordinator
        records = coordinator.state.records
        root = records[0] if records else None
        if root is not None:
            root.raised_by, root.result, root.exception = session.recorder.root_raised_by, None, None
            root.inputs, root.output = UNWRITTEN, NO_OUTPUT
        known = set(self._order.secrets)
        return Report(
            ended=ended,
            started=self._started,
            ended_at=coordinator.now(),
            rows=rows_of(records, coordinator.redactor),
            items=session.outbox.items,
            secrets=[text for text in coordinator.redactor.known if text not in known],
            calls=0 if coordinator.limits is None else coordinator.limits.calls - self._order.calls,
            timed_out=is_kind(error, GlobalTimeOutError),
        )


class _LateFrame(Frame):
    """The frame of a sync node, which is filled in when something asks for it.

    Args:
        fill: Sets all its members.
    """

    __slots__ = ("_fill",)

    def __init__(self, fill: Callable[[_LateFrame], None]) -> None:
        self._fill = fill

    @property
    def is_filled(self) -> bool:
        """Whether something has asked for it."""
        try:
            Frame.__dict__["record"].__get__(self)
        except AttributeError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        """Fill the frame in. Python calls this only for members that are not set."""
        if name not in Frame.__slots__:
            raise AttributeError(name)
        self._fill(self)
        return getattr(self, name)


def _await(awaitable: Any, frame: Frame, name: str) -> Any:
    async def wait() -> Any:
        return await awaitable

    return run_in_session(frame, wait, name)


class _Root(RootCall):
    """The call of a sync node. Its deadline is on the clock of the event loop, which may not run yet.

    Args:
        timeout: Seconds that are left.
        started: When they began to count, in seconds since the epoch.
    """

    __slots__ = ("_clock", "_end")

    def __init__(self, timeout: float, started: float) -> None:
        self.timeout = timeout
        self.scopes = {}
        self.finished = False
        self.index = 0
        self.waiting = self.budget = None
        self.node_deadlines = {}
        hooks = runtime_hooks.get()
        self._clock = hooks.clock
        self._end = hooks.clock() + timeout - (hooks.wall() - started)

    @property
    def deadline(self) -> float:  # type: ignore[override]
        """The deadline, on ``anyio.current_time()``."""
        return math.inf if self.timeout == math.inf else anyio.current_time() + self._end - self._clock()


def _mark_log_records() -> None:
    """Have log records that are made in a call name it, so that they can be logged for it at home. Idempotent."""
    make = logging.getLogRecordFactory()
    if getattr(make, "marks_calls", False):
        return

    def make_marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        frame = current.get()
        is_opened = frame is not None and (type(frame) is not _LateFrame or frame.is_filled)
        if is_opened and frame.record is not None and frame.coordinator.outbox is not None:
            record.railtracks_call = frame.record.index
        return record

    make_marked.marks_calls = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_marked)
