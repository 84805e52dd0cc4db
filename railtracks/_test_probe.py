"""What the test harness asks of the runtime beyond its public interface.

``railtracks.testing`` and the pytest plugin use public names, this module, and ``railtracks._test_hooks``, which is the
other direction: what the runtime notifies the harness of. So a change inside the runtime reaches the harness here
or nowhere. ``tests/harness/test_seam.py`` checks it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sized
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import attrs
from anyio import TaskHandle

from railtracks._calls._workers import CallWorkers
from railtracks._concurrency._kinds import leaves_of
from railtracks._concurrency._single_flight import inside
from railtracks._concurrency._suspended import is_user_module, suspended_frames
from railtracks._concurrency._thread_stacks import innermost_frames, nothing_collected, stack_of_thread
from railtracks._concurrency._threads import run_in_loop
from railtracks._config import is_configured, resolve_config
from railtracks._context_variable import current
from railtracks._flow import Flow
from railtracks._identifiers import index_of
from railtracks._options import BACKENDS, SessionOptions
from railtracks._policies import NO_POLICIES, Cache, Limit, Policies, PolicyOptions, Retry
from railtracks._session._session import Session
from railtracks._wording import counted, expected_value
from railtracks.execution import ExecutionStrategy, Frame, abandon_current, running_library
from railtracks.execution._attempts import allowed_attempts
from railtracks.execution._node_errors import is_cancellation, is_fatal
from railtracks.llm._attachments import ATTACHMENT_TYPES
from railtracks.llm._model import attachment_types_of
from railtracks.llm._prices import with_cost
from railtracks.llm._settings import merged_settings, with_settings
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo, Secret
from railtracks.state._records import FIRST_ITEM_INDEX, is_retried, is_reused
from railtracks.state._redaction._redactor import MASK, Redactor
from railtracks.state._redaction._secret_names import is_secret_name

if TYPE_CHECKING:
    from railtracks.state import Store

__all__ = [
    "ATTACHMENT_TYPES",
    "BACKENDS",
    "Cache",
    "ExecutionStrategy",
    "Limit",
    "Policies",
    "PolicyOptions",
    "Retry",
    "RunningCall",
    "SessionProbe",
    "Worker",
    "abandon_current",
    "allowed_attempts",
    "as_node",
    "attachment_types_of",
    "awaited_limit",
    "counted",
    "current_scope",
    "expected_value",
    "flow_session",
    "index_of",
    "innermost_frames",
    "is_cancellation",
    "is_configured",
    "is_fatal",
    "is_item_call",
    "is_replayed",
    "is_retried",
    "is_user_module",
    "leaves_of",
    "merged_settings",
    "new_worker",
    "nothing_collected",
    "policies_of",
    "redact",
    "redact_data",
    "resolve_store",
    "run_in_loop",
    "running_call",
    "running_library",
    "session_arguments",
    "settled_backend",
    "shared_work",
    "stack_of_thread",
    "suspended_frames",
    "with_cost",
    "with_settings",
]


@functools.cache
def session_arguments() -> frozenset[str]:
    """Return the names of the arguments of ``rt.Session``."""
    named = inspect.signature(Session).parameters.values()
    return frozenset(
        {each.name for each in named if each.kind is not each.VAR_KEYWORD} | {*SessionOptions.__annotations__}
    )


class SessionProbe:
    """What the harness asks of one session.

    Args:
        session: The session; it may be open or over.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def store(self) -> Store | None:
        """The store of the session; None before it is entered, and if it neither saves its state nor resumes a run."""
        run = self.session._stored_run
        return None if run is None else run.store

    def redact(self, text: str) -> str:
        """Return ``text`` with the secrets that the session knows by now replaced."""
        return self.session._coordinator.redactor.redact(text)

    def is_replayed(self, index: int) -> bool:
        """Return whether the call with this index was given a recorded result instead of being run."""
        return not is_item_call(index) and is_replayed(self.session._coordinator.state.records[index])


def is_item_call(index: int) -> bool:
    """Return whether this is the index of a call of a batch that keeps few records, which is not on record with it."""
    return index >= FIRST_ITEM_INDEX


def awaited_limit(frames: Iterable[FrameType]) -> str | None:
    """Return the limit that a task waits for, such as "limit api"; None if it waits for none.

    Args:
        frames: The frames that it is suspended in, the outermost first.
    """
    found = None
    for frame in frames:
        place = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place == ("railtracks.execution._limits", "_wait"):
            found = str(frame.f_locals["gate"].label)
    return found


class Worker:
    """A worker of a batch.

    Args:
        handle: What anyio knows of its task, which has not begun.
        workers: All workers of the batch.
    """

    def __init__(self, handle: TaskHandle[int], workers: CallWorkers) -> None:
        self._handle = handle
        self._workers = workers
        self._lengths = _lengths(workers)

    @property
    def batch(self) -> object:
        """The batch: equal for workers of the same."""
        return self._workers

    @property
    def taken(self) -> int:
        """How many calls it has begun."""
        if self._handle.status is TaskHandle.Status.FINISHED:
            return self._handle.return_value
        taken: int = inspect.getcoroutinelocals(cast(Any, self._handle.coro)).get("taken", 0)
        return taken

    def has_ended_well(self) -> bool:
        """Return whether it has ended, and no call of the batch has failed or was cancelled."""
        workers = self._workers
        failed = workers._error is not None or workers._cancellation is not None or workers._failed is not None
        return self._handle.status is TaskHandle.Status.FINISHED and not failed

    def has_done_nothing(self) -> bool:
        """Return whether it has ended, has found no call, and no code of the user has decided that.

        Code of the user has, too, if it has changed a list of arguments since this object was made.
        """
        lengths = self._lengths
        is_same = lengths is not None and all(len(calls) == length for calls, length in lengths)
        return is_same and self.has_ended_well() and not self.taken


