"""The run that a session resumes, and how much of it is used."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._history import merge_attempts, truncate_at_step
from railtracks._resume._matching import restore_arguments
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._plain_data import cut_text
from railtracks.state._serialization._record_text import (
    dumps,
    ensure_texts,
    form_in,
    inputs_text,
    is_lossy,
    parse_members,
)
from railtracks.state._stores._protocols import Store
from railtracks.state._stores._runs import check_identifier, load_run


class ResumeSource(NamedTuple):
    """The run that a session resumes, and the point up to which it is used."""

    run_identifier: str
    """The identifier of that run."""
    before: Callable[..., Any] | str | int | None
    """Only what had completed before this is used: a node, the name of a node, or a step. None: everything."""

    def load(self, store: Store, log: SessionLog, is_locked_here: bool) -> tuple[ExecutionInfo, list[CallRecord]]:
        """Load the run. Return what is known of it, and the records to resume from. Blocks.

        Args:
            store: The store that has the run.
            log: The log of the session; a damaged journal is reported there.
            is_locked_here: Whether this session holds the lock on that run, so no other session does.

        Raises:
            RunInUseError: Another session has the run open, and all of it is to be resumed.
            StateError: The run is missing or cannot be read, or it has no call of ``before``.
        """
        if self.before is None and not is_locked_here and store.is_locked(self.run_identifier):
            raise RunInUseError(
                f"the run {self.run_identifier!r} is open in another session; resume it when that session has ended"
            )
        known = load_run(self.run_identifier, store)
        if known.damage is not None:
            log.log(logging.WARNING, "The journal of %s: %s", self.run_identifier, known.damage, logger=SESSION)
        merged = merge_attempts(known.earlier, known.records)
        return known, merged if self.before is None else self._before_that(known, merged)

    def _before_that(self, known: ExecutionInfo, merged: list[CallRecord]) -> list[CallRecord]:
        """Return the records as they were at the point ``before``.

        What only an earlier attempt had come to lies behind all that the latest one did.
        """
        if isinstance(self.before, int):
            steps = [step for record in known.records for step in (record.started_step, record.ended_step)]
            is_behind = self.before > max((step for step in steps if step is not None), default=-1)
            return merged if is_behind else truncate_at_step(known.records, self.before)
        name = self.before if isinstance(self.before, str) else as_node(self.before, "before").name
        for records in (known.records, merged):
            found = [record.started_step for record in records if record.name == name]
            if found:
                return truncate_at_step(records, min(found))
        names = ", ".join(sorted({record.name for record in merged})) or "none"
        raise StateError(f"the run {self.run_identifier!r} has no call of {name}; it has calls of {names}")

    def check_arguments(
        self,
        known: ExecutionInfo,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Check that the first top-level call of ``node`` was given these arguments. If they cannot be compared, pass.

        Raises:
            StateError: It was given others.
        """
        record = _first_call(known, node)
        if record is None:  # the process ended before it was on record
            return
        recorded, _ = ensure_texts(record, Redactor())
        given = inputs_text(args, kwargs, Redactor(), node.secret_positions)
        if recorded == given or is_lossy(form_in(recorded)) or is_lossy(form_in(given)):
            return
        raise StateError(
            f"the run {self.run_identifier!r} was started with other arguments of {node.name}: {_shown(recorded)}, and "
            f"not {_shown(given)}; pass those to go on with it, or use another run_identifier for new work"
        )

    def recorded_arguments(
        self, known: ExecutionInfo, node: FunctionNode[..., Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of the first top-level call of ``node`` in ``known``.

        Raises:
            StateError: There is no such call, or its arguments cannot be restored.
        """
        record = _first_call(known, node)
        if record is not None:
            try:
                return restore_arguments(record, node)
            except ValueError as exc:
                raise StateError(
                    f"the call of {node.name} in the run {self.run_identifier!r} {exc}; pass its arguments again: "
                    f"flow.resume({self.run_identifier!r}, ...)"
                ) from exc
        if not known.records and _can_be_called_without_arguments(node):  # killed before the call was on record
            return (), {}
        raise StateError(
            f"the run {self.run_identifier!r} has no top-level call of {node.name}; pass its arguments: "
            f"flow.resume({self.run_identifier!r}, ...)"
        )


def _shown(inputs: str) -> str:
    """Return the arguments in the text of a record, for people."""
    members = parse_members(inputs)
    texts = [dumps(value) for value in members["input_args"]]
    texts += [f"{name}={dumps(value)}" for name, value in members["input_kwargs"].items()]
    return cut_text(f"({', '.join(texts)})", 200)


def _first_call(known: ExecutionInfo, node: FunctionNode[..., Any]) -> CallRecord | None:
    """Return the first top-level call of ``node``."""
    calls = (*known.records, *known.earlier)
    return next((record for record in calls if record.parent is None and record.name == node.name), None)


def _can_be_called_without_arguments(node: FunctionNode[..., Any]) -> bool:
    try:
        inspect.signature(node.target).bind()
    except (TypeError, ValueError):  # it has required parameters, or no signature
        return False
    return True


def parse_resume_arguments(resume: object, before: object, run_identifier: str | None) -> ResumeSource | None:
    """Return the source that these arguments of a session describe, or None if it resumes nothing.

    Raises:
        ConfigError: An argument is not allowed, or they do not fit together.
    """
    if resume is not None:
        check_identifier(resume)
    if before is not None:
        if resume is None:
            raise ConfigError("argument before: it needs resume; use rt.Session(resume='my-run', before=...)")
        if isinstance(before, int):
            is_allowed = before >= 0 and before is not False and before is not True
        else:
            is_allowed = isinstance(before, str) or callable(before)
        if not is_allowed:
            raise ConfigError(
                f"argument before: {before!r} is not allowed; expected a node, the name of a node, "
                f"or a step of at least 0"
            )
        if resume == run_identifier:
            raise ConfigError(
                f"argument before: it leaves the run {resume!r} as it is, so this session must use another "
                f"run_identifier"
            )
    return None if resume is None else ResumeSource(resume, before)  # type: ignore[arg-type]  # checked above
