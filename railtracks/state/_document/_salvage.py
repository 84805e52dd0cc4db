"""What can be used of a damaged document: the calls on those of its lines that still have their checksum.

The result is a document again, without checksums, which is read like any other. In place of a call whose record is
damaged it has an open call without arguments, so that the calls below it keep their caller, and the calls above it are
not replayed: what happened below them is not known.

The checksums stand at the end. Of a document that is cut off before them, those lines are used that are complete: what
was cut off is all that can be wrong with them, unless something else has happened too. So they are used only if all
checksums that are left agree, and the document says that it could not be checked.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from json import JSONDecoder
from typing import Any

from railtracks._identifiers import edge_id, index_of, node_id, run_id
from railtracks._wording import counted
from railtracks.exceptions import StateError
from railtracks.state._document._checksums import find_checksums
from railtracks.state._document._lines import Cut, Lines, cut_lines, damaged_lines, is_cut_off
from railtracks.state._document._writer import VERSION
from railtracks.state._serialization._record_text import dumps, loads

_ITEM = re.compile(r'(?:^|"(?:nodes|edges)": \[)(?=\{"identifier": "(?P<session>[^"\\]*)-[ne]\d+", )')
_RUN = re.compile(r'(?:^|"(?:runs|earlier)": \[)\{"name": "(?:[^"\\]|\\.)*", "run_id": "(?P<run>[^"\\]*)", ')
_CALLERS = re.compile(r'"(?:earlier_)?callers": (?=\[)')
_SHOWN = 10
_UNKNOWN = "(damaged)"
_REPAIR = 'if you have edited it, remove its member "checksums", so that it is used as it is'


def undamaged_part(content: bytes) -> tuple[bytes, str | None]:
    """Return what can be used of a document, as a document, and what is wrong with the rest; None if nothing is.

    A document without checksums is returned as it is: one of an older version, or one that was not saved.

    Raises:
        StateError: It has checksums, and nothing of it has its own.
    """
    checksums = find_checksums(content)
    if checksums is None:
        return _Salvage(*cut_lines(content)).result() if is_cut_off(content) else (content, None)
    return (content, None) if checksums.is_whole else _Salvage(*damaged_lines(content, checksums)).result()


def check_formatted(content: bytes, data: dict[str, Any]) -> None:
    """Check that the checksums of a parsed document were found in its bytes.

    Raises:
        StateError: It has checksums, and they cannot be compared.
    """
    if "checksums" in data and find_checksums(content) is None:
        raise StateError(f"the document is damaged, or another program has formatted it; {_REPAIR}")


class _Salvage:
    """Collects the whole lines of one document.

    Args:
        facts: The members before its runs.
        lines: Its lines up to the end of its runs, and those of the earlier runs. None for lines that are damaged.
        cut: What is known of its end if it is cut off; None if it is not.
    """

    def __init__(self, facts: dict[str, Any], lines: Sequence[Lines], cut: Cut | None = None) -> None:
        self._facts = facts
        self._cut = cut
        self._session: str | None = self._facts.get("session_id")
        self._lost: list[str] = []
        self._forgotten = 0  # calls that may have made one that is lost
        self._total = 0
        self._sections = [self._read(part) for part in lines]

    def _read(self, lines: Lines) -> _Section:
        section = _Section()
        for line in lines:
            if line is not None:
                with suppress(*([ValueError] if self._cut else [])):  # a line that is cut off
                    self._read_line(line, section)
        return section

    def _read_line(self, line: str, section: _Section) -> None:
        if callers := _CALLERS.match(line):
            section.callers = _DECODER.raw_decode(line, callers.end())[0]
            section.end = max(section.end, len(section.callers))
        if run := _RUN.search(line):
            section.last_root = index_of(run["run"])
            section.roots.add(section.last_root)
        if item := _ITEM.search(line):
            self._session = self._session or loads(f'"{item["session"]}"')
            found, end = _DECODER.raw_decode(line, item.end())
            if line[end : end + 1] in ("", ",", "]"):
                section.add(found)

    def result(self) -> tuple[bytes, str]:
        """Return the document, and what is wrong with it."""
        runs, earlier = self._sections
        if self._session is None or not any((runs.nodes, runs.edges, earlier.nodes, earlier.edges)):
            how = "damaged (checksum)" if self._cut is None else "cut off"
            raise StateError(f"the document is {how}, and nothing of it can be used; {self._repair()}")
        data: dict[str, Any] = {"version": VERSION, "flow_name": None, "flow_id": None, "session_id": self._session}
        data |= {"session_name": None, "start_time": None, "end_time": None, **self._facts}
        data["runs"] = self._runs(runs, data.get("calls", 0))
        data["earlier"] = self._runs(earlier, 0)
        return dumps(data).encode(), self._damage()

    def _damage(self) -> str:
        parts = []
        if not self._facts:
            parts.append("its beginning, which says which flow it is of")
        if self._lost:
            shown = ", ".join(self._lost[:_SHOWN]) + (", ..." if len(self._lost) > _SHOWN else "")
            parts.append(f"the records of {len(self._lost)} of its {counted(self._total, 'call')} ({shown})")
        what = f"{' and '.join(parts)} cannot be used" if parts else "nothing that is needed is lost"
        if self._forgotten:
            what += f", and {counted(self._forgotten, 'call')} that may have made some of these will run again"
        if self._cut is None:
            return f"the document is damaged (checksum): {what}; {_REPAIR}"
        if self._cut.may_lack_earlier:
            what += ", and so may be records of the attempts before"
        unchecked = "" if self._cut.is_checked else "; what stands before the cut is used, but it could not be checked"
        return f"the document is cut off: {what}{unchecked}"

    @property
    def _is_prefix(self) -> bool:
        return self._cut is not None and self._cut.is_prefix

    def _repair(self) -> str:
        return _REPAIR if self._cut is None else "remove it, restore it from a copy, or use another run_identifier"

    def _runs(self, section: _Section, calls: int) -> list[dict[str, Any]]:
        """Return the runs of a section, with open calls in place of those whose records are damaged."""
        assert self._session is not None
        runs: dict[int, dict[str, Any]] = {}
        roots: dict[int, int] = {}
        homeless: list[int] = []  # the steps at which calls were made whose caller is not known
        for index in range(max(calls, section.end)):
            self._total += 1
            node, edge = section.nodes.get(index), section.edges.get(index)
            if node is None or edge is None:
                node, edge = self._placeholder(section, index, node, edge)
                self._lost.append(f"{index} {node['name']}")
                if not section.knows_caller(index) and not (self._is_prefix and index not in section.nodes):
                    homeless.append(edge["stamp"]["step"])
            root = roots[index] = index if edge["source"] is None else roots[index_of(edge["source"])]
            run = runs.setdefault(root, _run(self._session, root, node, edge))
            run["nodes"].append(node)
            run["edges"].append(edge)
        callers = [
            edge for index, edge in section.edges.items() if not self._is_prefix or roots[index] == section.last_root
        ]
        self._forgotten += _forget_nodes(callers, homeless)
        if self._lost:
            _mark_unknown_code([edge for run in runs.values() for edge in run["edges"]])
        return list(runs.values())

    def _placeholder(
        self, section: _Section, index: int, node: dict[str, Any] | None, edge: dict[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a node and an edge for a call of which one or both are damaged."""
        assert self._session is not None
        known = node or edge or section.before(index) or {"stamp": {"step": 0, "time": 0.0}}
        created = (known.get("parent") or known)["stamp"]
        stamp = {**created, "identifier": f"CREATED {_UNKNOWN}"} if node is edge else created
        name = stamp["identifier"].removeprefix("CREATED ")
        kind = "Other" if node is None else node["node_type"]
        source = self._caller(section, index) if edge is None else edge["source"]
        target = node_id(self._session, index)
        return (
            {
                "identifier": target, "node_type": kind, "name": name, "stamp": stamp, "details": {"internals": {}},
                "parent": None,
            },
            {
                "identifier": edge_id(self._session, index), "source": source, "target": target, "stamp": stamp,
                "details": {
                    "input_args": [], "input_kwargs": {}, "input_form": "opaque", "status": "Open", "output": None,
                    "reason": None, "abandoned": False,
                },
                "parent": None,
            },
        )  # fmt: skip

    def _caller(self, section: _Section, index: int) -> str | None:
        """Return the node that made a call. If it is not known, the latest top-level call before stands for it."""
        assert self._session is not None
        if section.knows_caller(index):
            caller = section.callers[index] if section.callers else None
        elif self._is_prefix:  # in the last run, or in one of which nothing is there
            caller = section.last_root if index in section.nodes else None
        else:
            caller = max((root for root in section.roots if root < index), default=None)
        return None if caller is None else node_id(self._session, caller)


