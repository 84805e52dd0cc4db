"""Where a call ran, and what it printed there: on its record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from railtracks._identifiers import node_id, run_id
from railtracks.execution._home import CallFrame
from railtracks.execution._remote._arrival import Arrival
from railtracks.executors._outcome import Outcome
from railtracks.state._records import PolicyFacts
from railtracks.state._serialization._record_text import dumps, loads
from railtracks.state._views._place import PLACE

IN_PROCESS = "thread"
"""The place that is in the process of the session."""
MAX_OUTPUT = 10_000
"""Characters of each of standard output and standard error that are on record: the last ones."""
MAX_LINES = 100
"""Lines of output that are logged."""
_LOGGER = logging.getLogger("RT.Worker")


def note_place(frame: CallFrame, members: Mapping[str, Any], own: str | None = None) -> None:
    """Record where the call at a frame runs.

    Args:
        frame: The frame.
        members: What is known.
        own: What the call has said of itself, as the text of a JSON object.
    """
    record, coordinator = frame.record, frame.coordinator
    assert record is not None
    if members["place"] != IN_PROCESS:
        record.policy = (record.policy or PolicyFacts())._replace(place=members["place"])
    if own is not None or "stdout" in members or "stderr" in members:
        before = loads(own) if own is not None else {}
        coordinator.set_attributes(record, {**before, PLACE: dict(members)})
        return
    record.attributes = _text_of(tuple(members.items()))
    if coordinator.recorder is not None:
        coordinator.recorder.on_attributes(record)


@lru_cache(maxsize=256)
def _text_of(members: tuple[tuple[str, Any], ...]) -> str:
    """Return the attributes of a call of which only the place is known, as the text of a JSON object."""
    return dumps({PLACE: dict(members)})


def output_members(output: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return what was printed, by the name of the stream, as far as it is recorded."""
    found: dict[str, str] = {}
    for name in ("stdout", "stderr"):
        text = "".join(part for stream, part in output if stream == name)
        if text:
            cut = f"[{len(text) - MAX_OUTPUT} characters before] " if len(text) > MAX_OUTPUT else ""
            found[name] = cut + text[-MAX_OUTPUT:]
    return found


def log_output(frame: CallFrame, outcome: Outcome) -> None:
    """Log what a call has printed in a worker, line by line, for that call."""
    record, coordinator = frame.record, frame.coordinator
    assert record is not None
    if not outcome.output or not coordinator.log.is_enabled_for(logging.INFO):
        return
    session = coordinator.session_id
    lines = [line for _, part in outcome.output for line in part.splitlines()]
    left = len(lines) - MAX_LINES
    shown = [*lines[:MAX_LINES], f"... and {left} more lines"] if left > 0 else lines
    for line in shown:
        coordinator.log.log(
            logging.INFO, "%s printed: %s", record.name, line, logger=_LOGGER,
            run_id=run_id(session, record.run), node_id=node_id(session, record.index),
        )  # fmt: skip


def log_foreign_records(frame: CallFrame, outcome: Outcome, arrival: Arrival) -> None:
    """Pass on the log records that code of users has made in a worker, to the loggers of the same names here."""
    coordinator = frame.coordinator
    session = coordinator.session_id
    for attributes in outcome.logs:
        members = dict(attributes)
        record = arrival.call_of(members.pop("railtracks_call", None))
        made = logging.makeLogRecord(members)
        made.session_id, made.run_id = session, run_id(session, record.run)
        made.node_id = node_id(session, record.index)
        logger = logging.getLogger(made.name)
        if logger.isEnabledFor(made.levelno):
            logger.handle(made)
    if outcome.logs_dropped:
        coordinator.log.log(
            logging.WARNING, "%s made %d more log records in its worker, which are not shown", arrival.call_of(0).name,
            outcome.logs_dropped, logger=_LOGGER,
        )  # fmt: skip
