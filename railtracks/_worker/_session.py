"""The session in a worker: its calls are recorded, logged and announced by the session that has sent the work."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import attrs

from railtracks._options import ExecutorConfig
from railtracks._session._calling import SessionCalls
from railtracks._test_hooks import runtime_hooks
from railtracks._worker._log import WorkerCallLog, WorkerLog
from railtracks._worker._recorder import WorkerRecorder
from railtracks.exceptions import ContextError, SessionError
from railtracks.execution import Coordinator
from railtracks.execution._outbox import Outbox
from railtracks.execution._remote._order import Order
from railtracks.execution._remote._stores import UnreachableStoreError, find_store
from railtracks.executors._pickling import loads
from railtracks.executors._worker import interpreter
from railtracks.state import ExecutionInfo
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import secret_names
from railtracks.state._serialization._redacted_values import logged_text


class WorkerSession(SessionCalls):
    """A session that does one order.

    Args:
        order: What it is to do.
        pack: Makes what can be sent home of a value.
        redactor: The secrets that the session at home knows, if the worker shares its memory.
    """

    __slots__ = ("outbox", "recorder")

    def __init__(self, order: Order, pack: Callable[[Any, str], Any], redactor: Redactor | None) -> None:
        # The session at home is what is observed.
        hooks = attrs.evolve(runtime_hooks.get(), observer=None, wrap_strategy=None)
        if redactor is None:
            redactor = _redactor_of(order)
        config = _config_of(order.config) if isinstance(order.config, bytes) else order.config
        log = WorkerLog(config.logging_setting, order.session_id, hooks.clock, partial(logged_text, redactor=redactor))
        context: Any = Snapshot(order.context, order.not_sent) if order.not_sent else order.context
        coordinator = Coordinator(order.session_id, config, context, hooks, log, redactor)
        if coordinator.limits is not None:
            coordinator.limits.calls, coordinator.limits.depth = order.calls, order.depth
        super().__init__(coordinator, log, hooks, None, None, None)
        self._is_implicit = True
        no_store = ""
        try:
            coordinator.store = find_store(order.store, order.home)
        except UnreachableStoreError as exc:
            no_store = str(exc)
        self.outbox = Outbox(
            coordinator.state, pack, coordinator.now, order.identifiers, order.held_limits, order.home,
            order.home != interpreter(), no_store,
        )  # fmt: skip
        log.outbox = coordinator.outbox = self.outbox
        coordinator.call_log = WorkerCallLog(order.session_id, log, coordinator.publisher, redactor, coordinator.state)
        self.recorder = coordinator.recorder = WorkerRecorder(order, coordinator)

    @property
    def coordinator(self) -> Coordinator:
        """Runs the calls."""
        return self._coordinator

    @property
    def backend(self) -> str:
        """The backend of its event loop."""
        return self._config.backend

    @property
    def info(self) -> ExecutionInfo:
        """Not for sessions of workers: the session at home has it."""
        raise SessionError("the session of a worker has no info; read session.info where the session was opened")

    def _log_summary(self) -> None:
        """Log nothing: the session at home does."""


@lru_cache(maxsize=8)
def _config_of(data: bytes) -> ExecutorConfig:
    config: ExecutorConfig = loads(data)
    return config


def _redactor_of(order: Order) -> Redactor:
    redactor = Redactor()
    for text in order.secrets:
        redactor.add(text)
    if not secret_names.registered.issuperset(order.secret_keys):
        secret_names.registered.update(order.secret_keys)
        secret_names.changed()
    return redactor


class Snapshot(dict[str, Any]):
    """The context in a worker, where some values of it could not be sent.

    Args:
        values: Those that were sent.
        not_sent: By the key of each other: why not.
    """

    def __init__(self, values: Any, not_sent: Any) -> None:
        super().__init__(values)
        self._not_sent = dict(not_sent)
        for key in not_sent:
            super().__setitem__(key, None)  # so that it is among the keys

    def _check(self, key: Any) -> None:
        if key in self._not_sent:
            raise ContextError(
                f"the value of {key!r} in the context is not in this worker: {self._not_sent[key]}; put what can be "
                f"pickled into the context, or run the node with where='thread'"
            )

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a value. Raises ContextError if it could not be sent."""
        self._check(key)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self._check(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._not_sent.pop(key, None)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._not_sent.pop(key, None)
        super().__delitem__(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several values."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value
