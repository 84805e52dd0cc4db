"""State files that are damaged: what is read of them, and what is reported."""

import json
import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import ExecutionInfo, MemoryStore, Status, list_runs, load_run
from railtracks.state._document._checksums import with_checksums
from railtracks.state._document._writer import encoded
from railtracks.state._serialization._record_text import form_in
from tests.effort import examples
from tests.state.journals import _fields

HEAD = ("session_name", "flow_name", "flow_id", "start_time", "end_time")


def document_of(info):
    return b"".join(encoded(info.document()))


@pytest.fixture(scope="module")
def whole(small, resumed):
    """The documents of a session, and of one that resumed it: it also holds the calls of the earlier one."""
    infos = [small[1], ExecutionInfo.from_journal(resumed, running=True)]
    return {name: document_of(info) for name, info in zip(("small", "resumed"), infos, strict=True)}


@lru_cache(maxsize=2)
def loaded(whole):
    return ExecutionInfo.from_document(whole)


def parts(info):
    return [(record.index, record, "run") for record in info.records] + [
        (record.index, record, "earlier") for record in info.earlier
    ]


def check(harmed, whole):
    """Check that what is read of a damaged document is right, or reported. Return what became of it."""
    expected = loaded(whole)
    try:
        info = ExecutionInfo.from_document(harmed)
    except StateError as exc:
        assert re.search("state file|version|damaged|cut off", str(exc))
        return "error"
    damage = info.damage or ""
    for name in ("session_id", *HEAD):
        value = getattr(info, name)
        if value != getattr(expected, name):
            assert value is None
            assert "its beginning" in damage
    found, known = parts(info), parts(expected)
    if "and so may be records of the attempts before" in damage:
        known = known[: len(found)]
        assert len(known) >= len(expected.records)
    assert [(index, part) for index, _, part in found] == [(index, part) for index, _, part in known]
    pairs = [(record, before) for (_, record, _), (_, before, _) in zip(found, known, strict=True)]
    forgotten = [record for record, before in pairs if record.node is None is not before.node]
    lost = [record for record, before in pairs if differ(record, before)]
    for record in lost:
        assert (record.status, form_in(record.inputs)) == (Status.OPEN, "opaque")
        assert f"{record.index} {record.name}" in damage
    if set(map(id, forgotten)) - set(map(id, lost)):
        assert "that may have made some of these will run again" in damage
    if not lost and info.damage is None:
        assert info == expected
    return f"{len(lost)} lost"


def differ(record, before):
    """Whether more differs than what may be unknown."""
    known = {name: None for name in ("node", "code") if getattr(record, name) is None}
    return {**_fields(record), **known} != {**_fields(before), **known}


@pytest.mark.parametrize(
    ("which", "apart"),
    [
        ("small", 5),
        ("resumed", 25),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("small", 1), ("resumed", 5))),
    ],
)
def test_any_flipped_bit_is_reported_and_costs_at_most_two_calls(which, apart, whole):
    """A bit is flipped in every n-th byte, another one from byte to byte."""
    content = whole[which]
    outcomes = set()
    for place in range(0, len(content), apart):
        harmed = bytearray(content)
        harmed[place] ^= 1 << place % 8
        outcomes.add(check(bytes(harmed), content))
    assert {"0 lost", "1 lost"} <= outcomes
    assert outcomes <= {"0 lost", "1 lost", "2 lost", "error"}


def test_any_damage_is_reported(whole):
    changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=4)

    @examples(300)
    @given(st.sampled_from(sorted(whole)), changes, st.booleans())
    def harm(which, changes, is_cut):
        content = harmed = whole[which]
        for place, added in changes:
            at = int(place * len(harmed))
            harmed = harmed[:at] + added + harmed[at + len(added) :] if not is_cut else harmed[:at]
        check(harmed, content)

    harm()


