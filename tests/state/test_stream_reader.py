"""Documents that are read in pieces: the same records as from the reader of whole documents, wherever pieces end."""

import datetime
import json
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import ExecutionInfo, MemoryStore, Reason
from railtracks.state._document import _reader
from railtracks.state._document._reader import read_document, read_records
from railtracks.state._document._stream_reader import read_as_written
from railtracks.state._document._writer import encoded
from railtracks.state._records import CallRecord, Change, Form, PolicyFacts, Read, copy_record
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._loaded_record import LoadedRecord
from railtracks.state._serialization._stored_messages import MessageTable
from railtracks.state._transitions import RTState
from tests.effort import examples

RELEASES = sorted(Path(__file__).parents[1].glob("compat/0.1.0.dev*/**/*.json"))


def pieces(content, size):
    return [content[start : start + size] for start in range(0, len(content), size)]


def shown(record):
    """Everything in a record, with the types of all values."""
    values = {field.name: getattr(record, field.name) for field in attrs.fields(CallRecord)}
    return {name: (type(value), repr(value)) for name, value in values.items()}


def assert_read_alike(content, size=1 << 20):
    """Assert that both readers return the same records of a document, and return what the one for pieces returns."""
    found = read_as_written(pieces(content, size))
    assert found is not None
    document = read_document(content)
    assert found.facts == {name: getattr(document, name) for name in found.facts}
    messages = MessageTable()
    for records, runs in ((found.records, document.runs), (found.earlier, document.earlier)):
        assert list(map(shown, records)) == list(map(shown, read_records(runs, messages=messages)))
    return found


def document_of(info):
    return b"".join(encoded(info.document()))


@pytest.fixture(params=["live", "loaded", "died", "resumed"])
def content(request, small, resumed):
    """The document of a run with calls of all kinds."""
    journal, live, loaded, _ = small
    if request.param == "resumed":
        return document_of(ExecutionInfo.from_journal(resumed))
    return document_of({"live": live, "loaded": loaded, "died": ExecutionInfo.from_journal(journal)}[request.param])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 10**6])
def test_both_readers_agree_wherever_pieces_end(content, size):
    found = assert_read_alike(content, size)
    assert len(found.records) > 4


def call(state, args, result, parent=None, **fields):
    record = state.created('a "b" é\n', "Tool", args, {"k": args}, parent, 1.5)
    state.succeeded(record, result, 2.5)
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def is_key(value):
    return value.__hash__ is not None and value == value


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=4)
    | st.sampled_from(['", "status": "Open"', "$type", "]}", ', "edges": [', datetime.date(2024, 1, 2), object()])
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(leaves.filter(is_key), inner),
    max_leaves=6,
)


@examples(60)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=4), st.sampled_from([1, 50, 10**6]))
def test_values_of_all_kinds_are_read_alike(calls, size):
    state = RTState()
    top = None
    for args, result in calls:
        top = call(state, (args,), result, top)
    assert_read_alike(document_of(ExecutionInfo("se-n1", "name", records=state.snapshot())), size)


def test_all_members_of_a_call_are_read():
    """If a member is added to the document, the reader for pieces must know it, or it is never used."""
    state = RTState()
    changes = [Change(0, "k", '{"a": 1}', Form.PLAIN, None), Change(1, "k", None, Form.PLAIN, None)]
    top = call(state, (1,), (2, 3), node="app.f", changes=changes, reuse='it had "failed"', attributes='{"x": ["}"]}')
    opened = state.created("open", "Other", (), {}, top, 3.0)
    opened.attributes = "{}"
    late = state.created("late", "Agent", (), {}, None, 4.0)
    state.cancelled(late, Reason.TIMEOUT, 5.0, 2)
    late.abandoned = True
    failed = state.created("failed", "Tool", (), {}, late, 4.0)
    failed.branch, failed.raised_by, failed.was_left, failed.attempt = (1, -2), (7, 8), False, 3
    failed.policy = PolicyFacts(2, True, 0.5, "store", "process", "limit api")
    failed.code = "cpython-3.13.1:0d0f8b3262b8e72a"
    failed.reads = {"k": Read("[1]", None, 2), "none": Read(None, None, 1), "typed": Read("[1]", '{"": "tuple"}', 1)}
    state.failed(failed, ValueError("x"), 4.5)
    found = assert_read_alike(document_of(ExecutionInfo("s", records=state.snapshot(), earlier=state.snapshot())), 100)
    assert len(found.earlier) == 4
    fields = attrs.fields(CallRecord)
    assert not [field.name for field in fields if all(getattr(r, field.name) == field.default for r in found.records)]


