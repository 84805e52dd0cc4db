"""What happened, as text: the timeline of a trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from railtracks._test_probe import counted
from railtracks.testing._trace import TraceEvent

AROUND = 12
"""Events of a timeline that are shown before and after those that it is about."""


LATEST = 60
"""Events that are shown of a run, where no others are known to matter."""


def latest_events(trace: Sequence[TraceEvent]) -> str:
    """Return the last events, one per line."""
    left_out = max(0, len(trace) - LATEST)
    shown = timeline(trace[left_out:])
    return f"  ... {counted(left_out, 'event')} before\n{shown}" if left_out else shown


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
    lines = [f"{_margin(trace[index], index in marked)} {trace[index]!r}{_place(trace[index])}" for index in shown]
    if shown and shown[0]:
        lines.insert(0, f"  ... {counted(shown[0], 'event')} before")
    if shown and shown[-1] + 1 < len(trace):
        lines.append(f"  ... {counted(len(trace) - shown[-1] - 1, 'event')} after")
    return "\n".join(lines)


def _margin(event: TraceEvent, is_about: bool) -> str:
    return ">" if is_about else "*" if event.what == "mark" else " "


def _place(event: TraceEvent) -> str:
    return f" in {event.place}" if event.place else ""
