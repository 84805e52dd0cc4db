"""What the strategies for workers need of the session at home: the ``Coordinator`` explains these members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks.execution._branches import Branches
from railtracks.execution._call_log import CallLog
from railtracks.execution._call_scopes import RootCall
from railtracks.execution._outbox import Outbox
from railtracks.execution._strategies import ThreadStrategy
from railtracks.pubsub import RTPublisher
from railtracks.state import CallRecord, Store
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # loaded by sessions that record, resume a run, or have limits
    from railtracks._resume._history import HistoryNode
    from railtracks.execution._limits import SessionLimits
    from railtracks.execution._recording._recorder import Recorder


class Home(Protocol):
    """A session, as far as nodes that run in workers concern it."""

    session_id: str
    config: ExecutorConfig
    context: dict[str, Any]
    state: RTState
    publisher: RTPublisher
    recorder: Recorder | None
    redactor: Redactor
    branches: Branches
    call_log: CallLog
    log: SessionLog
    threads: ThreadStrategy
    outbox: Outbox | None
    limits: SessionLimits | None
    store: Store | None

    def now(self) -> float: ...
    def record_context_change(self, record: CallRecord | None, key: str, value: Any = ..., /) -> None: ...
    def set_attributes(self, record: CallRecord, attributes: Mapping[str, Any], /) -> None: ...
    async def abandon(self, frame: Any, executor: str | None = None, /) -> bool: ...


class CallFrame(Protocol):
    """The frame of a call at home. ``Frame`` explains these members."""

    coordinator: Any
    history_node: HistoryNode | None
    record: CallRecord | None
    run: RootCall | None
