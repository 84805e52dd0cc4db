"""Outcome: what is known about one simulated run."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import attrs

from railtracks import ExecutorConfig
from railtracks._test_probe import Cache, Limit, Retry, counted, redact
from railtracks.state import CallFailed, ExecutionInfo, Store, Stored
from railtracks.testing._simulation import _report
from railtracks.testing._simulation._diagram import sequence_diagram
from railtracks.testing._simulation._observed import CallKey, ObservedCall, ObservedOperation
from railtracks.testing._simulation._options import SimulationOptions
from railtracks.testing._simulation._replay_file import run_as_data, write_replay
from railtracks.testing._simulation._story_page import story_page
from railtracks.testing._trace import ReprAsCode, TraceEvent, policy_code, stable_repr
from railtracks.testing._virtual_time._clock import WALL
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._stuck_errors import Deadlock, EndlessRun, Livelock
from railtracks.testing.faults import Fault, StoreFault

_USUAL_DATE = datetime.fromtimestamp(WALL, UTC)


@attrs.frozen(eq=False, repr=False)
class ObservedSession:
    """A session of a simulated run, after the run."""

    info: ExecutionInfo
    """The record of the session; after ``Kill``, what was written of it."""
    config: ExecutorConfig
    """The settled options of the session."""
    keeps: bool
    """Whether it was to be saved, in the store of the run."""
    stored: Stored | None
    """What that store has of it, if anything."""

    @property
    def saved(self) -> ExecutionInfo | None:
        """The content of ``stored``, if there is any: of a damaged journal, the part that can be used."""
        return None if self.stored is None else stored_info(self.stored)


def stored_info(stored: Stored) -> ExecutionInfo:
    """Return the record of a run that a store has: of a damaged journal, the part that can be used."""
    if stored.document is not None:
        return ExecutionInfo.from_document(stored.document)
    assert stored.journal is not None
    return ExecutionInfo.from_journal(stored.journal)


@attrs.frozen(eq=False, repr=False)
class Outcome:
    """The result of one simulated run; made by :func:`railtracks.testing.simulate`.

    ``str(outcome)`` is the whole story, for people to read.
    """

    target: Any
    """The flow or the node that was run."""
    args: tuple[Any, ...]
    """Its arguments."""
    run_options: SimulationOptions
    """How it was run: the arguments of ``simulate``, except those of the session."""
    options: dict[str, Any]
    """The session options that ``simulate`` was called with."""
    result: Any
    """What the flow returned; None if it did not return."""
    exception: BaseException | None
    """The exception that left the run, as the same object; a ``Deadlock``, ``Livelock`` or ``EndlessRun`` if it would
    never end."""
    trace: tuple[TraceEvent, ...]
    """What happened, in order."""
    info: ExecutionInfo
    """The record of the session; after ``Kill``, what its journal holds."""
    duration: float
    """Virtual seconds from entering the session to leaving it."""
    was_cancelled: bool
    """Whether a cancellation left the run."""
    store: Store
    """Where it was saved. To resume it, pass this to ``simulate`` with ``resume=outcome.info.session_id``."""
    sessions: tuple[ObservedSession, ...] = ()
    """All sessions, including those that nodes opened, in the order of opening."""
    left_running: tuple[str, ...] = ()
    """The names of the tasks, threads and sessions that were left when the session had ended."""
    unseen: tuple[str, ...] = ()
    """Failures that no code saw, each with its place: coroutines that were never awaited, exceptions of tasks that
    nobody retrieved, and those that left threads, subscribers or ``__del__``."""
    unused_faults: tuple[Fault | StoreFault, ...] = ()
    """Faults that never happened, because no such call was made."""
    undetermined: tuple[str, ...] = ()
    """What of the run its seed did not decide, and why: it may be another one the next time."""
    cut_off: tuple[CallKey, ...] = ()
    """For invariants: calls that, while being cancelled, made a call, which for that reason never began."""
    decisions: Decisions = attrs.field(factory=lambda: Decisions(0))
    """For ``save_replay``: what decided in the run."""
    timers: tuple[float, ...] = ()
    """How long the sleeps and timeouts were that the run set, in virtual seconds: each length once, in order."""
    before: Outcome | None = None
    """The run that ``railtracks.testing.resume`` resumed."""
    schedule: str = "shuffled"
    """How the order of tasks was decided: "shuffled", with "priorities", or shuffled with "late timers"."""
    order: str = ""
    """A digest of the order in which the tasks of user code continued: equal for equal orders of the same code."""
    calls: dict[CallKey, ObservedCall] = attrs.field(factory=dict)
    """For invariants: each call, by session and index, as it was observed from outside of the runtime."""
    operations: tuple[ObservedOperation, ...] = ()
    """For invariants: the blocks that were marked by ``railtracks.testing.operation``, in the order of their begin."""
    failures: dict[int, CallFailed] = attrs.field(factory=dict)
    """For invariants: the events of calls that failed, by their places in the trace."""

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.run_options.seed

    @property
    def backend(self) -> str:
        """The backend of the run: "asyncio" or "trio"."""
        return self.run_options.backend

    @property
    def faults(self) -> tuple[Fault | StoreFault, ...]:
        """What was to go wrong."""
        return self.run_options.faults

    @property
    def max_steps(self) -> int:
        """How many steps tasks could take while no virtual time passed."""
        return self.run_options.step_limits["max_steps"]

    @property
    def max_total_steps(self) -> int:
        """How many steps tasks and threads could take in the whole run."""
        return self.run_options.step_limits["max_total_steps"]

    @property
    def began(self) -> datetime:
        """The date and time at which the run began, as code in it reads it in a virtual world."""
        wall = self.decisions.wall_start
        return datetime.fromtimestamp(WALL if wall is None else wall, UTC)

    @property
    def config(self) -> ExecutorConfig | None:
        """The settled options of the session; None if it never opened."""
        return self.sessions[0].config if self.sessions else None

    @property
    def story(self) -> str:
        """The trace as text: the same for the same seed, in every process and on every Python."""
        return "\n".join(map(repr, self.trace))

    @property
    def tree(self) -> str:
        """The calls of the session as a tree, with their statuses and times."""
        return self.info.tree()

    @property
    def _name(self) -> str:
        """The name of the flow or node, as it may stand in code."""
        names = (getattr(self.target, attribute, None) for attribute in ("name", "__name__"))
        name = next((name for name in names if isinstance(name, str) and name), repr(self.target))
        return name if isinstance(self.target, ReprAsCode) or name.isidentifier() else "flow"

    @property
    def code(self) -> str:
        """The call of ``simulate`` that repeats this outcome; or of ``resume``, of what repeats the run before it."""
        no_seed = "" if self.decisions.from_seed else "  # in another order: outcome.save_replay(path) keeps it"
        return f"{self._call}{no_seed}"

    @property
    def _call(self) -> str:
        if self.before is not None:
            faults = f", faults={list(self.faults)!r}" if self.faults else ""
            return f"resume({self.before._call}{faults}, seed={self.seed})"
        parts = [self._name, *map(repr, self.args), *self.run_options.code()]
        parts += [f"{key}={_option_code(key, value)}" for key, value in self.options.items()]
        return f"simulate({', '.join(parts)})"

    @property
    def _runs(self) -> tuple[Outcome, ...]:
        """The runs that it has resumed, one after another, and itself."""
        return (*(() if self.before is None else self.before._runs), self)

    @property
    def _stories(self) -> list[tuple[tuple[TraceEvent, ...], str]]:
        return [(each.trace, each.end) for each in self._runs]

    def save_replay(self, path: str | PathLike[str]) -> None:
        """Write all decisions of the run to a file, by which ``railtracks.testing.replay`` repeats it.

        If it has resumed another run, as by ``railtracks.testing.resume``, that is written as well.

        Args:
            path: The file, such as "replays/two_leaders.json"; it is overwritten.

        Raises:
            ConfigError: a fault of the plan has a value that cannot be written.
            OSError: the file cannot be written.
        """
        runs = [run_as_data(each.decisions, each.run_options, each.args, each.code, each.end) for each in self._runs]
        first = self._runs[0].options
        write_replay(path, runs, [name for name in ("store", "resume") if first.get("resume") and name in first])

    @property
    def end(self) -> str:
        """How the run ended, in words."""
        return self._end("")

    @property
    def end_after(self) -> str:
        """How the run ended, and after how many virtual seconds."""
        return self._end(f" after {self.duration:g} s")

    def _end(self, after: str) -> str:
        if self.exception is None:
            return redact(self.info, f"returned {stable_repr(self.result)}{after}")
        if isinstance(self.exception, Deadlock):
            return f"hung for ever{after}"
        if isinstance(self.exception, Livelock):
            return f"ran for ever without time passing (Livelock){after}"
        if isinstance(self.exception, EndlessRun):
            return f"did not end (EndlessRun){after}"
        if self.was_cancelled:
            return f"was cancelled from outside{after}"
        return redact(self.info, f"raised {type(self.exception).__name__}{after}: {self.exception}")

    def diagram(self) -> str:
        """Return the story as a sequence diagram in the language of Mermaid (https://mermaid.js.org).

        It begins with the runs that this one has resumed.
        """
        return sequence_diagram(self._stories)

    @property
    def html(self) -> str:
        """The story as one HTML page that needs no network: a table with a column for each call, and the tree.

        It begins with the runs that this one has resumed.
        """
        texts = [("Unseen", "\n".join(self.unseen))] if self.unseen else []
        texts += [("Calls", self.tree), ("Mermaid", self.diagram())]
        title, summary = f"{self._name}, seed {self.seed}", self.end_after
        return story_page(title, summary, redact(self.info, self.code), self._stories, texts)

    def save_page(self, path: str | PathLike[str]) -> None:
        """Write ``html`` to a file, in place of what is there.

        Raises:
            OSError: it cannot be written.
        """
        Path(path).write_text(self.html, encoding="utf-8")

    def unwrap(self) -> Any:
        """Return what the flow returned, or raise the exception that left the run, as the same object."""
        if self.exception is not None:
            raise self.exception
        return self.result

    def __repr__(self) -> str:
        return f"<Outcome of {self.code}: {self.end_after}; {counted(len(self.trace), 'event')}>"

    def __str__(self) -> str:
        story = f"{earlier_stories(self)}{_report.timeline(self.trace, self.calls)}"
        unseen = "".join(f"\nunseen: {text}" for text in self.unseen)
        chance = "".join(f"\nnot decided by the seed: {text}" for text in self.undetermined)
        schedule = "" if self.schedule == "shuffled" else f" ({self.schedule})"
        date = "" if self.began == _USUAL_DATE else f"\nbegan at {self.began:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.code}\n{self.end_after}{schedule}{date}{unseen}{chance}\n\n{story}\n\n{self.tree}"


def earlier_stories(outcome: Outcome) -> str:
    """Return the stories of the runs that this one has resumed, one after another; an empty text if there are none."""
    before = outcome.before
    if before is None:
        return ""
    story = _report.latest_events(before.trace, before.calls)
    return f"{earlier_stories(before)}{story}\n\nthe run {before.end}; resumed in another process:\n\n"


def _option_code(key: str, value: Any) -> str:
    """Return an option's value as it would be written in a test; a store by the name of the option."""
    if key == "store" and not isinstance(value, str):
        return key
    if value == math.inf:
        return "math.inf"
    if isinstance(value, Cache | Limit | Retry):
        return policy_code(value)
    return str(getattr(value, "__name__", None) or repr(value))