class _Section:
    """The nodes and edges that are whole, by the index of their call: of the runs, or of the earlier runs."""

    def __init__(self) -> None:
        self.nodes: dict[int, dict[str, Any]] = {}
        self.edges: dict[int, dict[str, Any]] = {}
        self.roots: set[int] = set()
        self.last_root: int | None = None
        self.callers: list[int | None] = []
        self.end = 0

    def add(self, item: dict[str, Any]) -> None:
        index = index_of(item["identifier"])
        self.end = max(self.end, index + 1)
        if "node_type" in item:
            self.nodes[index] = item
        else:
            self.edges[index] = item
            if item["source"] is None:
                self.roots.add(index)

    def knows_caller(self, index: int) -> bool:
        """Return whether it is known which call made a call, in ``callers`` or elsewhere."""
        return index < len(self.callers) or index in self.edges or index in self.roots

    def before(self, index: int) -> dict[str, Any] | None:
        """Return the nearest node or edge before a call."""
        places = range(index - 1, -1, -1)
        return next((found for at in places if (found := self.nodes.get(at) or self.edges.get(at))), None)


_DECODER = JSONDecoder()


def _forget_nodes(edges: Sequence[dict[str, Any]], steps: list[int]) -> int:
    """Leave out the node keys of those calls that were open at one of some steps, so that they are not replayed.

    Returns:
        The number of these calls.
    """
    steps.sort()
    count = 0
    for edge in edges:
        begin = (edge["parent"] or edge)["stamp"]["step"]
        end = math.inf if edge["parent"] is None else edge["stamp"]["step"]
        place = bisect_left(steps, begin)
        if place < len(steps) and steps[place] < end:
            count += edge["details"].pop("node", None) is not None
    return count


def _mark_unknown_code(edges: Sequence[dict[str, Any]]) -> None:
    """Mark the first call of each node behind a lost one, unless it has a digest of its code.

    The digest stands at the first call that has it. It may be another one than that before the lost call.
    """
    known: set[str | None] | None = None  # the nodes whose digest is known; None: all of them
    for edge in edges:
        details = edge["details"]
        if "node" not in details:  # it is lost, or may have made one that is
            known = set()
        elif known is not None and details.get("node") not in known:
            known.add(details.get("node"))
            details.setdefault("code", "")


def _run(session: str, root: int, node: dict[str, Any], edge: dict[str, Any]) -> dict[str, Any]:
    """Return a run without calls."""
    first = (node["parent"] or node)["stamp"]
    return {
        "name": node["name"], "run_id": run_id(session, root), "status": edge["details"]["status"],
        "start_time": first["time"], "end_time": None if node["parent"] is None else node["stamp"]["time"],
        "nodes": [], "edges": [], "steps": [],
    }  # fmt: skip
