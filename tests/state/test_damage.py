"""Journals and state files that break off or are damaged: what is read, and what is reported."""

import json
import os
import re
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.exceptions import StateError
from railtracks.state import ExecutionInfo, FileStore, MemoryStore, Status, list_runs, load_run
from railtracks.state._journal._reader import read_journal
from tests.effort import examples
from tests.state.journals import _fields, boundaries, facts, framed, payloads

# ---- journals: cut off, flipped, followed by something, with entries that are not theirs


@pytest.mark.parametrize("which", ["small", "resumed"])
def test_a_journal_that_breaks_off_anywhere_is_used_up_to_there(which, small, resumed):
    content = {"small": small[0], "resumed": resumed}[which]
    ends = boundaries(content)
    for cut in range(len(content)):
        part = content[:cut]
        whole = max(end for end in ends if end <= cut)
        if not whole:
            with pytest.raises(StateError, match=r"not a journal.*(it is empty|breaks off)"):
                ExecutionInfo.from_journal(part)
            continue
        info = ExecutionInfo.from_journal(part, running=True)
        if cut == whole:
            assert info.damage is None
            before = facts(info)
        else:
            assert "breaks off" in info.damage  # type: ignore[operator]
            assert info.damage.endswith(f" at byte {whole}")
            assert facts(info) == before


@pytest.mark.parametrize(
    ("which", "bits"),
    [("small", (0, 7)), pytest.param("small", range(8), marks=pytest.mark.slow), ("resumed", (0, 7))],
    ids=["small", "small, every bit", "resumed"],
)
def test_a_flipped_bit_costs_only_what_comes_after_it(which, bits, small, resumed):
    content = {"small": small[0], "resumed": resumed}[which]
    starts = boundaries(content)
    for start, end in pairwise(starts):
        before = facts(ExecutionInfo.from_journal(content[:start], running=True)) if start else None
        for place in range(start, end):
            for bit in bits:
                harmed = bytearray(content)
                harmed[place] ^= 1 << bit
                if before is None:
                    with pytest.raises(StateError, match="not a journal, or its beginning is damaged: at byte 0 the"):
                        ExecutionInfo.from_journal(bytes(harmed))
                    continue
                info = read_journal(bytes(harmed))
                assert info.damage.endswith(f" at byte {start}")
                assert _plain(info) == (before["records"], before["earlier"])


def entries_of(content):
    return [content[start:end] for start, end in pairwise(boundaries(content))]


def read_up_to(content, place, entries):
    """Check that a journal that consists of these entries is damaged at that place, and used up to there."""
    whole = b"".join(entries_of(content)[:place])
    info = read_journal(b"".join(entries))
    assert info.damage == f"the entry does not follow the one before it, or is damaged (checksum) at byte {len(whole)}"
    assert _plain(info) == _plain(read_journal(whole))


@pytest.mark.parametrize("which", ["small", "resumed"])
def test_entry_that_is_missing_repeated_or_moved_is_damage(which, small, resumed):
    content = {"small": small[0], "resumed": resumed}[which]
    entries = entries_of(content)
    for place in range(1, len(entries)):
        before, entry, after = entries[:place], entries[place], entries[place + 1 :]
        read_up_to(content, place + 1, [*before, entry, entry, *after])
        if after:
            read_up_to(content, place, [*before, *after])
            read_up_to(content, place, [*before, *after, entry])


def test_entry_of_another_journal_is_damage(small, resumed):
    """Also of an earlier attempt of the same run, whatever else the two have in common."""
    content = small[0]
    entries = entries_of(content)
    again = entries_of(framed(*({**e, "journal": "other"} if e["e"] == "header" else e for e in payloads(content))))
    for foreign in (again, entries_of(resumed)):
        for place in range(1, len(entries)):
            read_up_to(content, place, [*entries[:place], foreign[place], *entries[place + 1 :]])


def test_each_journal_has_an_identifier_of_its_own(small, resumed):
    found = [payloads(content)[0]["journal"] for content in (small[0], resumed)]
    assert len({*found}) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in found)


