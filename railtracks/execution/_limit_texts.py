"""What is said of limits: the errors of calls that exceed one, and the log lines of those that wait."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks._policies import Limit
from railtracks.exceptions import LimitExceededError
from railtracks.execution._shared_limits import shown_limit
from railtracks.state import CallRecord

if TYPE_CHECKING:
    from railtracks.execution._outbox import Outbox  # loaded in workers

MAX_NAMED = 10
"""Nodes that a warning names at most."""


class LoggedSession(Protocol):
    """The coordinator of a session, as far as this module needs it."""

    session_id: str
    log: SessionLog


def exceeded(option: str, value: float, what: str) -> LimitExceededError:
    """Return the error of a call that would exceed an option of its session."""
    from railtracks._config import source_of  # here, as only this error needs it

    return LimitExceededError(
        option,
        f"{what}, which has {option}={value:g} (from {source_of(option, value)}); set {option} to a greater number, or "
        f"leave it out for no limit",
    )


def not_allowed(record: CallRecord, limit: Limit, why: str) -> LimitExceededError:
    """Return the error of a call that may not wait, or not any longer."""
    return LimitExceededError(
        limit.name,
        f"the call of {record.name} would exceed {shown_limit(limit)}, which {why}; make fewer calls at once, raise "
        f"the limit, or write wait=True to have calls wait for their turn",
    )


def would_block(record: CallRecord, label: str, name: str, circle: str) -> LimitExceededError:
    """Return the error of a call that would wait for ever.

    Args:
        record: Its record.
        label: The limit that it would wait for, as it stands on record.
        name: The name of that limit, or of the option.
        circle: Who waits for what.
    """
    return LimitExceededError(
        name,
        f"the call of {record.name} would wait for ever for the {label}: the calls that have it wait for what this "
        f"call, or one above it, has ({circle}); give nodes that call each other both ways one rt.Limit, or have all "
        f"calls come to their limits in the same order",
    )


def warn_of_congestion(
    session: LoggedSession, record: CallRecord, seconds: float, limit: str, running: Sequence[str]
) -> None:
    """Warn that a call has waited very long for a slot.

    Args:
        session: The session.
        record: The record of the call.
        seconds: How long it has waited.
        limit: The limit, as it is written.
        running: The names of the calls that have the slots.
    """
    counts = Counter(running)
    named = [each if count == 1 else f"{each} ({count})" for each, count in counts.most_common(MAX_NAMED)]
    if len(counts) > MAX_NAMED:
        named.append("...")
    log_line(
        session, logging.WARNING, record, "%s has waited %g s for its turn: %s, and what runs is %s",
        record.name, seconds, limit, ", ".join(named),
    )  # fmt: skip


def warn_of_worker(outbox: Outbox, limit: Limit) -> None:
    """Warn, in a worker of another process than its session's, that a limit does not hold for all calls."""
    if outbox.is_apart:
        outbox.add_warning(
            f"limit {limit.name}",
            f"{shown_limit(limit)} counts the calls that are made in a worker for each worker process alone, and "
            f"without those of the session, because {outbox.no_store or 'the store of the session keeps no limits'}; "
            f"use an rt.state.SQLiteStore or an rt.state.PostgresStore, or make these calls where the session is",
        )


def log_line(session: LoggedSession, level: int, record: CallRecord, message: str, *args: object) -> None:
    """Log a line about a call."""
    if session.log.is_enabled_for(level):
        run, node = run_id(session.session_id, record.run), node_id(session.session_id, record.index)
        session.log.log(level, message, *args, run_id=run, node_id=node)
