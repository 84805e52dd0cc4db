"""What happened, as text: the timeline of a trace, and the tree of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from railtracks._test_probe import CallTree, redact
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.testing._trace import TraceEvent, stable_repr

AROUND = 12
"""Events of a timeline that are shown before and after those that it is about."""
LONGEST_TREE = 200
"""Calls of a tree that are shown."""
STYLES = {Status.COMPLETED: "green", Status.FAILED: "red", Status.CANCELLED: "yellow", Status.OPEN: "magenta"}


def timeline(trace: Sequence[TraceEvent], about: Iterable[int] = ()) -> str:
    """Return the events, one per line.

    Args:
        trace: The events.
        about: The indices of the events to mark. If there are any, only events around them are shown.
    """
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
    """Return the calls, each below its caller, with status, seconds, seconds without the calls below, and exception."""
    lines = [f"session {info.session_name or info.session_id}"]
    shown = islice(_walk(info.records), LONGEST_TREE)
    lines += [prefix + redact(info, _label(record, children)) for prefix, record, children in shown]
    return "\n".join(lines) + _more(info)


def rich_call_tree(info: ExecutionInfo) -> Any:
    """Return the same as ``call_tree``, as a ``rich`` renderable in colour."""
    from rich.text import Text

    text = Text(f"session {info.session_name or info.session_id}")
    for prefix, record, children in islice(_walk(info.records), LONGEST_TREE):
        text.append(f"\n{prefix}")
        text.append(redact(info, _label(record, children)), STYLES[record.status])
    text.append(_more(info))
    return text


def _more(info: ExecutionInfo) -> str:
    left = len(info.records) - LONGEST_TREE
    return f"\n... and {left} more calls" if left > 0 else ""


def _walk(records: Sequence[CallRecord]) -> Iterator[tuple[str, CallRecord, Sequence[CallRecord]]]:
    """Yield the calls in the order of a tree, each with the prefix of its line, and the calls that it made."""
    tree = CallTree(records)
    stack = [("", record, last) for record, last in _with_last(tree.children(None))]
    while stack:
        indent, record, last = stack.pop()
        children = tree.children(record)
        yield indent + ("└─ " if last else "├─ "), record, children
        deeper = indent + ("   " if last else "│  ")
        stack += [(deeper, child, final) for child, final in _with_last(children)]


def _with_last(records: Sequence[CallRecord]) -> list[tuple[CallRecord, bool]]:
    """Return the records in reverse, for a stack, each with whether it is the last one."""
    return [(record, record is records[-1]) for record in reversed(records)]


def _label(record: CallRecord, children: Sequence[CallRecord]) -> str:
    status = record.status.value if record.reason is None else f"{record.status.value} ({record.reason.value})"
    label = f"{record.name}  {status}"
    if record.ended is not None:
        total = record.ended - record.started
        own = total - _seconds_covered(children, record.ended)
        label += f"  {total:.3f} s" + (f" (own {own:.3f} s)" if children else "")
    if record.exception is not None:
        label += f"  {stable_repr(record.exception)}"
    return label


def _seconds_covered(records: Sequence[CallRecord], end: float) -> float:
    """Return the seconds in which at least one of the calls was running; those still open count until ``end``."""
    covered, until = 0.0, float("-inf")
    for record in sorted(records, key=lambda each: each.started):
        ended = end if record.ended is None else record.ended
        covered += max(0.0, ended - max(until, record.started))
        until = max(until, ended)
    return covered
