"""How a document is read: from any version, with exact errors, back into records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import attrs
import cattrs

from railtracks._identifiers import index_of
from railtracks._wording import counted
from railtracks.exceptions import StateError
from railtracks.state._document._checksums import find_checksums
from railtracks.state._document._compression import decompress, is_compressed, salvage
from railtracks.state._document._converter import converter
from railtracks.state._document._graph import ContextChange, ContextRead, Document, Edge, EdgeDetails, Node, Run
from railtracks.state._document._lines import is_cut_off
from railtracks.state._document._salvage import check_formatted, undamaged_part
from railtracks.state._document._stream_reader import FACTS, DocumentContent, read_as_written
from railtracks.state._document._writer import DOCUMENT_BEGINS, LAST_TRANSLATED, VERSION
from railtracks.state._node_codes import NodeCodes
from railtracks.state._records import CallRecord, Change, Form, PolicyFacts, Read, Status
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import dumps, format_inputs, format_output, loads, parse_members
from railtracks.state._serialization._stored_messages import MessageTable, whole_text
from railtracks.state._shared_texts import StoredText, set_inputs, set_output, shares_messages


def read_content(content: bytes) -> DocumentContent:
    """Read a document of any version, back into records.

    Raises:
        StateError: It is not a document, or its version is unknown. The message says where it is wrong.
    """
    found = read_as_written(decompress(content))
    if found is not None:
        return found
    text, damage = undamaged_part(_text_of(content))
    document = read_document(text)
    facts = {name: getattr(document, name) for name in FACTS}
    messages = MessageTable()
    records, earlier = (read_records(runs, damage is None, messages) for runs in (document.runs, document.earlier))
    return DocumentContent(facts, records, earlier, damage)


def _text_of(content: bytes) -> bytes:
    """Return the text of a document; if it is compressed and damaged, as much as is needed to find what is whole."""
    try:
        return b"".join(decompress(content)) if is_compressed(content) else content
    except StateError:
        text = salvage(content)
        if find_checksums(text) is None and not is_cut_off(text := salvage(content, only_checked=True)):
            raise
        return text


def read_document(content: bytes) -> Document:
    """Read a document of any version.

    Raises:
        StateError: It is not a document, or its version is unknown. The message says where it is wrong.
    """
    try:
        data = loads(content)
    except (ValueError, RecursionError) as exc:
        if content.startswith(DOCUMENT_BEGINS) or not content.strip():
            how = "cut off" if content.strip() else "empty"
            raise StateError(
                f"this is not a state file: it is {how}, and nothing of it can be used ({exc}); remove it, restore it "
                f"from a copy, or use another run_identifier"
            ) from exc
        raise StateError(f"this is not a state file: {exc}") from exc
    if not isinstance(data, dict):
        raise StateError(f"this is not a state file: it holds a {type(data).__name__}")
    check_formatted(content, data)
    _migrate(data)
    return _structure(data)


def _structure(data: dict[str, Any]) -> Document:
    """Turn plain data into a document.

    Detailed errors take twice the time, so they are only asked for once there is an error.
    """
    try:
        return converter(detailed_validation=False).structure(data, Document)
    except Exception:  # whatever wrong data leads to
        try:
            return converter().structure(data, Document)
        except cattrs.BaseValidationError as exc:
            problems = "; ".join(cattrs.transform_error(exc, path="state"))
            raise StateError(f"this is not a state file: {problems}") from exc


def _migrate(data: dict[str, Any]) -> None:
    """Turn a document of any version into one of the current version, in place.

    What an older version did not record stays absent, except that forms become ``Form.UNKNOWN``. ``version`` stays as
    it is.

    Raises:
        StateError: This release does not know the version.
    """
    version = data.get("version")
    if type(version) is not int or version not in range(1, VERSION + 1):
        raise StateError(f"the state has version {version!r}; this release of railtracks reads 1 to {VERSION}")
    if version <= LAST_TRANSLATED:
        from railtracks.state._serialization._former_names import translate  # here, as it serves old documents only

        for details in _all_details(data):
            if version == 1:  # which did not record how much of a value was written
                details.update(input_form=Form.UNKNOWN.value, output_form=Form.UNKNOWN.value)
            translate(details)
            for change in _dicts_in(details, "context"):
                translate(change)


def _all_details(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the details of all edges of a document that has not been validated."""
    for name in ("runs", "earlier"):
        for run in _dicts_in(data, name):
            for edge in _dicts_in(run, "edges"):
                if isinstance(edge.get("details"), dict):
                    yield edge["details"]


