"""Which run a session resumes, and from where on."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._history import cut_off, together
from railtracks._resume._matching import recorded_arguments
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._stores._protocols import Store
from railtracks.state._stores._runs import check_identifier, load_run


class Resumption(NamedTuple):
    """A run that a session resumes.

    Args:
        run_identifier: Of that run.
        before: Use only what had completed before this: a node, the name of one, or a step. None: everything.
    """

    run_identifier: str
    before: Callable[..., Any] | str | int | None

    def load(self, store: Store, log: SessionLog, held: bool) -> tuple[ExecutionInfo, list[CallRecord]]:
        """What is known of the run, and the records that are used of it. Blocks.

        ``held``: this session has the right to write what it resumes, so nobody else has.

        Raises:
            RunInUseError: the run still runs, and all of it is to be resumed.
            StateError: it is not there, or cannot be read, or has no call of ``before``.
        """
        if self.before is None and not held and store.is_locked(self.run_identifier):
            raise RunInUseError(
                f"the run {self.run_identifier!r} is open in another session; resume it when that has ended"
            )
        known = load_run(self.run_identifier, store)
        if known.damage is not None:
            log.log(logging.WARNING, "The journal of %s: %s", self.run_identifier, known.damage, logger=SESSION)
        if self.before is None:
            return known, together(known.earlier, known.records)
        return known, cut_off(known.records, self._step(known))

    def _step(self, known: ExecutionInfo) -> int:
        if isinstance(self.before, int):
            return self.before
        name = self.before if isinstance(self.before, str) else as_node(self.before, "before").name
        steps = [record.started_step for record in known.records if record.name == name]
        if not steps:
            names = ", ".join(sorted({record.name for record in known.records})) or "none"
            raise StateError(f"the run {self.run_identifier!r} has no call of {name}; it has calls of {names}")
        return min(steps)

    def arguments(
        self, known: ExecutionInfo, node: FunctionNode[..., Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What the first top-level call of the node was given. StateError if that cannot be told."""
        for record in (*known.records, *known.earlier):
            if record.parent is None and record.name == node.name:
                try:
                    return recorded_arguments(record, node)
                except ValueError as exc:
                    raise StateError(
                        f"the call of {node.name} in the run {self.run_identifier!r} {exc}; give its arguments again: "
                        f"flow.resume({self.run_identifier!r}, ...)"
                    ) from exc
        if not known.records and _needs_no_arguments(node):  # it was killed before that was on record
            return (), {}
        raise StateError(f"the run {self.run_identifier!r} has no top-level call of {node.name}; give its arguments")


def _needs_no_arguments(node: FunctionNode[..., Any]) -> bool:
    try:
        inspect.signature(node.target).bind()
    except (TypeError, ValueError):  # it needs some, or does not tell
        return False
    return True


def resumption(resume: object, before: object, run_identifier: str | None) -> Resumption | None:
    """What the arguments of a session say. ConfigError if they do not fit together."""
    if resume is not None:
        check_identifier(resume)
    if before is not None:
        if resume is None:
            raise ConfigError("argument before needs resume: write rt.Session(resume='my-run', before=...)")
        if isinstance(before, int):
            allowed = before >= 0 and before is not False and before is not True
        else:
            allowed = isinstance(before, str) or callable(before)
        if not allowed:
            raise ConfigError(
                f"argument before: {before!r} is not allowed; give a node, the name of one, or a step of at least 0"
            )
        if resume == run_identifier:
            raise ConfigError(
                f"argument before: the run {resume!r} stays as it is, so this session needs another run_identifier"
            )
    return None if resume is None else Resumption(resume, before)  # type: ignore[arg-type]  # checked above