@pytest.mark.parametrize("which", ["small", "resumed"])
def test_joined_and_divided_lines_cost_only_their_calls(which, whole):
    content = whole[which]
    breaks = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for at in breaks:
        assert check(content[:at] + content[at + 1 :], content) in ("0 lost", "1 lost", "2 lost")
        assert check(content[:at] + b"\n" + content[at:], content) == "0 lost"
        assert check(content[: at + 20] + b"\n" + content[at + 20 :], content) in ("0 lost", "1 lost")


def test_lines_that_were_moved_are_damage(whole):
    content = whole["small"]
    lines = content.split(b"\n")
    for place in range(1, len(lines) - 2):
        moved = [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]]
        assert check(b"\n".join(moved), content) in ("0 lost", "1 lost", "2 lost")


def test_calls_below_a_damaged_one_keep_their_caller(whole):
    content = whole["small"]
    session = ExecutionInfo.from_document(content).session_id
    for kind in "ne":
        at = content.index(f'"identifier": "{session}-{kind}1"'.encode())
        content = content[: at + 20] + b"?" + content[at + 21 :]
    info = ExecutionInfo.from_document(content)
    before = ExecutionInfo.from_document(whole["small"])
    assert [record.parent for record in info.records] == [record.parent for record in before.records]
    assert info.records[1].name == "(damaged)"


def test_a_document_of_which_nothing_is_whole_says_so(whole):
    harmed = re.sub(rb'"identifier"', b'"identifieR"', whole["small"])
    with pytest.raises(StateError, match=r'damaged \(checksum\).*nothing.*if you have edited it, remove.*"checksums"'):
        ExecutionInfo.from_document(harmed)


@pytest.mark.parametrize("indent", [None, 2])
def test_formatted_document_is_used_without_its_checksums(indent, whole):
    data = json.loads(whole["small"])
    with pytest.raises(StateError, match=r'damaged.*remove its member "checksums"'):
        ExecutionInfo.from_document(json.dumps(data, indent=indent).encode())
    del data["checksums"]
    assert ExecutionInfo.from_document(json.dumps(data, indent=indent).encode()).damage is None


def test_edited_call_runs_again_unless_the_checksums_are_removed(whole):
    content = whole["small"].replace(b'"output": [3, 3]', b'"output": [4, 4]')
    assert content != whole["small"]
    info = ExecutionInfo.from_document(content)
    assert [record.result for record in info.records if record.name == "leaf"] == [None]
    unchecked = re.sub(rb', "checksums": .*\}\}$', b"}", content)
    loaded = ExecutionInfo.from_document(unchecked)
    assert loaded.damage is None
    assert [record.result for record in loaded.records if record.name == "leaf"] == [[4, 4]]


def test_document_that_was_not_saved_has_no_checksums(small):
    """The payload of a session, which a program may keep elsewhere, can be loaded."""
    assert "checksums" not in small[1].payload()
    assert ExecutionInfo.from_document(json.dumps(small[1].payload()).encode()) == small[1]


def test_checksums_do_not_depend_on_the_pieces(whole):
    content = whole["resumed"]
    plain = "".join(ExecutionInfo.from_document(content).document()).encode()
    start = plain.index(b', "runs": [') + 20
    earlier = plain.index(b'\n"earlier": [')

    @examples(50)
    @given(st.lists(st.integers(start, len(plain) - 1)))
    def check(cuts):
        places = [0, *sorted({cut for cut in cuts if not earlier < cut < earlier + 13}), len(plain)]
        pieces = [plain[at:end] for at, end in pairwise(places)]
        assert b"".join(with_checksums(pieces)) == b"".join(with_checksums([plain]))

    check()


def test_damaged_head_is_not_listed_as_something_else(small):
    """What ``list_runs`` says of the run is right, or not known."""
    content, store = document_of(small[1]), MemoryStore()
    store.save("mine", [content])
    [expected] = list_runs(store)
    known = {name: getattr(expected, name) for name in (*HEAD[:2], "status", "start_time", "end_time", "calls")}
    for place in range(12, content.index(b'"runs": [')):
        harmed = bytearray(content)
        harmed[place] ^= 1 << place % 8
        store.save("mine", [bytes(harmed)])
        [run] = list_runs(store)
        found = {name: getattr(run, name) for name in known}
        assert found in (known, dict.fromkeys(known))


