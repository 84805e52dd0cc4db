"""How a document is read as this library writes it: in pieces, and straight into records.

Parsing all of a large document at once would hold up every other thread for seconds, and the objects of the graph would
take many times the memory of their text. So the text passes by in a window, and each call is matched against the
templates that ``_writer.py`` has for it. The texts of its arguments and its result are cut out as they stand there.

A document that does not match anywhere was formatted by another program, is damaged, or has members that this module
does not know. ``_reader.py`` reads it as a whole then, and finds out what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from railtracks.state._document._checksums import CheckedPieces
from railtracks.state._document._window import SEPARATORS, OtherFormatError, Window, after
from railtracks.state._document._writer import LAST_TRANSLATED, VERSION, parse_read
from railtracks.state._node_codes import NodeCodes
from railtracks.state._records import CallRecord, Change, Form, PolicyFacts, Read, Reason, Status, policy_facts_in
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._loaded_record import LoadedRecord, check_inputs, check_output
from railtracks.state._serialization._record_text import dumps, json_decoder, loads
from railtracks.state._serialization._stored_messages import MessageTable

_NAMES = ("flow_name", "flow_id", "session_id", "session_name")
_TIMES = ("start_time", "end_time")
_OPTIONAL = {"processor_seconds": float, "peak_memory_bytes": int, "traceparent": str}
FACTS = (*_NAMES, *_TIMES, "interrupted", *_OPTIONAL)
"""The members of a document that say which session it is, and how it ended."""

MAX_HEAD = 1 << 24
"""The number of characters in which the runs must begin."""
_STR = r'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*'
_INT = r"(?:0|[1-9]\d*)"
_NUM = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?"
_STAMP = rf'\{{"step": ({_INT}), "time": ({_NUM}), "identifier": "{_STR}"\}}'
_ANY_STAMP = rf'\{{"step": {_INT}, "time": {_NUM}, "identifier": "{_STR}"\}}'
_KIND = rf'"node_type": "({_STR})", "name": "({_STR})", "stamp": '
_OPENED = ', "status": "Open", "output": null, "reason": null, "abandoned": false}, "parent": null}}'


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII)


_HEAD_END = ', "runs": ['
_LATENCY = _pattern(rf'{_STAMP}, "details": \{{"internals": \{{"latency": \{{"total_time": {_NUM}\}}\}}')
_CREATED = _pattern(rf'{_STAMP}, "details": \{{"internals": \{{\}}')
_ATTRIBUTES = ', "attributes": '
_STATUS = _pattern(r', "status": "(\w+)", "output": ')
_USUAL_REST = _pattern(rf', "reason": null, "abandoned": false(?:, "node": "({_STR})")?\}}')
_MEMBER = _pattern(r',[ \n]"(\w+)": ')
_FORM = _pattern(r', "(?:input|output)_form": "(\w+)"')
_STEP = _pattern(rf"{_ANY_STAMP}(?:, {_ANY_STAMP}){{,255}}")
_CALLERS = _pattern(rf"(?:null|{_INT})(?:, (?:null|{_INT})){{,4095}}(?=[,\]])")
_REST_MEMBERS = {
    "reason", "abandoned", "node", "code", "context", "reuse", "reads", "branch", "attempt", "raised_by",
    "was_left", "timeout", "messages", *PolicyFacts._fields,
}  # fmt: skip
_FORMS = {form.value for form in Form if form is not Form.PLAIN}
_STATUSES = {status.value: status for status in Status}


class DocumentContent(NamedTuple):
    """What was read from a document. Times are in seconds since the epoch."""

    facts: dict[str, Any]
    """The members that say which session it was."""
    records: tuple[CallRecord, ...]
    earlier: tuple[CallRecord, ...]
    """The calls of the session that this one resumed."""
    damage: str | None = None
    """What could not be used, and why; None if all of it is whole."""


def read_as_written(pieces: Iterable[bytes | memoryview]) -> DocumentContent | None:
    """Read a document that this library has written, or return None if it does not look like one.

    Args:
        pieces: The bytes of the document.
    """
    try:
        return _Reader(pieces).read()
    except Exception:  # whatever other data leads to, or a hook of a registered type raises
        return None


class _Reader:
    """Reads one document."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._sums = CheckedPieces(pieces)
        self._window = Window(self._sums)
        self._scan: Callable[[str, int], tuple[Any, int]] = json_decoder().scan_once  # type: ignore[attr-defined]
        self._texts: dict[str, str] = {}
        self._messages = MessageTable()
        self._run: list[LoadedRecord] = []
        self._index = 0
        self._name = ""  # of the latest member behind the runs

    def read(self) -> DocumentContent:
        window = self._window
        while _HEAD_END not in window.text:
            if not window.fill() or len(window.text) > MAX_HEAD:
                raise OtherFormatError
        end = window.text.index(_HEAD_END)
        facts = _checked(loads(window.text[:end] + "}"))
        self._prepare(dumps(facts["session_id"])[1:-1])
        window.at = end + len(_HEAD_END)
        records = self._read_runs()
        earlier: tuple[CallRecord, ...] = ()
        while not window.skips("}"):
            window.take(self._read_name)
            if self._name == "earlier":
                window.expect("[")
                earlier = self._read_runs()
            elif self._name in ("callers", "earlier_callers"):
                window.expect("[")
                window.items(_skip_callers)
            else:
                window.take(self._skip_value)
        while window.fill():
            pass
        if window.text[window.at :].strip() or (self._name == "checksums") != (self._sums.is_whole is True):
            raise OtherFormatError
        return DocumentContent(facts, records, earlier)

    def _prepare(self, session: str) -> None:
        s = re.escape(session)
        self._run_head = _pattern(
            rf'\{{"name": "{_STR}", "run_id": "{s}-r({_INT})", "status": "(\w+)", "start_time": {_NUM}, '
            rf'"end_time": (?:null|{_NUM}), "nodes": \['
        )
        self._node_head = _pattern(rf'\{{"identifier": "{s}-n({_INT})", {_KIND}')
        self._usual_node = _pattern(
            rf'\{{"identifier": "{s}-n({_INT})", {_KIND}{_LATENCY.pattern}\}}, "parent": '
            rf'\{{"identifier": "{s}-n\1", "node_type": "\2", "name": "\3", "stamp": {_CREATED.pattern}\}}, '
            r'"parent": null\}\}'
        )
        self._edge_head = _pattern(
            rf'(\{{"identifier": "{s}-e({_INT})", "source": (?:null|"{s}-n({_INT})"), "target": "{s}-n({_INT})", '
            rf'"stamp": ){_ANY_STAMP}, "details": \{{'
        )
        self._parent_stamp = _pattern(_ANY_STAMP + r', "details": \{')

    def _read_name(self, text: str, at: int) -> int:
        found = _MEMBER.match(text, at)
        if found is None or found[1] in ("runs", "version"):
            raise OtherFormatError
        self._name = found[1]
        return found.end()

    def _skip_value(self, text: str, at: int) -> int:
        end = self._scan(text, at)[1]
        if text[end : end + 1] not in (",", "}"):  # a number may go on in the next piece
            raise OtherFormatError
        return end

    # ---- runs

    def _read_runs(self) -> tuple[CallRecord, ...]:
        """Read the runs of an array whose bracket was opened."""
        window, records = self._window, []
        self._codes = NodeCodes()
        if not window.skips("]"):
            while True:
                records += self._read_run()
                if window.skips("]"):
                    break
                window.expect(*SEPARATORS)
        return _in_order(records)

    def _read_run(self) -> list[LoadedRecord]:
        window = self._window
        self._run = []
        window.take(self._read_head)
        window.items(self._read_node)
        window.expect(', "edges": [', ',\n"edges": [')
        self._index = 0
        window.items(self._read_edge)
        if self._index != len(self._run):
            raise OtherFormatError
        window.expect(', "steps": [', ',\n"steps": [')
        window.items(_skip_steps)
        window.expect("}")
        return self._run

    def _read_head(self, text: str, at: int) -> int:
        found = self._run_head.match(text, at)
        if found is None or found[2] not in _STATUSES:
            raise OtherFormatError
        self._run_index = int(found[1])
        return found.end()

    def _text(self, raw: str) -> str:
        """Return a JSON string without its quotes as text. There are few different ones."""
        text = self._texts.get(raw)
        if text is None:
            text = loads(f'"{raw}"') if "\\" in raw else raw
            if len(self._texts) < 4096:
                self._texts[raw] = text
        return text

    # ---- nodes

    def _read_node(self, text: str, at: int) -> int:
        found = self._usual_node.match(text, at)
        if found is not None:
            index, kind, name, ended_step, ended, step, started = found.groups()
            self._add(index, kind, name, step, started, int(ended_step), float(ended), None)
            return found.end()
        head = self._node_head.match(text, at)
        if head is None:
            raise OtherFormatError
        latest = _LATENCY.match(text, head.end())
        created = _CREATED.match(text, head.end())
        found = latest or created
        if found is None:
            raise OtherFormatError
        attributes, end = self._read_attributes(text, found.end())
        if latest is None:
            end = after(text, end, '}, "parent": null}')
            self._add(head[1], head[2], head[3], found[1], found[2], None, None, attributes)
            return end
        end = after(text, end, f'}}, "parent": {head[0]}')
        created = _CREATED.match(text, end)
        if created is None:
            raise OtherFormatError
        end = after(text, created.end(), '}, "parent": null}}')
        self._add(
            head[1], head[2], head[3], created[1], created[2], int(latest[1]), float(latest[2]), attributes
        )  # fmt: skip
        return end

    def _read_attributes(self, text: str, at: int) -> tuple[str | None, int]:
        if not text.startswith(_ATTRIBUTES, at):
            return None, at
        start = at + len(_ATTRIBUTES)
        _, end = self._scan(text, start)
        return text[start:end], end

    def _add(
        self, index: str, kind: str, name: str, step: str, started: str,
        ended_step: int | None, ended: float | None, attributes: str | None,
    ) -> None:  # fmt: skip
        record = LoadedRecord(
            int(index), None, self._run_index, self._text(name), self._text(kind), (), {}, int(step), float(started),
            ended_step=ended_step, ended=ended, attributes=attributes,
        )  # fmt: skip
        self._run.append(record)

    # ---- edges

    def _read_edge(self, text: str, at: int) -> int:
        head = self._edge_head.match(text, at)
        if head is None:
            raise OtherFormatError
        facts, index, source, target = head.groups()
        record = self._run[self._index]
        if int(index) != record.index or int(target) != record.index:
            raise OtherFormatError
        args, kwargs, inputs, end = self._read_inputs(text, head.end())
        status = _STATUS.match(text, end)
        if status is None:
            raise OtherFormatError
        data, end = self._scan(text, status.end())
        end = self._after_marks(text, end, "output")
        output = text[status.end() - len('"output": ') : end]
        usual = _USUAL_REST.match(text, end)
        rest, end = self._read_rest(text, end) if usual is None else (None, usual.end())
        if text.startswith(', "parent": null}', end):
            end += len(', "parent": null}')
        else:
            stamp = self._parent_stamp.match(text, after(text, end, f', "parent": {facts}'))
            if stamp is None:
                raise OtherFormatError
            end = after(text, stamp.end(), inputs + _OPENED)
        record.parent = None if source is None else int(source)
        record.status = _STATUSES[status[1]]
        if rest is not None:
            self._messages.add(rest.get("messages", ()))
        given, returned = self._messages.resolve(inputs), self._messages.resolve(output)
        record.set_inputs(check_inputs(args, kwargs, given), given)
        if record.status is Status.COMPLETED:
            record.set_result(check_output(data, returned), returned)
        else:
            _set_output(record, data, output)
        if rest is not None:
            _set_rest(record, rest)
        elif usual is not None and usual[1] is not None:
            record.node = self._text(usual[1])
        record.code = self._codes.code_of(record.node, None if rest is None else rest.get("code"))
        self._index += 1
        return end

    def _read_inputs(self, text: str, start: int) -> tuple[Any, Any, str, int]:
        args, end = self._scan(text, after(text, start, '"input_args": '))
        kwargs, end = self._scan(text, after(text, end, ', "input_kwargs": '))
        if type(args) is not list or type(kwargs) is not dict:
            raise TypeError
        end = self._after_marks(text, end, "input")
        return args, kwargs, text[start:end], end

    def _after_marks(self, text: str, at: int, of: str) -> int:
        """Return the position behind the types and the form of a value, if they come next."""
        if not text.startswith(f', "{of}_', at):
            return at
        types = f', "{of}_types": '
        if text.startswith(types, at):
            at = self._scan(text, at + len(types))[1]
        form = _FORM.match(text, at)
        if form is None or form[1] not in _FORMS:
            raise OtherFormatError
        return form.end()

    def _read_rest(self, text: str, at: int) -> tuple[dict[str, Any], int]:
        """Read the details of an edge behind its output."""
        rest: dict[str, Any] = {}
        while not text.startswith("}", at):
            member = _MEMBER.match(text, at)
            if member is None or member[1] not in _REST_MEMBERS:
                raise OtherFormatError
            rest[member[1]], at = self._scan(text, member.end())
        return rest, at + 1