def _dicts_in(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return those items of a member that are objects; none if the member is not an array."""
    items = data.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def read_records(
    runs: Iterable[Run], is_whole: bool = True, messages: MessageTable | None = None
) -> tuple[CallRecord, ...]:
    """Return the records from which the runs were written. Their times are in seconds since the epoch.

    Args:
        runs: The runs.
        is_whole: Whether no call is missing. Otherwise digests of code, each of which is written once for several
            calls, are not known.
        messages: The messages of the document that were read before.

    Raises:
        StateError: The runs contradict themselves. The message says where.
    """
    records = []
    codes, messages = NodeCodes(), messages or MessageTable()
    for run in runs:
        if len(run.nodes) != len(run.edges):
            raise StateError(
                f"run {run.run_id!r} has {counted(len(run.nodes), 'node')} but {counted(len(run.edges), 'edge')}"
            )
        records += [
            _read_record(node, edge, _index(run.run_id), codes, messages)
            for node, edge in zip(run.nodes, run.edges, strict=True)
        ]
    if not is_whole:
        for record in records:
            record.code = None
    return tuple(sorted(records, key=lambda record: record.index))


def _index(identifier: str) -> int:
    try:
        return index_of(identifier)
    except ValueError:
        raise StateError(f"{identifier!r} is not an identifier of a node, an edge or a run") from None


def _read_record(node: Node, edge: Edge, run: int, codes: NodeCodes, messages: MessageTable) -> CallRecord:
    details, texts = _with_messages(edge, messages)
    for name, value, kind in (("input_args", details.input_args, list), ("input_kwargs", details.input_kwargs, dict)):
        if not isinstance(value, kind):
            raise StateError(f"{name} of {edge.identifier!r} must be a {kind.__name__}, not {value!r}")
    created = (node.parent or node).stamp
    ended = None if node.parent is None else node.stamp
    args, kwargs, output = (_decoded(edge, name, details) for name in ("input_args", "input_kwargs", "output"))
    failed = details.status is Status.FAILED and isinstance(output, BaseException)
    record = CallRecord(
        index=_index(node.identifier),
        parent=None if edge.source is None else _index(edge.source),
        run=run,
        name=node.name,
        node_type=node.node_type,
        args=tuple(args),
        kwargs=kwargs,
        started_step=created.step,
        started=created.time,
        status=details.status,
        ended_step=None if ended is None else ended.step,
        ended=None if ended is None else ended.time,
        result=None if failed else output,
        exception=cast(BaseException, output) if failed else None,
        reason=details.reason,
        abandoned=details.abandoned,
        node=details.node,
        changes=[_read_change(change) for change in details.context] or None,
        reuse=details.reuse,
        attributes=dumps(node.details["attributes"]) if "attributes" in node.details else None,
        timeout=details.timeout,
        reads={read.key: _read_read(read) for read in details.reads} or None,
        branch=None if details.branch is None else tuple(details.branch),
        was_left=details.was_left,
        attempt=details.attempt,
        policy=_policy_of(details),
        code=codes.code_of(details.node, details.code),
        raised_by=None if details.raised_by is None else tuple(details.raised_by),
    )
    set_inputs(record, texts[0])
    set_output(record, None if details.status is Status.OPEN else texts[1])
    return record


def _with_messages(edge: Edge, messages: MessageTable) -> tuple[EdgeDetails, tuple[StoredText, StoredText]]:
    """Return the details of an edge with the messages to which they refer, and the texts of its record."""
    details = edge.details
    inputs = format_inputs(details.input_args, details.input_kwargs, details.input_form, details.input_types)
    output = format_output(details.output, details.output_form, details.output_types)
    if not (details.messages or shares_messages(inputs) or shares_messages(output)):
        return details, (inputs, output)
    try:
        messages.add(details.messages)  # type: ignore[arg-type]  # malformed ones raise
    except Exception as exc:
        raise StateError(f"messages of {edge.identifier!r} cannot be restored: {exc!r}") from exc
    texts = messages.resolve(inputs), messages.resolve(output)
    members = parse_members(whole_text(texts[0])) | parse_members(whole_text(texts[1]))
    names = ("input_args", "input_kwargs", "output")
    return attrs.evolve(details, **{name: members[name] for name in names}), texts


def _policy_of(details: EdgeDetails) -> PolicyFacts | None:
    facts = PolicyFacts(*(getattr(details, name) for name in PolicyFacts._fields))
    return None if facts == PolicyFacts() else facts


def _decoded(edge: Edge, name: str, details: EdgeDetails) -> Any:
    try:
        return decode(getattr(details, name))
    except Exception as exc:  # a registered hook raises, or a mark is malformed
        raise StateError(f"{name} of {edge.identifier!r} cannot be restored: {exc}") from exc


def _read_change(change: ContextChange) -> Change:
    value = None if change.deleted else dumps(change.value)
    types = None if change.types is None else dumps(change.types)
    return Change(change.order, change.key, value, change.form, types)


def _read_read(read: ContextRead) -> Read:
    types = None if read.types is None else dumps(read.types)
    return Read(None if read.missing else dumps(read.value), types, read.depth)