def test_calls_that_interleave_are_in_the_order_of_creation():
    state = RTState()
    tops = [state.created("top", "Tool", (), {}, None, 0.0) for _ in range(3)]
    for number in range(9):
        call(state, (number,), number, tops[number % 3])
    found = assert_read_alike(document_of(ExecutionInfo("s", records=state.snapshot())))
    assert [record.index for record in found.records] == list(range(12))


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_documents_of_releases_are_read_alike(path):
    content = path.read_bytes()
    if json.loads(content)["version"] > 3:
        assert_read_alike(content)
    else:
        assert read_as_written([content]) is None


@pytest.mark.parametrize("change", [
    lambda data: data["runs"][0].update(unheard=1),
    lambda data: data["runs"][0]["edges"][0]["details"].update(unheard=1),
    lambda data: data["runs"][0]["nodes"][0].update(name=5),
    lambda data: data["runs"][0]["edges"].pop(),
    lambda data: data["runs"][0]["edges"].reverse(),
    lambda data: data.update(start_time="yesterday"),
])  # fmt: skip
def test_other_documents_are_left_to_the_other_reader(content, change):
    data = json.loads(content)
    change(data)
    assert read_as_written([json.dumps(data).encode()]) is None


def test_reformatted_documents_are_left_to_the_other_reader(content):
    data = json.loads(content)
    assert read_as_written([json.dumps(data, indent=1).encode()]) is None
    assert read_as_written([json.dumps(data).replace("Tool", "Toöl").encode()]) is None


@given(st.data())
def test_a_document_that_breaks_off_is_not_read_in_pieces(small, data):
    content = document_of(small[1])
    cut = data.draw(st.integers(0, len(content) - 1))
    assert read_as_written(pieces(content[:cut], 1000)) is None


def test_a_document_without_checksums_is_read_in_pieces(small):
    """As ``ExecutionInfo.document`` returns it."""
    assert_read_alike("".join(small[1].document()).encode(), 100)


def test_a_document_with_another_checksum_is_not_read_in_pieces(small):
    content = document_of(small[1])
    assert read_as_written([content]) is not None
    for place in (content.index(b"small"), content.index(b'"input_args": [3') + 15, len(content) - 5):
        digit = b"4" if content[place : place + 1] != b"4" else b"5"
        assert read_as_written([content[:place] + digit + content[place + 1 :]]) is None


def test_documents_of_this_release_are_read_in_pieces(small, monkeypatch):
    monkeypatch.setattr(_reader, "read_document", None)
    assert ExecutionInfo.from_document(document_of(small[1])) == small[1]


# ---- what is decoded when


def loaded(*args, result=None):
    state = RTState()
    call(state, args, result)
    return ExecutionInfo.from_document(document_of(ExecutionInfo("s", records=state.snapshot()))).records[0]


def is_decoded(record, name):
    try:
        CallRecord.__dict__[name].__get__(record)
    except AttributeError:
        return False
    return True


def test_values_are_decoded_when_they_are_asked_for():
    record = loaded([1, 2], result={"a": [1]})
    assert not any(is_decoded(record, name) for name in ("args", "kwargs", "result"))
    copy = copy_record(record, index=7)
    assert copy.args == ([1, 2],)
    assert (copy.index, copy.kwargs, copy.result) == (7, {"k": [[1, 2]]}, {"a": [1]})
    assert copy.result is copy.result
    assert not is_decoded(record, "args")
    assert repr(record).startswith("CallRecord(index=0, parent=None")
    assert isinstance(record, LoadedRecord)


def test_a_record_has_no_attributes_of_other_names():
    with pytest.raises(AttributeError, match=r"'CallRecord' object has no attribute 'argz'"):
        loaded(1).argz  # noqa: B018


def test_a_hook_that_raises_is_an_error_of_loading():
    class Mine:
        pass

    def structure(data):
        raise KeyError(data)

    rt.state.register_hooks(Mine, lambda _: "text", structure)
    try:
        with pytest.raises(StateError, match="input_args of 's-e0' cannot be restored: 'text'"):
            loaded(Mine())
        with pytest.raises(StateError, match="output of 's-e0' cannot be restored: 'text'"):
            loaded(1, result=Mine())
    finally:
        registered_types.reset()


async def test_a_run_that_was_read_in_pieces_is_resumed():
    store, ran = MemoryStore(), []

    @rt.function_node
    async def step(x):
        ran.append(x)
        return [x]

    async with rt.Session(run_identifier="run", store=store):
        await rt.call(step, {"a": 1})
    async with rt.Session(run_identifier="run", resume="run", store=store) as session:
        assert await rt.call(step, {"a": 1}) == [{"a": 1}]
    assert ran == [{"a": 1}]
    assert session.info.records[0].result == [{"a": 1}]