def _set_output(record: CallRecord, data: Any, text: str) -> None:
    """Set the output of a call that has not completed."""
    record.output = None if record.status is Status.OPEN else text
    value = decode(data)
    if record.status is Status.FAILED and isinstance(value, BaseException):
        record.exception = value
    else:
        record.result = value


def _set_rest(record: CallRecord, rest: dict[str, Any]) -> None:
    record.node, reuse, timeout = rest.get("node"), rest.get("reuse"), rest.get("timeout")
    record.reuse = reuse
    record.timeout = None if timeout is None else float(timeout)
    record.reason = None if rest.get("reason") is None else Reason(rest["reason"])
    record.abandoned = rest.get("abandoned", False)
    record.reads = dict(map(_read_read, rest.get("reads", ()))) or None
    branch, raised_by = rest.get("branch"), rest.get("raised_by")
    record.branch = None if branch is None else tuple(branch)
    record.raised_by = None if raised_by is None else tuple(raised_by)
    record.was_left = rest.get("was_left")
    record.attempt = rest.get("attempt", 1)
    record.policy = policy_facts_in(rest)
    record.changes = [_read_change(change) for change in rest.get("context", ())] or None
    names = record.node, record.reuse, rest.get("code")
    indices = *(record.branch or ()), *(record.raised_by or ())
    if type(record.was_left) not in (bool, type(None)) or type(record.attempt) is not int:
        raise TypeError
    if type(record.abandoned) is not bool or not all(name is None or type(name) is str for name in names):
        raise TypeError
    if not all(index is None or type(index) is int for index in indices):
        raise TypeError


