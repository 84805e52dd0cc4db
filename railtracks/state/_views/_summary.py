"""A summary of a run in numbers: per node, in time, and in what the process used."""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

import attrs

from railtracks.state._records import CallRecord, Status, is_reused
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._views._counts import RETRIED, count_ends
from railtracks.state._views._critical_path import PathStep, critical_path
from railtracks.state._views._texts import shown_call, shown_seconds
from railtracks.state._views._times import ran_seconds, ran_since

_SHOWN_STEPS = 10
_MAX_NAME = 40
_TOLERANCE = 1e-6
"""Seconds by which sums of times are off at most."""


@attrs.frozen
class NodeSummary:
    """The calls of one node, which are those of one name. Times are in seconds, of calls that have ended.

    The times of reused calls are left out, as they are of an earlier session, and so are those of cached ones, which
    did not run.

    Attributes:
        name: The name of the node.
        calls: The number of its calls.
        failed: The number of those that failed, without those that were tried again.
        total: The seconds of all calls together. Calls that ran at the same time each count.
        mean: The mean of them; None if none has ended or all were reused, like the next three.
        p50: The median: half of the calls took at most that long.
        p95: 95 of 100 calls took at most that long.
        longest: The seconds of the slowest call.
        retried: The number of those that failed and were tried again, as the policy of the node says.
        cached: The number of those that got the result of an equal call.
    """

    name: str
    calls: int
    failed: int
    total: float
    mean: float | None
    p50: float | None
    p95: float | None
    longest: float | None
    retried: int = 0
    cached: int = 0


@attrs.frozen
class SessionSummary:
    """The numbers of a session; made by ``info.summary()``. ``print`` it for a table.

    Attributes:
        title: What the session is called.
        status: Its status.
        seconds: How long it took; None while it is open.
        calls: How many calls there are, by status, without those that were tried again.
        nodes: The nodes, the one whose calls took longest in all first.
        critical_path: The calls that the session waited for one after the other, in order, each with the seconds that
            it took by itself.
        max_concurrency: The greatest number of calls that ran at the same time, without those that waited for a call
            of their own.
        processor_seconds: The processor time that the process used while the session was open, which other sessions in
            it may have used too; None if it is not known.
        peak_memory_bytes: The most memory that the process had used at any time until the session ended; None as above.
        retried: How many calls failed and were tried again, as the policies of their nodes say.
        cached: How many calls got the result of an equal call.
    """

    title: str
    status: Status
    seconds: float | None
    calls: Mapping[Status, int]
    nodes: tuple[NodeSummary, ...]
    critical_path: tuple[PathStep, ...]
    max_concurrency: int
    processor_seconds: float | None
    peak_memory_bytes: int | None
    retried: int = 0
    cached: int = 0
    _redactor: Redactor = attrs.field(factory=Redactor, repr=False, eq=False)

    def __str__(self) -> str:
        return "\n".join([self._head(), "", *self._node_lines(), "", *self._path_lines()])

    def _head(self) -> str:
        numbers = {**{status.value.lower(): number for status, number in self.calls.items()}, RETRIED: self.retried}
        if self.cached:  # these are among them
            numbers = {
                f"{word} ({self.cached} cached)" if word == "completed" else word: n for word, n in numbers.items()
            }
        counts = ", ".join(f"{number} {word}" for word, number in numbers.items() if number)
        lines = [f"{self.title}  {self.status.value}" + _in_words("  {}", self.seconds)]
        lines.append(f"calls: {counts or 'none'}; at most {self.max_concurrency} at the same time")
        used = [_in_words("{} of processor time", self.processor_seconds)]
        if self.peak_memory_bytes is not None:
            used.append(f"{self.peak_memory_bytes / 2**20:,.0f} MiB of memory at most")
        if shown := ", ".join(filter(None, used)):
            lines.append(f"process: {shown}")
        return "\n".join(lines)

    def _node_lines(self) -> list[str]:
        added = [word for word in (RETRIED, "cached") if any(getattr(node, word) for node in self.nodes)]
        titles = ("node", "calls", "failed", *added, "total", "mean", "p50", "p95", "longest")
        rows = [
            (
                shorten(self._redactor.redact_name(node.name), _MAX_NAME), str(node.calls), str(node.failed),
                *(str(getattr(node, word)) for word in added),
                *(_in_words("{}", each) for each in (node.total, node.mean, node.p50, node.p95, node.longest)),
            )
            for node in self.nodes
        ]  # fmt: skip
        return aligned([titles, *rows])

    def _path_lines(self) -> list[str]:
        whole = sum(step.seconds for step in self.critical_path)
        longest = sorted(self.critical_path, key=lambda step: -step.seconds)[:_SHOWN_STEPS]
        rows = [
            (shown_seconds(step.seconds), f"{step.seconds / whole:.0%}", shown_call(step.record, self._redactor))
            for step in longest
            if step.seconds
        ]
        return ["waited for (critical path):", *aligned(rows, left=(2,))] if rows else []


