"""The graph that a snapshot shows, its document and its journal are written by three pieces of code, which agree."""

import attrs
import pytest

from railtracks.state import ExecutionInfo
from railtracks.state._document._reader import read_document
from railtracks.state._journal._format import encode_entries, entries_of, header_entry
from railtracks.state._node_codes import NodeCodes

ENCODED = {"input_args", "input_kwargs", "input_types", "input_form", "output", "output_types", "output_form"}
"""The details of an edge that differ between a live graph, which has values, and a document, which has their texts."""


@pytest.fixture(params=["live", "loaded", "died", "resumed"])
def info(request, small, resumed):
    """A snapshot with calls of all kinds."""
    content, live, loaded, _ = small
    if request.param == "resumed":
        return ExecutionInfo.from_journal(resumed)
    return {"live": live, "loaded": loaded, "died": ExecutionInfo.from_journal(content)}[request.param]


def plain(item):
    """Return a node or an edge as plain data, without the values in it."""
    data = attrs.asdict(item, filter=lambda field, _: field.name not in ENCODED)
    return data


@pytest.mark.parametrize("forest", ["node_forest", "request_forest"])
def test_the_graph_of_a_snapshot_is_that_of_its_document(info, forest):
    document = read_document("".join(info.document()).encode())
    part = {"node_forest": "nodes", "request_forest": "edges"}[forest]
    written = {item.identifier: plain(item) for run in document.runs for item in getattr(run, part)}
    codes = NodeCodes()  # a document has each once
    for item in written.values() if part == "edges" else ():
        item["details"]["code"] = codes.code_of(item["details"]["node"], item["details"]["code"])
    assert {key: plain(item) for key, item in getattr(info, forest).heap().items()} == written
    assert len(written) == len(info.records)


def test_the_stamps_of_a_snapshot_are_those_of_its_document(info):
    document = read_document("".join(info.document()).encode())
    assert (
        sorted((stamp for run in document.runs for stamp in run.steps), key=lambda stamp: stamp.step) == info.all_stamps
    )


def test_the_entries_of_a_snapshot_hold_what_its_document_holds(info):
    """A journal that is written from the records of a document alone gives the same document."""
    read = ExecutionInfo.from_document("".join(attrs.evolve(info, earlier=()).document()).encode())
    texts = [header_entry(read.facts, ""), *entries_of(read.records)]
    again = ExecutionInfo.from_journal(encode_entries(texts)[0], running=True)
    expected = [attrs.evolve(record, reason=None if record.ended is None else record.reason) for record in read.records]
    assert again.damage is None
    assert again.payload()["runs"] == attrs.evolve(read, records=tuple(expected)).payload()["runs"]
