"""Compare agents: each of them is given each case, scores are nodes, and the outcome is a table.

    evaluation = await evaluate([small, large], [Case("Coat?", expected="yes")], [is_as_expected])
    print(evaluation)

All of it is calls in a session: on record, limited, cancelled and resumed as any others.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import anyio
import attrs

from railtracks import call, call_batch, function_node
from railtracks._test_probe import as_node
from railtracks.exceptions import ConfigError
from railtracks.llm import Usage

__all__ = ["Case", "Evaluation", "Row", "evaluate"]


def _name_of_input(case: Case) -> str:
    return " ".join(str(case.input).split())


@attrs.frozen
class Case:
    """What agents are given.

    Args:
        input: What the agent is called with: a text, a message, a conversation, or what else a node takes.
        expected: Whatever the scores need to know of a good answer.
        name: What the table calls it; by default the input.
    """

    input: Any
    expected: Any = None
    name: str = attrs.field(default=attrs.Factory(_name_of_input, takes_self=True), kw_only=True)


@attrs.frozen
class Row:
    """What came of one case with one agent.

    Args:
        agent: The name of the agent.
        case: The case.
        result: What the agent returned; None if it failed.
        scores: The numbers by the names of the scores, without those that failed.
        errors: What failed, by the names of the agent and the scores: the class and the text of the exception.
        seconds: How long the agent took; in a run that was resumed, without what was replayed.
        usage: The tokens of the agent, as far as its result has them.
    """

    agent: str
    case: Case
    result: Any = None
    scores: Mapping[str, float] = attrs.field(factory=dict)
    errors: Mapping[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0
    usage: Usage = attrs.field(factory=Usage)


@attrs.frozen
class Evaluation:
    """The outcome of ``evaluate``. Printed, it is a table in Markdown with a line for each agent.

    Args:
        rows: What came of each case with each agent, in the order of the agents, then of the cases.
        scores: The names of the scores.
    """

    rows: tuple[Row, ...]
    scores: tuple[str, ...]

    def __str__(self) -> str:
        lines = [["agent", "cases", "failed", *self.scores, "tokens", "seconds"]]
        for agent, rows in self._by_agent().items():
            means = (_number(self.mean(agent, score)) for score in self.scores)
            failed = sum(bool(row.errors) for row in rows)
            usage = sum((row.usage for row in rows), Usage())
            tokens, seconds = usage.input_tokens + usage.output_tokens, sum(row.seconds for row in rows)
            lines.append([agent, str(len(rows)), str(failed), *means, str(tokens), f"{seconds:.1f}"])
        return _table(lines)

    def details(self) -> str:
        """Return a table in Markdown with a line for each case and agent, with what failed."""
        lines = [["case", "agent", *self.scores, "tokens", "seconds", "failed"]]
        cases = len(self.rows) // max(len(self._by_agent()), 1)
        for _, row in sorted(enumerate(self.rows), key=lambda each: each[0] % cases):
            scores = (_number(row.scores.get(score)) for score in self.scores)
            tokens = row.usage.input_tokens + row.usage.output_tokens
            failed = "; ".join(f"{name}: {error}" for name, error in row.errors.items())
            lines.append([row.case.name, row.agent, *scores, str(tokens), f"{row.seconds:.1f}", failed])
        return _table(lines)

    def mean(self, agent: str, score: str) -> float | None:
        """Return the mean of a score over the cases of an agent that have it; None if none has.

        Args:
            agent: The name of the agent.
            score: The name of the score.
        """
        found = [row.scores[score] for row in self.rows if row.agent == agent and score in row.scores]
        return statistics.fmean(found) if found else None

    def _by_agent(self) -> dict[str, list[Row]]:
        return {name: [*rows] for name, rows in itertools.groupby(self.rows, lambda row: row.agent)}


async def evaluate(
    agents: Iterable[Any] | Mapping[str, Any],
    cases: Iterable[Case],
    scores: Iterable[Any] = (),
    *,
    limit: int | None = None,
) -> Evaluation:
    """Call each agent with each case, and score what they return.

    Each pair is a call of the node ``evaluate``, below which the agent and its scores are called. What fails is in the
    rows, and the others go on.

    Args:
        agents: The agents, or other nodes of one argument; those with the same name as a mapping with other names.
        cases: The cases.
        scores: Nodes that are called with what the agent returned and the case, and return a number, or True or False.
            They may be sync or async, and ask models themselves.
        limit: How many pairs are evaluated at one time. None: all.

    Raises:
        ConfigError: Two agents or two scores have the same name, or something is not a list, not a node, or not a case.

    Cancellation: Cancels the calls that run.
    """
    named = _named(agents, "agents")
    scored = _named(scores, "scores")
    given = [*_listed(cases, "cases")]
    for case in given:
        if not isinstance(case, Case):
            raise ConfigError(f"evaluate: {case!r} is not a case; write Case({case!r})")

    async def pair(agent: str, case: Case) -> Row:
        return await _evaluated(agent, named[agent], case, scored)

    node = function_node(pair, name="evaluate")
    names = [name for name in named for _ in given]
    rows = await call_batch(node, names, given * len(named), limit=limit, return_exceptions=False)
    return Evaluation(tuple(rows), tuple(scored))


def _named(nodes: Iterable[Any] | Mapping[str, Any], what: str) -> dict[str, Any]:
    if isinstance(nodes, Mapping):
        for node in nodes.values():
            as_node(node, what, in_list=True)  # which raises if it is none
        return dict(nodes)
    found: dict[str, Any] = {}
    for node in _listed(nodes, what):
        name = as_node(node, what, in_list=True).name
        if name in found:
            raise ConfigError(f"evaluate: two of the {what} are called {name!r}; write {{'one': ..., 'other': ...}}")
        found[name] = node
    return found


def _listed(given: Iterable[Any], what: str) -> Iterable[Any]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ConfigError(f"evaluate: {what} is {given!r}; expected a list: [...]")
    return given


async def _evaluated(name: str, agent: Any, case: Case, scores: Mapping[str, Any]) -> Row:
    start = anyio.current_time()
    try:
        result = await call(agent, case.input)
    except Exception as exc:
        return Row(name, case, errors={name: _error(exc)}, seconds=anyio.current_time() - start)
    seconds = anyio.current_time() - start
    found: dict[str, float] = {}
    errors: dict[str, str] = {}
    for score, node in scores.items():
        try:
            found[score] = _checked(await call(node, result, case))
        except Exception as exc:
            errors[score] = _error(exc)
    usage = getattr(result, "usage", None)
    return Row(name, case, result, found, errors, seconds, usage if isinstance(usage, Usage) else Usage())


def _checked(score: Any) -> float:
    if not isinstance(score, int | float | Decimal):  # a cost is a Decimal
        raise TypeError(f"it returned {score!r}; expected a number, True or False")
    return float(score)


def _error(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.2f}"  # a cost may be much less than a cent


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, of which the first line is the head."""
    cells = [[_cell(text) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    head, *others = (f"| {row} |" for row in rows)
    return "\n".join([head, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *others])


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= _MAX_CELL else f"{line[: _MAX_CELL - 3]}..."


_MAX_CELL = 60
"""Characters of a cell that are shown at most."""
