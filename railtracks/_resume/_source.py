"""The run that a session resumes, and how much of it is used."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._differences import differing_part, shown_arguments
from railtracks._resume._matching import MissingArgumentsError, restore_arguments
from railtracks._resume._merging import merge_attempts, truncate_at_step
from railtracks._resume._recorded_main import settle_main
from railtracks._resume._recorded_values import RecordedValues
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.nodes import FunctionNode
from railtracks.nodes._identity import GIVEN_KEY
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._added_fields import classes_in
from railtracks.state._serialization._building import LackingFieldsError
from railtracks.state._serialization._compact_text import compact_inputs
from railtracks.state._serialization._large_values import discard
from railtracks.state._serialization._record_text import (
    ensure_texts,
    form_in,
    inputs_text,
    is_lossy,
)
from railtracks.state._serialization._renaming import split_key
from railtracks.state._stores._protocols import Store
from railtracks.state._stores._runs import read_run
from railtracks.state._stores._settings import check_identifier


class ResumeSource(NamedTuple):
    """The run that a session resumes, and the point up to which it is used."""

    run_identifier: str
    """The identifier of that run."""
    before: Callable[..., Any] | str | int | None
    """Only what had completed before this is used: a node, the name of a node, or a step. None: everything."""
    check: Callable[[Store, ExecutionInfo], object] | None = None
    """Called with the store and with what is known of the run. What it raises keeps the run from being resumed."""

    def load(self, store: Store, log: SessionLog, is_locked_here: bool) -> tuple[ExecutionInfo, list[CallRecord]]:
        """Load the run. Return what is known of it, and the records to resume from. Blocks.

        Args:
            store: The store that has the run.
            log: The log of the session; damage to the record of the run is reported there.
            is_locked_here: Whether this session holds the lock on that run, so no other session does.

        Raises:
            RunInUseError: Another session has the run open, and all of it is to be resumed.
            StateError: The run is missing or cannot be read, or it has no call of ``before``.
        """
        if self.before is None and not is_locked_here and store.is_locked(self.run_identifier):
            raise RunInUseError(
                f"the run {self.run_identifier!r} is open in another session; resume it when that session has ended"
            )
        known = read_run(self.run_identifier, store, is_locked_here)
        if self.check is not None:
            self.check(store, known)
        if known.damage is not None:
            text = f"{known.damage}; calls whose end is not on record run again"
            log.log(logging.WARNING, "The record of %s: %s", self.run_identifier, text, logger=SESSION)
            if not log.is_enabled_for(logging.WARNING):  # calls will run again, which nothing else would say
                warnings.warn(f"the record of {self.run_identifier}: {text}", RuntimeWarning, stacklevel=2)
        settle_main(known.earlier, known.records)
        merged = merge_attempts(known.earlier, known.records)
        values = RecordedValues(known._find_value, merged)
        values.warn(self.run_identifier, log)
        known = attrs.evolve(known, find_value=values)
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
        recorded = compact_inputs(ensure_texts(record, Redactor())[0])
        if node.ignore:
            args, kwargs = node.without_ignored(args, kwargs)
        given = inputs_text(args, kwargs, Redactor(), node.secret_positions, keep=discard)
        if recorded == given or is_lossy(form_in(recorded)) or is_lossy(form_in(given)):
            return
        forms = CanonicalForms(node.target)
        if (form := forms.of(given)) is not None and form == forms.of(recorded):
            return
        if forms.is_same_without_fields(recorded, given, classes_in(args, kwargs)):
            return
        part = differing_part(recorded, given, node.target)
        raise StateError(
            f"the run {self.run_identifier!r} was started with other arguments of {node.name}: "
            f"{shown_arguments(recorded)}, and not {shown_arguments(given)}{part}; pass those to go on with it, or "
            f"use another run_identifier for new work"
        )

    def recorded_arguments(
        self, known: ExecutionInfo, node: FunctionNode[..., Any], given: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of the first top-level call of ``node`` in ``known``.

        Args:
            known: What is known of the run.
            node: The node.
            given: Arguments that are not on record, as the node ignores them.

        Raises:
            StateError: There is no such call, or its arguments cannot be restored.
        """
        record = _first_call(known, node)
        if record is not None:
            try:
                return restore_arguments(record, node, known._find_value, given)
            except MissingArgumentsError as exc:
                passed = ", ".join(f"{name}=..." for name in exc.names)
                raise StateError(
                    f"the call of {node.name} in the run {self.run_identifier!r} {exc}; it cannot be resumed, or "
                    f"recovered by rt.recover, without: use flow.resume({self.run_identifier!r}, {passed}), which "
                    f"takes the other arguments from the record"
                ) from exc
            except ValueError as exc:
                # With a field that has no default, arguments that are passed would be others than those on record.
                advice = "" if _lacks_fields(exc) else f"; pass its arguments again: {self._resume_again}"
                raise StateError(f"the call of {node.name} in the run {self.run_identifier!r} {exc}{advice}") from exc
        if not known.records and _can_be_called_with(node, given or {}):  # killed before the call was on record
            return (), given or {}
        raise StateError(
            f"the run {self.run_identifier!r} has no top-level call of {node.name}{_other_calls(known, node)} pass its "
            f"arguments: {self._resume_again}"
        )

    @property
    def _resume_again(self) -> str:
        return f"flow.resume({self.run_identifier!r}, ...)"


def _lacks_fields(exc: BaseException | None) -> bool:
    """Return whether a value could not be brought back because its class has got fields without defaults."""
    return exc is not None and (isinstance(exc, LackingFieldsError) or _lacks_fields(exc.__cause__))


def _other_calls(known: ExecutionInfo, node: FunctionNode[..., Any]) -> str:
    """Return which top-level calls are on record, and how to have the first one found."""
    calls = [record for record in (*known.records, *known.earlier) if record.parent is None]
    names = list(dict.fromkeys(record.name for record in calls))
    if not names:
        return ";"
    path = "" if calls[0].node is None else split_key(calls[0].node)[0]
    key = path.removeprefix(GIVEN_KEY)
    write = f"@rt.function_node(key={key!r})" if key != path else f"the name {names[0]} again"
    renamed = f"if {node.name} is what {names[0]} was, give it {write}, or"
    return f", only of {', '.join(names)}; {renamed}"


def _first_call(known: ExecutionInfo, node: FunctionNode[..., Any]) -> CallRecord | None:
    """Return the first top-level call of ``node``: of its key or, if there is none, of its name."""
    calls = [record for record in (*known.records, *known.earlier) if record.parent is None]
    of_key = (record for record in calls if record.node is not None and record.node == node.key)
    return next(of_key, None) or next((record for record in calls if record.name == node.name), None)


def _can_be_called_with(node: FunctionNode[..., Any], given: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(node.target).bind(**given)
    except (TypeError, ValueError):  # it has other required parameters, or no signature
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