def test_listing_names_runs_that_are_damaged_at_their_beginning(small, caplog):
    """Once, and without those that had not begun, or are running."""
    store = MemoryStore()
    document = document_of(small[1])
    contents = {"whole": document, "cut": document[:40], "flipped": document.replace(b"Open", b"open", 1)}
    for name, content in contents.items():
        store.save(name, [content])
    journal = small[0]
    journals = {"alive": b"x", "torn": journal[:30], "odd": b"x" * 100, "dead": journal[:40] + b"?" + journal[41:]}
    for name, content in journals.items():
        store.open(name, content).close()
    lock = store.lock("alive")
    assert {run.identifier for run in list_runs(store)} == {*contents, *journals}
    lock.release()
    [text] = [record.getMessage() for record in caplog.records]
    assert text.startswith("4 runs are damaged at the beginning, so it is not known of which flow each of them is")
    named = re.findall(r"(the journal beside )?memory, as (\w+)", text)
    in_journal = "the journal beside "
    assert {*named} == {("", "cut"), ("", "flipped"), (in_journal, "odd"), (in_journal, "dead")}


@pytest.mark.parametrize("place", range(12))
def test_damage_to_the_first_bytes_does_not_hide_a_run(place, small):
    content, store = bytearray(document_of(small[1])), MemoryStore()
    content[place] ^= 1
    store.save("mine", [bytes(content)])
    assert [run.identifier for run in list_runs(store)] == ["mine"]
    info = load_run("mine", store)
    assert "its beginning" in (info.damage or "")
    assert len(info.records) == len(small[1].records)


# ---- resuming


@pytest.mark.parametrize("form", ["flow", "if_exists"])
def test_a_call_whose_record_is_damaged_runs_again(form, backend, caplog):
    @rt.function_node
    async def price() -> int:
        runs.append("price")
        return 1234

    @rt.function_node
    async def ship() -> str:
        runs.append("ship")
        return "shipped"

    @rt.function_node
    async def job() -> int:
        await rt.call(ship)
        found = await rt.call(price)
        if len(runs) == 2:
            raise OSError("first")
        return found

    runs: list[str] = []
    if_exists: Any = "resume" if form == "if_exists" else "replace"
    flow = rt.Flow("J", job, run_identifier="j", backend=backend, logging_setting="QUIET", if_exists=if_exists)
    with pytest.raises(OSError, match="first"):
        flow.invoke()
    path = Path(".railtracks/j.json")
    path.write_bytes(path.read_bytes().replace(b'"output": 1234', b'"output": 1235'))
    assert (flow.invoke() if form == "if_exists" else flow.resume("j")) == 1234
    assert runs == ["ship", "price", "price"]
    assert "The record of j: the document is damaged (checksum)" in caplog.text
    assert "the records of 1 of its 3 calls (2 price) cannot be used" in caplog.text
    assert rt.state.load_run("j").damage is None


def test_calls_above_a_damaged_one_run_again(backend):
    """What happened below them is not known: here, a change of the context."""

    @rt.function_node
    async def put() -> None:
        rt.context.put("total", 7)

    @rt.function_node
    async def step() -> str:
        await rt.call(put)
        return "done"

    @rt.function_node
    async def job() -> int:
        await rt.call(step)
        total = rt.context.get("total")
        if not failed:
            failed.append(total)
            raise OSError("first")
        return int(total)

    failed: list[int] = []
    flow = rt.Flow("J", job, run_identifier="j", backend=backend, logging_setting="NONE")
    with pytest.raises(OSError, match="first"):
        flow.invoke()
    path = Path(".railtracks/j.json")
    path.write_bytes(path.read_bytes().replace(b'"value": 7', b'"value": 8'))
    with pytest.warns(RuntimeWarning, match="the record of j: the document is damaged"):  # as nothing is logged
        assert flow.resume("j") == 7


def test_damage_does_not_stay_in_the_snapshot_of_a_new_run(small):
    info = attrs.evolve(small[1], damage="something")
    assert ExecutionInfo.from_document(document_of(info)).damage is None