_PLAIN = (type(iter(())), type(iter(range(0))), type(iter("")), itertools.repeat)
"""Iterators whose end does not depend on anything else."""


def new_worker(coroutine: Any) -> Worker | None:
    """Return the worker of a batch that the coroutine of a task is to run, if that has not begun; None otherwise."""
    if getattr(coroutine, "cr_frame", None) is None or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
        return None
    handle = inspect.getcoroutinelocals(coroutine).get("self")
    if not isinstance(handle, TaskHandle) or getattr(handle.coro, "cr_code", None) is not CallWorkers._work.__code__:
        return None
    workers = inspect.getcoroutinelocals(handle.coro)["self"]
    return Worker(handle, workers) if type(workers) is CallWorkers and workers._source is None else None


def _lengths(workers: CallWorkers) -> list[tuple[Sized, int]] | None:
    """Return the lists that a batch takes its calls from, with their lengths; None if code of users may run then."""
    calls: Any = workers._calls
    if inspect.isgenerator(calls):
        if calls.gi_frame is None:  # it has ended
            return []
        try:
            sources = calls.gi_frame.f_locals[".0"].__reduce__()[1]  # those of `zip`
        except TypeError:  # a Python that does not give them away
            return None
    else:
        sources = (calls,)
    lists = [each.__reduce__()[1][0] for each in sources if type(each) is type(iter([]))]
    is_plain = workers._keeper is None and all(type(each) in (*_PLAIN, type(iter([]))) for each in sources)
    return [(each, len(each)) for each in lists] if is_plain else None


@attrs.frozen
class RunningCall:
    """The call that the running code is in, as the runtime has it."""

    session_id: str
    """The identifier of its session."""
    index: int
    """Its index in the session."""
    name: str
    """The name of its node."""
    task: object
    """The task that it runs in."""


def running_call() -> RunningCall:
    """Return the call that the running code is in. There must be one."""
    frame: Frame = current.get()
    assert frame.record is not None, "running_call() outside of a call"
    return RunningCall(frame.coordinator.session_id, frame.record.index, frame.record.name, frame.task)


def policies_of(node: FunctionNode[..., Any]) -> Policies:
    """Return the policies of the running call, which is one of ``node``: its own, and the defaults of its session."""
    defaults: Policies | None = current.get().coordinator.policies
    return (node.policies or NO_POLICIES) if defaults is None else node.policies_over(defaults)


def shared_work() -> tuple[Hashable, ...]:
    """Return the work that equal calls wait for, and that the running code is part of; the outermost first."""
    return tuple(flight.work for flight in inside.get())


def current_scope() -> object:
    """Return an object that stands for the session and the call that the running code is in, to be compared by ``is``.

    It is another object after a session or a call was entered, and the same again after it was left.
    """
    return current.get()


def is_replayed(record: CallRecord) -> bool:
    """Return whether the call of ``record`` was given a recorded result instead of being run."""
    return is_reused(record)


def redact(info: ExecutionInfo, text: str) -> str:
    """Return ``text`` with the secrets that the snapshot knows replaced."""
    return info._redactor.redact(text)


def redact_data(value: Any, secrets: Iterable[str]) -> Any:
    """Return plain data with secrets replaced: what they are, what the current session knows, and what names them.

    Args:
        value: Plain data, as JSON has it.
        secrets: Texts that are secrets.
    """
    redactor = Redactor()
    frame: Frame | None = current.get()
    for each in (*secrets, *(() if frame is None else frame.coordinator.redactor.known)):
        redactor.add(each)
    return _redacted(value, redactor)


def _redacted(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, list | tuple):
        return [_redacted(each, redactor) for each in value]
    if isinstance(value, Mapping):
        return {
            redactor.redact(str(name)): MASK
            if isinstance(part, str) and is_secret_name(str(name))
            else _redacted(part, redactor)
            for name, part in value.items()
        }
    return MASK if isinstance(value, Secret) else value


def flow_session(flow: Flow[..., Any], **options: Any) -> Session:
    """Return a new session for a run of ``flow``.

    Args:
        flow: The flow.
        **options: Arguments of ``rt.Session`` that override those of the flow.
    """
    return flow._session(**options)


def settled_backend(target: Any) -> str:
    """Return the backend on which ``flow.invoke`` runs a flow; for anything else, the one that is configured."""
    own = target._options.get("backend") if isinstance(target, Flow) else None
    return resolve_config({"backend": own}).backend


def resolve_store(setting: Store | str | None) -> Store:
    """Return the store that a value of the option ``store`` stands for.

    Raises:
        ConfigError: the value is not allowed.
    """
    from railtracks.state._stores import _settings  # here, as pytest loads this module in each of its runs

    return _settings.resolve_store(setting)
