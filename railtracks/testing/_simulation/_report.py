"""What happened, as text: the timeline of a trace."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from railtracks._test_probe import counted
from railtracks.testing._simulation._observed import CallKey, ObservedCall
from railtracks.testing._trace import TraceEvent

Calls = Mapping[CallKey, ObservedCall]

AROUND = 12
"""Events of a timeline that are shown before and after those that it is about."""


LATEST = 60
"""Events that are shown of a run, where no others are known to matter."""


def latest_events(trace: Sequence[TraceEvent], calls: Calls) -> str:
    """Return the last events, one per line."""
    left_out = max(0, len(trace) - LATEST)
    shown = timeline(trace[left_out:], calls)
    return f"  ... {counted(left_out, 'event')} before\n{shown}" if left_out else shown


def timeline(trace: Sequence[TraceEvent], calls: Calls, about: Iterable[int] = ()) -> str:
    """Return the events, one per line.

    Args:
        trace: The events.
        calls: The calls of the run.
        about: The indices of the events to mark. If there are any, only events around them are shown.

    A line in the margin is beside the events of one turn of the event loop, if they are of several tasks.
    """
    marked = set(about)
    shown = range(len(trace))
    if marked:
        shown = range(max(0, min(marked) - AROUND), min(len(trace), max(marked) + AROUND + 1))
    turns = _turns(trace, calls)
    lines = [
        f"{_margin(trace[index], index in marked)}{turns.get(index, ' ')}{trace[index]!r}{shown_place(trace[index])}"
        for index in shown
    ]
    if shown and shown[0]:
        lines.insert(0, f"  ... {counted(shown[0], 'event')} before")
    if shown and shown[-1] + 1 < len(trace):
        lines.append(f"  ... {counted(len(trace) - shown[-1] - 1, 'event')} after")
    return "\n".join(lines)


def _margin(event: TraceEvent, is_about: bool) -> str:
    return ">" if is_about else "*" if event.what == "mark" else " "


def _turns(trace: Sequence[TraceEvent], calls: Calls) -> dict[int, str]:
    """Return the marks of events of one turn of the event loop, where more than one task had events in it."""
    marks: dict[int, str] = {}
    for _, group in itertools.groupby(range(len(trace)), key=lambda index: trace[index].turn):
        together = [*group]
        while together and trace[together[-1]].call is None:
            together.pop()
        while together and trace[together[0]].call is None:
            together.pop(0)
        keys = [(trace[index].session, call) for index in together if (call := trace[index].call) is not None]
        if len({id(calls[key].task) for key in keys if key in calls}) > 1:
            marks.update(dict.fromkeys(together, "│"))
            marks[together[0]], marks[together[-1]] = "┌", "└"
    return marks


def shown_place(event: TraceEvent) -> str:
    """Return where an event was, and why, as it follows the event."""
    if not event.place or event.place.startswith("since "):
        return f", {event.place}" if event.place else ""
    return f" in {event.place}"
