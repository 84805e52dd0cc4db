"""Pictures of what happened, as text: the timeline of a trace, the tree of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state._call_tree import CallTree
from railtracks.testing._trace import TraceEvent, stable_repr

AROUND = 12
"""Events of a timeline that are shown before and after the one it is about."""
LONGEST_TREE = 200
"""Calls of a tree that are shown."""
STYLES = {Status.COMPLETED: "green", Status.FAILED: "red", Status.CANCELLED: "yellow", Status.OPEN: "magenta"}


def timeline(trace: Sequence[TraceEvent], about: Iterable[int] = ()) -> str:
    """The events, one a line, with places; only those around ``about``, if there are any, which are marked."""
    marked = set(about)
    shown = range(len(trace))
    if marked:
        shown = range(max(0, min(marked) - AROUND), min(len(trace), max(marked) + AROUND + 1))
    lines = [f"{'>' if index in marked else ' '} {trace[index]!r}{_place(trace[index])}" for index in shown]
    if shown and shown[0]:
        lines.insert(0, f"  ... {shown[0]} events before")
    if shown and shown[-1] + 1 < len(trace):
        lines.append(f"  ... {len(trace) - shown[-1] - 1} events after")
    return "\n".join(lines)


def _place(event: TraceEvent) -> str:
    return f" in {event.place}" if event.place else ""


def call_tree(info: ExecutionInfo) -> str:
    """The calls, each below its caller: status, seconds in it, seconds in it alone, and what came of it."""
    lines = [f"session {info.session_name or info.session_id}"]
    shown = islice(_walk(info.records), LONGEST_TREE)
    lines += [prefix + info._redactor.redact(_label(record, below)) for prefix, record, below in shown]
    return "\n".join(lines) + _more(info)


def rich_call_tree(info: ExecutionInfo) -> Any:
    """The same as a ``rich`` renderable, in colour."""
    from rich.text import Text

    text = Text(f"session {info.session_name or info.session_id}")
    for prefix, record, below in islice(_walk(info.records), LONGEST_TREE):
        text.append(f"\n{prefix}")
        text.append(info._redactor.redact(_label(record, below)), STYLES[record.status])
    text.append(_more(info))
    return text


def _more(info: ExecutionInfo) -> str:
    left = len(info.records) - LONGEST_TREE
    return f"\n... and {left} calls more" if left > 0 else ""


def _walk(records: Sequence[CallRecord]) -> Iterator[tuple[str, CallRecord, Sequence[CallRecord]]]:
    """The calls in the order of a tree, each with what stands before it, and the calls it made."""
    tree = CallTree(records)
    waiting = [("", record, last) for record, last in _with_last(tree.children(None))]
    while waiting:
        indent, record, last = waiting.pop()
        children = tree.children(record)
        yield indent + ("└─ " if last else "├─ "), record, children
        deeper = indent + ("   " if last else "│  ")
        waiting += [(deeper, child, final) for child, final in _with_last(children)]


def _with_last(records: Sequence[CallRecord]) -> list[tuple[CallRecord, bool]]:
    """In reverse, for a stack; each with whether it is the last of them."""
    return [(record, record is records[-1]) for record in reversed(records)]


def _label(record: CallRecord, below: Sequence[CallRecord]) -> str:
    status = record.status.value if record.reason is None else f"{record.status.value} ({record.reason.value})"
    label = f"{record.name}  {status}"
    if record.ended is not None:
        total = record.ended - record.started
        own = total - _covered(below, record.ended)
        label += f"  {total:.3f} s" + (f" (own {own:.3f} s)" if below else "")
    if record.exception is not None:
        label += f"  {stable_repr(record.exception)}"
    return label


def _covered(records: Sequence[CallRecord], end: float) -> float:
    """Seconds in which at least one of the calls was running."""
    covered, until = 0.0, float("-inf")
    for record in sorted(records, key=lambda each: each.started):
        ended = end if record.ended is None else record.ended
        covered += max(0.0, ended - max(until, record.started))
        until = max(until, ended)
    return covered
