"""How far batches are, and how fast, as text."""

from __future__ import annotations

from railtracks._progress._batch_count import BatchCount
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._views._texts import shown_label, shown_seconds

BAR = 20
"""Characters of a bar."""


def pace(count: BatchCount, now: float) -> str:
    """Return how fast a batch is, as in ``15/s, about 5 s left``; "" if that is not known."""
    rate = count.rate(now)
    if rate <= 0:
        return ""
    each = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s" if rate >= 0.1 else f"{rate * 60:.2g}/min"
    left = None if count.total is None else (count.total - count.ended) / rate
    return each if left is None or left <= 0 else f"{each}, about {_rounded(left)} left"


def _rounded(seconds: float) -> str:
    return shown_seconds(max(1, round(seconds)))


def bar_line(count: BatchCount, redactor: Redactor, now: float) -> str:
    """Return the line of a batch: what it does, a bar if its length is known, counts, and how fast it is."""
    text = count.text(shown_label(count.label, redactor))
    if count.total:
        done = min(BAR, BAR * count.ended // count.total)
        text = f"{'━' * done}{'─' * (BAR - done)}  {text}"
    details = [pace(count, now), "" if count.limit is None else f"at most {count.limit} at once"]
    return "  ".join([text, *filter(None, details)])