def _plain(info):
    return list(map(_fields, info.records)), list(map(_fields, info.earlier))


@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        (bytes(1), "breaks off"),
        (bytes(4096), "damaged (checksum)"),
        (b"\xff" * 100, "its length is damaged"),
        (b"\x01\x00\x00\x00\x00\x00\x00\x00{", "damaged (checksum)"),
        (b"garbage, and enough of it that it could be a record", "breaks off"),
    ],
)
def test_what_follows_the_last_entry_is_damage(small, tail, problem):
    content = small[0]
    info = ExecutionInfo.from_journal(content + tail, running=True)
    assert facts(info) == facts(ExecutionInfo.from_journal(content, running=True))
    assert problem in info.damage  # type: ignore[operator]
    assert info.damage.endswith(f" at byte {len(content)}")


@pytest.mark.parametrize(
    "event",
    [
        {"e": "no such event"},
        {"no": "event"},
        [],
        None,
        7,
        {"e": "ended", "call": 99, "time": 1.0, "status": "Completed", "output": 1},
        {"e": "ended", "call": 1, "time": 1.0, "status": "Completed", "output": 1},
        {"e": "ended", "call": 4, "time": 1.0, "status": "Open", "output": None},
        {"e": "ended", "call": 4, "time": 1.0, "status": "Cancelled", "output": None},
        {"e": "ended", "call": 4, "time": 1.0, "status": "Cancelled", "reason": "x", "abandoned": False, "output": 1},
        {"e": "created", "call": 5, "parent": 99, "time": 1.0, "name": "x", "node_type": "Tool", "input_args": []},
        {"e": "ended", "call": 1, "time": 1.0, "status": "Cancelled", "reason": "outside", "abandoned": 1, "output": 0},
        {"e": "ended", "call": 4, "time": 1.0, "status": "Completed", "output": 1, "output_form": "no such form"},
        {
            "e": "created",
            "call": 5,
            "parent": 4,
            "time": 1.0,
            "name": "x",
            "node_type": "",
            "input_args": [],
            "input_kwargs": {},
            "input_form": "no such form",
        },
        {"e": "context", "call": 0},
    ],
    ids=str,
)
def test_a_whole_entry_that_makes_no_sense_is_damage(small, event):
    """It changes nothing in what was read before it."""
    content = small[0]
    info = ExecutionInfo.from_journal(framed(event, {"e": "end", "time": 1e9}, after=content), running=True)
    assert f"the entry at byte {len(content)} cannot be used" in info.damage  # type: ignore[operator]
    assert facts(info) == facts(ExecutionInfo.from_journal(content, running=True))


def test_no_record_that_makes_no_sense_costs_those_before_it(small):
    content = small[0]
    expected = facts(ExecutionInfo.from_journal(content, running=True))
    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        max_leaves=4,
    )
    known = [event for event in payloads(content) if event["e"] != "header"]
    keys = sorted({key for event in known for key in event})

    @examples(150)
    @given(st.sampled_from(known), st.dictionaries(st.sampled_from(keys), plain, min_size=1, max_size=2))
    def check(event, changed):
        info = ExecutionInfo.from_journal(framed({**event, **changed}, after=content), running=True)
        if info.damage is not None:
            assert facts(info) == expected
        else:
            assert len(info.records) >= len(expected["records"])

    check()


@given(st.binary(max_size=60))
def test_bytes_that_are_not_a_journal_are_a_state_error(content):
    with pytest.raises(StateError, match="not a journal"):
        ExecutionInfo.from_journal(content)


def test_an_empty_file_says_that_it_is_empty():
    Path("mine.journal").touch()
    with pytest.raises(StateError, match=r"^mine\.journal: this is not a journal.*it is empty"):
        ExecutionInfo.load("mine.journal")


@pytest.fixture
def brace(small):
    """A journal whose first byte, the low byte of the header's length, is that of a brace."""
    header, *rest = payloads(small[0])
    length = len(json.dumps(header))
    header["session_name"] += "x" * ((ord("{") - length) % 256)
    content = framed(header, *rest)
    assert content[:1] == b"{"
    return content


