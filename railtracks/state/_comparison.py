"""Two runs side by side: what each of their nodes took, what failed in one of them only, and where the time differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter

import attrs

from railtracks._wording import counted
from railtracks.exceptions import ConfigError
from railtracks.state._call_tree import CallTree
from railtracks.state._info import ExecutionInfo
from railtracks.state._records import CallRecord, Status, is_retried
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import inputs_text
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._views._summary import NodeSummary, aligned
from railtracks.state._views._texts import shown_call, shown_error, shown_seconds
from railtracks.state._views._times import ran_seconds

SHOWN_PAIRS = 10
"""How many calls a list shows."""
_WIDTH = 80
_LEAST_NAME = 10
"""The number of characters of the name of a node that are shown in any case."""


@attrs.frozen
class Pair:
    """A call of each run, at the same place; None if only the other run has a call there."""

    first: CallRecord | None
    second: CallRecord | None

    @property
    def seconds(self) -> float:
        """How much longer the call of the second run took; 0 if either is missing or has not ended."""
        first, second = (None if each is None else _seconds(each) for each in (self.first, self.second))
        return 0.0 if first is None or second is None else second - first


@attrs.frozen
class NodePair:
    """What the calls of one node took in each run; None if the run has no call of it."""

    name: str
    first: NodeSummary | None
    second: NodeSummary | None

    @property
    def seconds(self) -> float:
        """How many seconds more all calls of the node took in the second run."""
        return (self.second.total if self.second else 0.0) - (self.first.total if self.first else 0.0)


@attrs.frozen
class Comparison:
    """Two runs of a flow; made by ``compare``."""

    first: ExecutionInfo
    second: ExecutionInfo
    nodes: tuple[NodePair, ...]
    """The nodes, the one whose total differs most first."""
    failed_first: tuple[Pair, ...]
    """The calls that raised an error in the first run, and did not fail at the same place of the second. Callers that
    failed with the error of a call below them are left out."""
    failed_second: tuple[Pair, ...]
    slowest: tuple[Pair, ...]
    """The calls whose durations differ most."""
    matched: int
    """How many calls have one at their place in the other run."""

    def __str__(self) -> str:
        runs = (self.first, self.second)
        heads = [f"{label} {next(info._tree_lines(0)).text}" for label, info in zip("AB", runs, strict=True)]
        calls = f"{counted(self.matched, 'call')} {'is' if self.matched == 1 else 'are'} in both runs"
        return "\n".join([*heads, calls, "", *self._node_lines(), *self._failure_lines(), *self._slowest_lines()])

    def _node_lines(self) -> list[str]:
        """Return the nodes as a table that fits into a terminal, if their names can be cut for that."""
        rows = [("node", "calls", "failed", "total A", "total B", "B − A", "p95 A", "p95 B")]
        for name, cells, change in self.node_rows():
            calls, failed = (_change(cells[at], cells[at + 1]) for at in (0, 2))
            rows.append((name, calls, failed, cells[4], cells[5], change, cells[8], cells[9]))
        others = max(map(len, aligned([row[1:] for row in rows], left=())))
        limit = max(_LEAST_NAME, _WIDTH - others - len("  "))
        return aligned([(shorten(name, limit), *cells) for name, *cells in rows])

    def node_rows(self) -> Iterator[tuple[str, list[str], str]]:
        """Yield the name of each node, its numbers as texts, those of A and B in turn, and how the totals differ."""
        for node in self.nodes:
            sides = [_numbers(node.first), _numbers(node.second)]
            cells = [text for pair in zip(*sides, strict=True) for text in pair]
            yield self.first._redactor.redact_name(node.name), cells, signed_seconds(node.seconds)

    def _failure_lines(self) -> list[str]:
        lines: list[str] = []
        for label, pairs in (("A", self.failed_first), ("B", self.failed_second)):
            if pairs:
                lines += ["", f"failed in {label} only:"]
                failures = [self.failure(pair) for pair in pairs[:SHOWN_PAIRS]]
                lines += [f"{call}  {reason}  ({became})" for call, reason, became in failures]
                lines += [f"… and {len(pairs) - SHOWN_PAIRS} more"] * (len(pairs) > SHOWN_PAIRS)
        return lines

    def _slowest_lines(self) -> list[str]:
        rows = [
            (signed_seconds(pair.seconds), *(shown_seconds(_seconds(each) or 0.0) for each in sides(pair)), call)
            for pair, call in ((pair, self.call(pair)) for pair in self.slowest)
        ]
        return ["", "where the time differs:", *aligned([("", "A", "B", ""), *rows], left=(3,))] if rows else []

    def call(self, pair: Pair) -> str:
        """Return the call of a pair as it could be written."""
        return shown_call(sides(pair)[0], (self.second if pair.first is None else self.first)._redactor)

    def failure(self, pair: Pair) -> tuple[str, str, str]:
        """Return the call of a pair that failed in one run, why, and what became of it in the other.

        Of calls that look alike, it is said which call made them.
        """
        failed = next(each for each in sides(pair) if each.status is Status.FAILED)
        is_first = failed is pair.first
        other, redactor = (pair.second, self.first._redactor) if is_first else (pair.first, self.second._redactor)
        reason = "" if failed.exception is None else shown_error(failed.exception, redactor)
        became = "no such call" if other is None else other.status.value
        return self._failed_call(failed, is_first), reason, f"in {'B' if is_first else 'A'}: {became}"

    def _failed_call(self, failed: CallRecord, is_first: bool) -> str:
        info, pairs = (self.first, self.failed_first) if is_first else (self.second, self.failed_second)
        call = shown_call(failed, info._redactor)
        others = (sides(pair)[0 if is_first else -1] for pair in pairs[:SHOWN_PAIRS])
        if failed.parent is None or not any(
            other is not failed and shown_call(other, info._redactor) == call for other in others
        ):
            return call
        caller = next(record for record in info.records if record.index == failed.parent)
        return f"{call} in {shown_call(caller, info._redactor)}"


def compare(first: ExecutionInfo, second: ExecutionInfo) -> Comparison:
    """Compare two runs.

    Calls are matched by their place: below callers that match, calls of one node with the same arguments, in their
    order, and then what remains of that node, in its order.

    Args:
        first: A run.
        second: Another run of the same flow.

    Raises:
        ConfigError: They are of different flows.
    """
    if first.flow_name != second.flow_name:
        raise ConfigError(
            f"runs of one flow can be compared, and these are of {first.flow_name!r} and {second.flow_name!r}; "
            f"choose two of one flow"
        )
    pairs = list(_pairs(first, second))
    matched = [pair for pair in pairs if pair.first is not None and pair.second is not None]
    differing = [pair for pair in matched if pair.seconds]
    summaries = [{node.name: node for node in info.summary().nodes} for info in (first, second)]
    names = dict.fromkeys([*summaries[0], *summaries[1]])
    nodes = [NodePair(name, summaries[0].get(name), summaries[1].get(name)) for name in names]
    return Comparison(
        first,
        second,
        nodes=tuple(sorted(nodes, key=lambda node: -abs(node.seconds))),
        failed_first=tuple(each for each in pairs if _raises(each.first) and not _fails(each.second)),
        failed_second=tuple(each for each in pairs if _raises(each.second) and not _fails(each.first)),
        slowest=tuple(sorted(differing, key=lambda pair: -abs(pair.seconds))[:SHOWN_PAIRS]),
        matched=len(matched),
    )


def sides(pair: Pair) -> list[CallRecord]:
    """Return the calls of a pair that are there."""
    return [each for each in (pair.first, pair.second) if each is not None]


def signed_seconds(seconds: float) -> str:
    """Return a difference as people write it, such as ``+1.2 s``."""
    return f"{'+' if seconds >= 0 else '−'}{shown_seconds(abs(seconds))}"


def _pairs(first: ExecutionInfo, second: ExecutionInfo) -> Iterator[Pair]:
    """Yield each call of two runs once, with the one at its place in the other run."""
    trees = CallTree(first.records), CallTree(second.records)
    redactors = first._redactor, second._redactor
    stack: list[Pair] = [Pair(None, None)]
    while stack:
        callers = stack.pop()
        is_top = callers.first is callers.second is None
        first_children, second_children = (
            [_Child(each, redactor) for each in tree.children(caller)] if is_top or caller is not None else []
            for tree, caller, redactor in zip(trees, (callers.first, callers.second), redactors, strict=True)
        )
        found = _matched(first_children, second_children)
        yield from found
        stack += reversed(found)


class _Child:
    """A call, and what it is matched by."""

    def __init__(self, record: CallRecord, redactor: Redactor) -> None:
        self.record = record
        self.name = (record.name, is_retried(record))  # what was tried again is at no place of what was not
        self.inputs = record.inputs or inputs_text(record.args, record.kwargs, redactor)


def _matched(first: Sequence[_Child], second: Sequence[_Child]) -> list[Pair]:
    """Return the calls that two callers made, in pairs."""
    partners: dict[int, CallRecord] = {}
    left = list(second)
    for key in (attrgetter("name", "inputs"), attrgetter("name")):
        waiting: dict[object, list[_Child]] = defaultdict(list)
        for child in reversed(left):
            waiting[key(child)].append(child)
        for child in first:
            if child.record.index not in partners and waiting[key(child)]:
                partners[child.record.index] = waiting[key(child)].pop().record
        remaining = {id(child) for children in waiting.values() for child in children}
        left = [child for child in left if id(child) in remaining]
    pairs = [Pair(child.record, partners.get(child.record.index)) for child in first]
    return [*pairs, *(Pair(None, child.record) for child in left)]


def _fails(record: CallRecord | None) -> bool:
    return record is not None and record.status is Status.FAILED and not is_retried(record)


def _raises(record: CallRecord | None) -> bool:
    """Return whether a call failed with an error that is not that of a call below it."""
    return record is not None and _fails(record) and not record.raised_by


def _seconds(record: CallRecord) -> float | None:
    return None if record.ended is None else ran_seconds(record)


def _change(first: str, second: str) -> str:
    """Return a number of each run: once if they are the same."""
    first, second = first or "0", second or "0"
    return first if first == second else f"{first} → {second}"


def _numbers(node: NodeSummary | None) -> list[str]:
    if node is None:
        return [""] * 5
    times = ["" if each is None else shown_seconds(each) for each in (node.total, node.mean, node.p95)]
    return [str(node.calls), str(node.failed), *times]
