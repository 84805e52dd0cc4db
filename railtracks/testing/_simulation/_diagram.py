"""A story as a sequence diagram in the language of Mermaid, which many tools and sites draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from railtracks.testing._trace import TraceEvent

OUTSIDE = "outside"
"""The participant that makes the top-level calls."""
Run = tuple[Sequence[TraceEvent], str]
"""What happened in a run, and how it ended."""
_CALLER = re.compile(r"by (\S+): ", re.ASCII)
_SPECIAL = re.compile(r"[^\w .,()='\"/\[\]{}:*+?!@|&~^$-]")
_ARROWS = {"completed": "-->>", "reused": "-->>", "failed": "--x", "cancelled": "--x"}
_RESULTS = {"completed": "", "reused": "reused ", "failed": "", "cancelled": "cancelled "}


def sequence_diagram(runs: Sequence[Run]) -> str:
    """Return the events as a sequence diagram: each call has a lane, and what happens in it is a note.

    Args:
        runs: The runs, of which each has resumed the one before it.
    """
    calls = {lane(event): event.who for trace, _ in runs for event in trace if event.call is not None}
    lines = ["sequenceDiagram", f"    participant {OUTSIDE}"]
    lines += [f"    participant {call} as {_escape(who)}" for call, who in calls.items()]
    for number, (trace, end) in enumerate(runs, 1):
        callers: dict[str, str] = {}
        for event in trace:
            lines += [f"    {line}" for line in _lines(event, callers, list(calls))]
        if number < len(runs):
            lines.append(f"    {_over_all(list(calls), f'the run {end}; resumed in another process')}")
    return "\n".join(lines)


def _over_all(lanes: list[str], text: str) -> str:
    """Return a note over all lanes."""
    return f"Note over {','.join((OUTSIDE, *lanes[-1:]))}: {_escape(text)}"


def lane(event: TraceEvent) -> str:
    """Return the name of the lane of a call; that of the outside for an event outside of calls."""
    return OUTSIDE if event.call is None else f"{_word(event.session)}_{event.call}"


def _split_caller(event: TraceEvent) -> tuple[str, str]:
    """Return the lane of the caller of a call that is created, and its arguments."""
    found = _CALLER.match(event.detail)
    if found is None:
        return OUTSIDE, event.detail
    session, _, index = found[1].rpartition(".")
    return f"{_word(session)}_{index}", event.detail[found.end() :]


def _lines(event: TraceEvent, callers: dict[str, str], lanes: list[str]) -> Iterable[str]:
    here = lane(event)
    if event.what == "created":
        above, arguments = _split_caller(event)
        callers[here] = above if above in lanes else OUTSIDE
        yield f"{callers[here]}->>{here}: {_escape(arguments)}"
    elif event.what in _ARROWS:
        text = f"{_RESULTS[event.what]}{event.detail}"
        yield f"{here}{_ARROWS[event.what]}{callers.get(here, OUTSIDE)}: {_escape(text)}"
    elif event.what == "hangs" and lanes:
        yield _over_all(lanes, f"{event.time:g} s, hangs: {event.detail}")
    else:
        who = "" if event.call is not None else f"{event.session} "
        yield f"Note over {here}: {_escape(f'{who}{event.what} {event.detail}'.rstrip())}"


def _word(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _escape(text: str) -> str:
    """Return text as Mermaid shows it, whatever is in it."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text) or " "