def summarize(records: Sequence[CallRecord], redactor: Redactor, **facts: object) -> SessionSummary:
    """Return the summary of a session.

    Args:
        records: Its calls, in the order of creation.
        redactor: The secrets that are known.
        facts: What else the summary has.
    """
    by_name: dict[str, list[CallRecord]] = {}
    for record in records:
        by_name.setdefault(record.name, []).append(record)
    nodes = sorted((_node_summary(name, calls) for name, calls in by_name.items()), key=lambda node: -node.total)
    ends = count_ends(records)
    return SessionSummary(
        calls={status: ends.by_status[status] for status in Status if status in ends.by_status},
        retried=ends.retried,
        cached=ends.cached,
        nodes=tuple(nodes),
        critical_path=critical_path(records),
        max_concurrency=max_concurrency(records),
        redactor=redactor,
        **facts,  # type: ignore[arg-type]
    )


def max_concurrency(records: Sequence[CallRecord]) -> int:
    """Return the greatest number of calls that ran at the same time and had no call of their own that was running.

    Reused and cached calls did not run, and calls that wait for their limits do not run yet.
    """
    moments = _moments([record for record in records if _has_run(record)])
    running: set[int] = set()
    below: Counter[int | None] = Counter()  # by the index of a call, how many calls of its own are running

    def busy(record: CallRecord) -> int:
        return sum(index in running and not below[index] for index in (record.index, record.parent))

    number = greatest = 0
    for _, record, change in moments:
        before = busy(record)
        below[record.parent] += change
        (running.add if change > 0 else running.discard)(record.index)
        number += busy(record) - before
        greatest = max(greatest, number)
    return greatest


def _moments(records: Sequence[CallRecord]) -> list[tuple[float, CallRecord, int]]:
    """Return when calls began to run (1) and ended (-1), in order, as steps of their session.

    A call that has waited took no step when it began to run. It began after all that had happened until then.
    """
    records = [record for record in records if record.policy is None or record.policy.waiting is None]  # others ran
    moments: list[tuple[float, CallRecord, int]]
    moments = [(record.ended_step, record, -1) for record in records if record.ended_step is not None]
    ends = sorted((record.ended or 0.0, step) for step, record, _ in moments)
    for record in records:
        step = float(record.started_step)
        if record.policy is not None and record.policy.waited:
            before = bisect(ends, (ran_since(record) + _TOLERANCE, math.inf))
            step = max(step, ends[before - 1][1] + 0.5) if before else step
            step = step if record.ended_step is None else min(step, record.ended_step - 0.25)
        moments.append((step, record, 1))
    return sorted(moments, key=lambda moment: moment[0])


def _node_summary(name: str, records: Sequence[CallRecord]) -> NodeSummary:
    times = sorted(ran_seconds(record) for record in records if record.ended is not None and _has_run(record))
    total, ends = sum(times), count_ends(records)
    return NodeSummary(
        name,
        len(records),
        ends.by_status.get(Status.FAILED, 0),
        total,
        total / len(times) if times else None,
        percentile(times, 0.5),
        percentile(times, 0.95),
        times[-1] if times else None,
        ends.retried,
        ends.cached,
    )


def _has_run(record: CallRecord) -> bool:
    return not is_reused(record) and (record.policy is None or record.policy.cached is None)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest of some ordered numbers that a share of them does not exceed (nearest rank)."""
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Return rows of texts as lines with columns, those in ``left`` aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if at in left else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _in_words(template: str, seconds: float | None) -> str:
    return "" if seconds is None else template.format(shown_seconds(seconds))