def _read_change(change: dict[str, Any]) -> Change:
    order, key, deleted = change["order"], change["key"], change["deleted"]
    if type(order) is not int or type(key) is not str or type(deleted) is not bool:
        raise TypeError
    value, types = None if deleted else dumps(change["value"]), change.get("types")
    return Change(order, key, value, Form(change["form"]), None if types is None else dumps(types))


def _read_read(read: dict[str, Any]) -> tuple[str, Read]:
    key, (value, types, depth) = read["key"], parse_read(read)[1]
    if type(key) is not str or type(depth) is not int or type(read["missing"]) is not bool:
        raise TypeError
    return key, Read(value, types, depth)


def _skip_steps(text: str, at: int) -> int:
    found = _STEP.match(text, at)
    if found is None:
        raise OtherFormatError
    return found.end()


def _skip_callers(text: str, at: int) -> int:
    found = _CALLERS.match(text, at)
    if found is None:
        raise OtherFormatError
    return found.end()


def _checked(facts: Any) -> dict[str, Any]:
    """Return the members of the session from those before the runs."""
    version = facts.pop("version")
    if type(version) is not int or not LAST_TRANSLATED < version <= VERSION:
        raise OtherFormatError
    if facts.pop("status") not in _STATUSES or type(facts.pop("calls")) is not int:
        raise OtherFormatError
    found = {name: facts[name] for name in (*_NAMES, *_TIMES)}
    if not all(type(found[name]) is str or (found[name] is None and name != "session_id") for name in _NAMES):
        raise OtherFormatError
    for name in _TIMES:
        if found[name] is not None:
            if type(found[name]) not in (int, float):
                raise OtherFormatError
            found[name] = float(found[name])
    found["interrupted"] = facts.get("interrupted") is True
    for name, kind in _OPTIONAL.items():
        found[name] = facts.get(name)
        if found[name] is not None and type(found[name]) is not kind:
            raise OtherFormatError
    return found


def _in_order(records: list[LoadedRecord]) -> tuple[CallRecord, ...]:
    """Return records by index. They are put in place and not sorted: sorting many would hold up other threads."""
    placed: list[LoadedRecord | None] = [None] * len(records)
    for record in records:
        if record.index >= len(placed) or placed[record.index] is not None:  # a part of a session
            return tuple(sorted(records, key=lambda each: each.index))
        placed[record.index] = record
    return tuple(placed)  # type: ignore[arg-type]
