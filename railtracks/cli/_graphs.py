"""Which node called which, as a picture: for mermaid and for graphviz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import attrs

from railtracks import ExecutionInfo
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._views._texts import shown_seconds

_MAX_NAME = 60


@attrs.frozen
class _Graph:
    """The nodes of a run, each with a label and whether a call of it failed, and how often one called another."""

    nodes: dict[str, tuple[str, bool]]
    edges: Counter[tuple[str, str]]


def _graph(info: ExecutionInfo) -> _Graph:
    nodes = {
        each.name: (
            f"{shorten(info._redactor.redact_name(each.name), _MAX_NAME)} × {each.calls}, {shown_seconds(each.total)}"
            + (f", {each.failed} failed" if each.failed else ""),
            each.failed > 0,
        )
        for each in info.summary().nodes
    }
    names = {record.index: record.name for record in info.records}
    edges = Counter((names[r.parent], r.name) for r in info.records if r.parent in names)
    return _Graph(dict(sorted(nodes.items())), edges)


def _lines(graph: _Graph, node: Callable[[int, str, bool], str], edge: Callable[[int, int, int], str]) -> Iterable[str]:
    numbers = {name: number for number, name in enumerate(graph.nodes)}
    for name, (label, failed) in graph.nodes.items():
        yield node(numbers[name], label, failed)
    for (caller, called), count in sorted(graph.edges.items()):
        yield edge(numbers[caller], numbers[called], count)


def mermaid(info: ExecutionInfo) -> str:
    """Return a flowchart of mermaid: the nodes, and how often one called another."""

    def node(number: int, label: str, failed: bool) -> str:
        return f'    n{number}["{_entities(label)}"]{":::failed" if failed else ""}'

    def edge(caller: int, called: int, count: int) -> str:
        return f"    n{caller} -->|{count}| n{called}"

    lines = _lines(_graph(info), node, edge)
    return "\n".join(["flowchart TD", *lines, "    classDef failed stroke:#cf222e,stroke-width:2px"])


def _entities(text: str) -> str:
    """Return a text with entities in place of what means something in a label of mermaid."""
    return "".join(each if each.isalnum() or each in " ,.×_-" else f"#{ord(each)};" for each in text)


def dot(info: ExecutionInfo) -> str:
    """Return a graph of graphviz: the nodes, and how often one called another."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def node(number: int, label: str, failed: bool) -> str:
        return f"    n{number} [label={quoted(label)}{', color=red' if failed else ''}];"

    def edge(caller: int, called: int, count: int) -> str:
        return f'    n{caller} -> n{called} [label="{count}"];'

    lines = _lines(_graph(info), node, edge)
    return "\n".join(["digraph run {", f"    label={quoted(info._title)};", "    node [shape=box];", *lines, "}"])
