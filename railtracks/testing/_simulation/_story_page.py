"""A story as one HTML file that needs nothing else: a table with a column for each call."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from railtracks.testing._simulation._diagram import Run, lane
from railtracks.testing._simulation._report import shown_place
from railtracks.testing._trace import TraceEvent

MAX_COLUMNS = 12
"""Calls that have a column of their own at most; where there are more, all events stand in one column."""

_ABOUT_TURNS = "Between two lines are the events of one turn of the event loop."
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: 2px 12px; border-left: 1px solid #ddd; }
th { position: sticky; top: 0; background: #fff; }
tr.turn td { border-top: 1px solid #bbb; }
.time { color: #777; text-align: right; border-left: 0; white-space: nowrap; }
.failed, .fault, .hangs { color: #b00020; } .cancelled, .refused { color: #9a6700; }
.completed, .reused { color: #1a7f37; } .mark { font-weight: bold; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; }
"""


def story_page(title: str, summary: str, code: str, runs: Sequence[Run], texts: Sequence[tuple[str, str]]) -> str:
    """Return the page.

    Args:
        title: Its title.
        summary: How the run ended.
        code: How to repeat it.
        runs: The runs, of which each has resumed the one before it.
        texts: More texts, each with a heading.
    """
    more = "".join(f"<h2>{escape(heading)}</h2><pre>{escape(text)}</pre>\n" for heading, text in texts)
    tables = "\n".join(
        _table(trace) + ("" if number == len(runs) else f"<p>The run {escape(end)}; resumed in another process:</p>")
        for number, (trace, end) in enumerate(runs, 1)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(title)}</h1><p>{escape(summary)}</p>"
        f"<pre>{escape(code)}</pre>\n<p>{_ABOUT_TURNS}</p>\n{tables}\n{more}</body></html>\n"
    )


def _table(trace: Sequence[TraceEvent]) -> str:
    lanes = {lane(event): "" if event.call is None else event.who for event in trace}
    columns = list(lanes) if len(lanes) <= MAX_COLUMNS else [""]
    head = "".join(f"<th>{escape(lanes.get(column, ''))}</th>" for column in columns)
    turns = [None, *(event.turn for event in trace)]
    rows = "\n".join(_row(event, columns, event.turn != before) for event, before in zip(trace, turns, strict=False))
    return f'<table><thead><tr><th class="time">s</th>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>'


def _row(event: TraceEvent, columns: Sequence[str], begins_turn: bool) -> str:
    here = columns.index(lane(event)) if len(columns) > 1 else 0
    who = "" if len(columns) > 1 and event.call is not None else event.who
    text = escape(f"{who} {event.what} {event.detail}{shown_place(event)}".strip())
    cells = "".join(f'<td class="{event.what}">{text}</td>' if i == here else "<td></td>" for i in range(len(columns)))
    row = "turn" if begins_turn else ""
    return f'<tr class="{row}"><td class="time">{event.time:.3f}</td>{cells}</tr>'
