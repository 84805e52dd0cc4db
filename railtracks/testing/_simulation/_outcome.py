"""Outcome: all there is to know about one simulated run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from railtracks._options import ExecutorConfig
from railtracks.state import ExecutionInfo, Store
from railtracks.state._stores._protocols import Stored
from railtracks.testing._simulation import _report
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._trace import ReprAsCode, TraceEvent, stable_repr
from railtracks.testing._virtual_time._clock import Deadlock
from railtracks.testing.faults import Fault, StoreFault

if TYPE_CHECKING:
    from railtracks.testing._simulation._witness import Seen


@attrs.frozen(eq=False, repr=False)
class SessionSeen:
    """A session of a simulated run, after it."""

    info: ExecutionInfo
    config: ExecutorConfig
    keeps: bool
    """It was to be saved, in the store of the run."""
    stored: Stored | None
    """What that store has of it, if it has anything."""

    @property
    def saved(self) -> ExecutionInfo | None:
        """The same, read; what can be used of it, if it is a journal that is not whole."""
        if self.stored is None:
            return None
        if self.stored.document is not None:
            return ExecutionInfo.from_document(self.stored.document)
        assert self.stored.journal is not None
        return ExecutionInfo.from_journal(self.stored.journal)


@attrs.frozen(eq=False, repr=False)
class Outcome:
    """What came of one simulated run; made by :func:`railtracks.testing.simulate`.

    ``str(outcome)`` is the whole story, to be read by people.
    """

    target: Any
    """The flow or the node that was run."""
    args: tuple[Any, ...]
    seed: int
    backend: str
    faults: tuple[Fault | StoreFault, ...]
    options: dict[str, Any]
    """The session options that were given."""
    result: Any
    """What the flow returned; None if it did not."""
    exception: BaseException | None
    """The one that left the run, the same object; a ``Deadlock`` if it hung for ever."""
    trace: tuple[TraceEvent, ...]
    """What happened, in order."""
    info: ExecutionInfo
    """The record of the session; after ``Kill``, what its journal tells."""
    duration: float
    """Virtual seconds from entering the session to having left it."""
    store: Store
    """Where it was saved: give it to another ``simulate`` with ``resume=outcome.info.session_id``."""
    sessions: tuple[SessionSeen, ...] = ()
    """All sessions, also those that nodes opened, in the order of their opening."""
    left_running: tuple[str, ...] = ()
    """What was still there when the session had ended: tasks, threads and sessions, by name."""
    unused_faults: tuple[Fault | StoreFault, ...] = ()
    """Faults that never happened: no such call was made."""
    cut_off: tuple[tuple[str, int], ...] = ()
    """For invariants: calls that made a call while they were being cancelled, which therefore never began."""
    calls: dict[tuple[str, int], Seen] = attrs.field(factory=dict)
    """For invariants: each call by session and place, as it was seen from outside the runtime."""

    @property
    def config(self) -> ExecutorConfig | None:
        """The settled options of the session; None if it never opened."""
        return self.sessions[0].config if self.sessions else None

    @property
    def story(self) -> str:
        """The trace as text: the same text for the same seed, in every process and on every Python."""
        return "\n".join(map(repr, self.trace))

    @property
    def tree(self) -> str:
        """The calls of the session as a tree, with statuses and where time went."""
        return _report.call_tree(self.info)

    @property
    def code(self) -> str:
        """The call of ``simulate`` that gives this outcome again."""
        names = (getattr(self.target, attribute, None) for attribute in ("name", "__name__"))
        name = next((name for name in names if isinstance(name, str) and name), repr(self.target))
        if not isinstance(self.target, ReprAsCode) and not name.isidentifier():
            name = "flow"
        parts = [name, *map(repr, self.args), f"seed={self.seed}", f"backend={self.backend!r}"]
        if self.faults:
            parts.append(f"faults={list(self.faults)!r}")
        parts += [f"{key}={_pasted(key, value)}" for key, value in self.options.items()]
        return f"simulate({', '.join(parts)})"

    @property
    def end(self) -> str:
        """What came out, in words."""
        if self.exception is None:
            return self.info._redactor.redact(f"returned {stable_repr(self.result)}")
        if isinstance(self.exception, Deadlock):
            return "hung for ever"
        if self.was_cancelled:
            return "was cancelled from outside"
        return self.info._redactor.redact(f"raised {type(self.exception).__name__}: {self.exception}")

    @property
    def was_cancelled(self) -> bool:
        """A cancellation left the run."""
        return self.exception is not None and not isinstance(self.exception, Exception | ProcessKilled)

    def __repr__(self) -> str:
        return f"<Outcome of {self.code}: {self.end} after {self.duration:g} s; {len(self.trace)} events>"

    def __str__(self) -> str:
        story = _report.timeline(self.trace)
        return f"{self.code}\n{self.end} after {self.duration:g} s\n\n{story}\n\n{self.tree}"


def _pasted(key: str, value: Any) -> str:
    """An option as it would be written in a test; a store by the name of the option."""
    if key == "store" and not isinstance(value, str):
        return key
    if value == math.inf:
        return "math.inf"
    return str(getattr(value, "__name__", None) or repr(value))