@pytest.mark.parametrize("name", ["mine.journal", "mine.json", "mine"])
def test_a_journal_that_begins_with_a_brace_is_a_journal(name, brace, small):
    Path(name).write_bytes(brace)
    loaded = ExecutionInfo.load(name)
    assert loaded.session_name.rstrip("x") == small[1].session_name
    assert [r.name for r in loaded.records] == [r.name for r in small[1].records]


@pytest.mark.parametrize("end", [1, 8, 15, 60, -1])
def test_a_damaged_journal_that_begins_with_a_brace_is_too(end, brace):
    """It is cut within its header, or the last byte of the header is flipped."""
    content = bytearray(brace if end < 0 else brace[:end])
    content[-1 if end > 0 else boundaries(brace)[1] - 1] ^= 1
    Path("mine.journal").write_bytes(content)
    with pytest.raises(StateError, match=r"^mine\.journal: this is not a journal"):
        ExecutionInfo.load("mine.journal")


@pytest.mark.parametrize("name", ["mine.json", "mine.journal", "mine"])
@pytest.mark.parametrize("end", [12, 40, 200])
def test_a_truncated_state_file_is_reported_as_a_state_file(name, end, small):
    Path(name).write_bytes("".join(small[1].document()).encode()[:end])
    with pytest.raises(StateError, match=rf"^{re.escape(name)}: this is not a state file"):
        ExecutionInfo.load(name)


@pytest.mark.parametrize("name", ["mine.json", "mine"])
def test_a_state_file_that_was_reformatted_is_loaded(name, small):
    Path(name).write_text(json.dumps(small[1].payload(), indent=4))
    assert ExecutionInfo.load(name) == small[1]


def test_a_run_whose_journal_is_beyond_use_says_which_and_where(tmp_path):
    store = FileStore(tmp_path)
    (tmp_path / "mine.journal").write_bytes(b"a letter to a friend")
    with pytest.raises(StateError, match=r"the run 'mine' at the journal beside .*mine\.json: this is not a journal"):
        load_run("mine", store)
    store.save("other", [])
    (tmp_path / "other.json").write_bytes(b"")
    with pytest.raises(StateError, match=r"the run 'other' at .*other\.json: this is not a state file"):
        load_run("other", store)


def test_a_document_beside_an_unusable_journal_is_used(small):
    store = MemoryStore()
    store.save("mine", (text.encode() for text in small[1].document()))
    store.open("mine", b"\x00" * 100)
    assert load_run("mine", store) == small[1]


# ---- state files


@pytest.fixture(scope="module")
def document(small):
    return "".join(attrs.evolve(small[1], records=small[1].records[:2]).document()).encode()


def test_a_state_file_that_breaks_off_does_not_load(document, tmp_path):
    """It may break off anywhere, and the error says why."""
    store, path = FileStore(tmp_path), tmp_path / "mine.json"
    path.write_bytes(document)
    assert load_run("mine", store).records
    for cut in range(len(document) - 1, -1, -1):
        os.truncate(path, cut)
        with pytest.raises(StateError, match=r"the run 'mine' at .*mine\.json: this is not a state file: \w+"):
            load_run("mine", store)


def test_runs_with_cut_state_files_are_listed(document, tmp_path):
    """The list has what stands before the place where the file breaks off."""
    store, path = FileStore(tmp_path), tmp_path / "mine.json"
    path.write_bytes(document)
    known = []
    for cut in range(len(document) - 1, 0, -1):
        os.truncate(path, cut)
        [run] = list_runs(store)
        assert (run.identifier, run.state, run.size) == ("mine", "ended", cut)
        known.append((run.status, run.flow_name, run.calls))
    # All of what stands before the calls, or nothing.
    head = document.index(b', "runs": [') + len(b', "runs": [')
    assert known == [(Status.COMPLETED, "flow", 2)] * (len(document) - head) + [(None, None, None)] * (head - 1)
