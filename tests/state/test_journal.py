"""The journal, and what becomes of it when it, or the process that writes it, comes to harm."""

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.state import (
    ExecutionInfo,
    FileStore,
    Form,
    MemoryStore,
    Reason,
    SQLiteStore,
    Status,
    list_runs,
    load_run,
    prune,
)
from railtracks.state._journal import _journal as journal
from railtracks.state._stores import _runs
from tests import virtual
from tests.effort import examples

ROOT = Path(__file__).parent.parent.parent


class Stop(Exception):
    pass


@rt.function_node
async def leaf(x) -> tuple[int, int]:
    rt.context.put("leaf", {"x": x})
    return (x, x)


@rt.function_node
async def broken():
    raise ValueError("boom")


@rt.function_node
async def endless():
    await anyio.sleep_forever()


@rt.function_node
async def tree(x) -> tuple[int, int]:
    first = await rt.call(leaf, x)
    with pytest.raises(ValueError):
        await rt.call(broken)
    rt.context.put("gone", 1)
    rt.context.delete("gone")
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, endless)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    return first


class Watched(MemoryStore):
    """A store that looks at the live session whenever a record was appended to its journal."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def open(self, identifier, content, durable=False):
        appender = super().open(identifier, content, durable)
        append = appender.append

        def append_and_look(content):
            append(content)
            self.seen[len(self.read(identifier).journal)] = self.session.info

        appender.append = append_and_look
        return appender


def written(store, identifier="mine", **options):
    """The journal of a session at a moment when it has calls of all kinds, and the view of it then."""

    async def main():
        with pytest.raises(Stop):
            async with rt.Session(
                run_identifier=identifier, name="small", flow_name="flow", store=store, timeout=9, **options
            ) as session:
                store.session = session
                await rt.call(tree, 3)
                session.start_soon(endless)
                await anyio.sleep(1)
                found.extend((store.read(identifier).journal, session.info, load_run(identifier, store)))
                raise Stop

    found = []
    virtual.run("asyncio", main)
    return found


@pytest.fixture(scope="module")
def small():
    """A journal, the view of its session then, that which was loaded then, and the views after each record."""
    store = Watched()
    content, info, loaded = written(store)
    return content, info, loaded, store.seen


@pytest.fixture(scope="module")
def resumed(small):
    """The journal of a session that resumed that one, whose process had died."""
    store = Watched()
    store.open("mine", small[0]).close()
    return written(store, resume="mine")[0]


def boundaries(content):
    """Where the frames begin, and the end."""
    offsets = [0]
    while offsets[-1] < len(content):
        length, _ = struct.unpack_from("<II", content, offsets[-1])
        offsets.append(offsets[-1] + 8 + length)
    return offsets


def payloads(content):
    offsets = boundaries(content)
    return [json.loads(content[start + 8 : end]) for start, end in pairwise(offsets)]


def framed(*events):
    """A journal, written by hand."""
    texts = [json.dumps(event).encode() for event in events]
    return b"".join(struct.pack("<II", len(text), zlib.crc32(text)) + text for text in texts)


def facts(info):
    """Everything that a view says, in a form that can be compared."""
    plain = {field.name: getattr(info, field.name) for field in attrs.fields(ExecutionInfo) if field.repr}
    del plain["damage"]
    return {**plain, "records": list(map(_fields, info.records)), "earlier": list(map(_fields, info.earlier))}


def _fields(record):
    plain = {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
    return {**plain, "kwargs": dict(record.kwargs), "exception": str(record.exception)}


# ---- what is in it


def test_the_small_journal_has_calls_of_all_kinds(small):
    content, info, _, _ = small
    assert [event["e"] for event in payloads(content)] == [
        "header", "created", "created", "context", "ended", "created", "ended", "context", "context",
        "created", "ended", "ended", "created",
    ]  # fmt: skip
    assert {record.status for record in info.records} == set(Status)


def test_what_was_recorded_is_read_back(small):
    content, info, _, _ = small
    assert ExecutionInfo.from_journal(content, running=True) == info
    assert ExecutionInfo.from_journal(content).damage is None


def test_after_each_record_the_journal_tells_what_the_session_does(small):
    content, _, _, seen = small
    assert set(boundaries(content)[2:]) <= set(seen)
    for end in boundaries(content)[2:]:
        assert ExecutionInfo.from_journal(content[:end], running=True) == seen[end]


def test_a_call_that_was_running_when_the_process_died_is_open_and_says_so(small):
    content, _, loaded, _ = small
    died = [(r.name, r.reason) for r in ExecutionInfo.from_journal(content).records if r.status is Status.OPEN]
    assert died == [("endless", Reason.PROCESS_DIED)]
    assert [(r.name, r.reason) for r in loaded.records if r.status is Status.OPEN] == [("endless", None)]


def test_while_its_session_has_it_a_run_runs_and_after_that_it_died_or_ended(small):
    store = MemoryStore()
    store.open("mine", small[0])
    lock = store.lock("mine")
    assert [(run.state, run.status, run.calls) for run in list_runs(store)] == [("running", None, None)]
    assert load_run("mine", store).records[-1].reason is None
    lock.release()
    [run] = list_runs(store)
    assert (run.state, run.status, run.calls, run.session_name, run.flow_name) == ("died", None, None, "small", "flow")
    assert (run.start_time, run.end_time, run.size) == (1e9, None, len(small[0]))
    assert load_run("mine", store).records[-1].reason is Reason.PROCESS_DIED


async def test_a_journal_with_an_end_tells_what_the_document_would(monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("railtracks.state._stores._files.write_atomically", fail)
        async with rt.Session(run_identifier="mine") as session:
            await rt.call(tree, 3)
    assert not Path(".railtracks/mine.json").exists()
    loaded = load_run("mine")
    assert loaded == session.info == ExecutionInfo.load(".railtracks/mine.journal")
    assert loaded.end_time == session.info.end_time is not None
    [run] = list_runs()
    assert (run.identifier, run.session_name) == ("mine", None)


async def test_a_journal_with_an_end_tells_it_of_a_session_that_resumed_another_too(small, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    store = MemoryStore()
    store.open("mine", small[0]).close()
    monkeypatch.setattr(store, "save", fail)
    async with rt.Session(run_identifier="mine", store=store, resume="mine") as session:
        await rt.call(tree, 3)
    assert load_run("mine", store) == session.info


def test_an_attempt_keeps_what_came_before_apart(small, resumed):
    info = ExecutionInfo.from_journal(resumed)
    assert [event["e"] for event in payloads(resumed)].count("attempt") == 1
    assert [r.name for r in info.earlier] == [r.name for r in small[1].records]
    assert [r.name for r in info.records] == [r.name for r in small[1].records]
    assert {r.reuse for r in info.records} >= {"reused"}
    assert info.damage is None


# ---- harm: cut off, flipped, followed by something


@pytest.mark.parametrize("which", ["small", "resumed"])
def test_a_journal_that_breaks_off_anywhere_is_used_up_to_there(which, small, resumed):
    content = {"small": small[0], "resumed": resumed}[which]
    ends = boundaries(content)
    for cut in range(len(content)):
        part = content[:cut]
        whole = max(end for end in ends if end <= cut)
        if not whole:
            with pytest.raises(StateError, match=r"no journal.*(it is empty|breaks off)"):
                ExecutionInfo.from_journal(part)
            continue
        info = ExecutionInfo.from_journal(part, running=True)
        if cut == whole:
            assert info.damage is None
            before = facts(info)
        else:
            assert "breaks off" in info.damage
            assert info.damage.endswith(f" at byte {whole}")
            assert facts(info) == before


@pytest.mark.parametrize("which", ["small", "resumed"])
def test_a_bit_that_was_flipped_costs_what_comes_after_it_and_nothing_else(which, small, resumed):
    content = {"small": small[0], "resumed": resumed}[which]
    starts = boundaries(content)
    bits = range(8) if which == "small" else (0, 7)
    for start, end in pairwise(starts):
        before = facts(ExecutionInfo.from_journal(content[:start], running=True)) if start else None
        for place in range(start, end):
            for bit in bits:
                harmed = bytearray(content)
                harmed[place] ^= 1 << bit
                if before is None:
                    with pytest.raises(StateError, match="no journal, or its beginning is damaged: at byte 0 the"):
                        ExecutionInfo.from_journal(bytes(harmed))
                    continue
                info = journal.read(bytes(harmed))
                assert info.damage.endswith(f" at byte {start}")
                assert _plain(info) == (before["records"], before["earlier"])


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
def test_what_follows_the_last_record_and_is_none_is_damage(small, tail, problem):
    content = small[0]
    info = ExecutionInfo.from_journal(content + tail, running=True)
    assert facts(info) == facts(ExecutionInfo.from_journal(content, running=True))
    assert problem in info.damage
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
def test_a_record_that_is_whole_but_makes_no_sense_is_damage_and_changes_nothing(small, event):
    content = small[0]
    info = ExecutionInfo.from_journal(content + framed(event, {"e": "end", "time": 1e9}), running=True)
    assert f"the record at byte {len(content)} cannot be used" in info.damage
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
        info = ExecutionInfo.from_journal(content + framed({**event, **changed}), running=True)
        if info.damage is not None:
            assert facts(info) == expected
        else:
            assert len(info.records) >= len(expected["records"])

    check()


@given(st.binary(max_size=60))
def test_bytes_that_are_no_journal_are_a_state_error(content):
    with pytest.raises(StateError, match="no journal"):
        ExecutionInfo.from_journal(content)


def test_an_empty_file_says_that_it_is_empty():
    Path("mine.journal").touch()
    with pytest.raises(StateError, match=r"^mine\.journal: this is no journal.*it is empty"):
        ExecutionInfo.load("mine.journal")


def test_a_run_whose_journal_is_beyond_use_says_which_and_where(tmp_path):
    store = FileStore(tmp_path)
    (tmp_path / "mine.journal").touch()
    with pytest.raises(StateError, match=r"the run 'mine' at .*mine\.json: this is no journal"):
        load_run("mine", store)
    store.save("other", [])
    (tmp_path / "other.json").write_bytes(b"")
    with pytest.raises(StateError, match=r"the run 'other' at .*other\.json: this is no state file"):
        load_run("other", store)


def test_if_the_journal_is_beyond_use_the_document_beside_it_serves(small):
    store = MemoryStore()
    store.save("mine", (text.encode() for text in small[1].document()))
    store.open("mine", b"\x00" * 100)
    assert load_run("mine", store) == small[1]


# ---- versions


def header(**members):
    return {"e": "header", "version": 3, "session_id": "mine", "start_time": 1.0, "end_time": None, **members}


@pytest.mark.parametrize("version", [99, 4, 0, -1, None, "2", 2.5, [2], {}])
def test_a_version_that_is_not_known_is_an_error_that_says_which_are(version):
    with pytest.raises(StateError, match=r"version .*; this release of railtracks reads 1 to 3"):
        ExecutionInfo.from_journal(framed(header(version=version)))


@pytest.mark.parametrize(
    "first",
    [
        {"e": "end", "time": 1.0},
        {"version": 2},
        {"e": "header"},
        [],
        7,
        None,
        {"e": "header", "version": 2},
        header(unheard=1),
        header(records=[]),
        header(damage="none"),
    ],
    ids=json.dumps,
)
def test_a_first_record_that_is_no_header_is_a_state_error(first):
    with pytest.raises(StateError):
        ExecutionInfo.from_journal(framed(first, {"e": "end", "time": 2.0}))


def as_version_1(events):
    """Such a journal as the first release with one wrote: without forms, nodes and reuse."""
    news = {"input_form", "output_form", "node", "reuse"}
    old = [
        {key: value for key, value in event.items() if key not in news} for event in events if event["e"] != "context"
    ]
    return framed({**old[0], "version": 1}, *old[1:])


def test_in_version_1_it_is_unknown_how_much_of_a_value_was_written(small):
    info = ExecutionInfo.from_journal(as_version_1(payloads(small[0])), running=True)
    assert info.damage is None
    assert [(r.name, r.status, r.args) for r in info.records] == [(r.name, r.status, r.args) for r in small[1].records]
    for record in info.records:
        assert record.inputs.endswith(f'"input_form": "{Form.UNKNOWN}"')
        assert record.output is None or record.output.endswith(f'"output_form": "{Form.UNKNOWN}"')
    assert info.resumed == []


async def test_calls_of_version_1_run_again_when_they_are_resumed(small):
    store = MemoryStore()
    store.open("mine", as_version_1(payloads(small[0])))
    async with rt.Session(run_identifier="mine", resume="mine", store=store) as session:
        await rt.call(leaf, 3)
    assert [decision.reused for decision in session.info.resumed] == [False]


GOLDEN = bytes.fromhex(
    """
    a3000000c0bb63917b2265223a2022686561646572222c202276657273696f6e223a20322c2022666c6f775f6e616d65223a2022666c6f77
    222c2022666c6f775f6964223a206e756c6c2c202273657373696f6e5f6964223a2022676f6c64656e222c202273657373696f6e5f6e616d
    65223a202261206e616d65222c202273746172745f74696d65223a20313030303030303030302e302c2022656e645f74696d65223a206e75
    6c6c7dd400000079c54f787b2265223a202263726561746564222c202263616c6c223a20302c2022706172656e74223a206e756c6c2c2022
    74696d65223a20313030303030303030302e302c20226e616d65223a2022726f6f74222c20226e6f64655f74797065223a2022546f6f6c22
    2c2022696e7075745f61726773223a205b312c202274776f222c206e756c6c2c20747275652c20322e355d2c2022696e7075745f6b776172
    6773223a207b226b6579223a205b312c207b2261223a20225c7530306539227d5d7d2c20226e6f6465223a20226170702e726f6f74227dba
    000000495d8d777b2265223a202263726561746564222c202263616c6c223a20312c2022706172656e74223a20302c202274696d65223a20
    313030303030303030302e302c20226e616d65223a2022676f6f64222c20226e6f64655f74797065223a2022546f6f6c222c2022696e7075
    745f61726773223a205b5b312c20325d5d2c2022696e7075745f6b7761726773223a207b7d2c2022696e7075745f666f726d223a20227479
    706564222c20226e6f6465223a20226170702e676f6f64227d77000000eb3452d87b2265223a2022656e646564222c202263616c6c223a20
    312c202274696d65223a20313030303030303030302e352c2022737461747573223a2022436f6d706c65746564222c20226f757470757422
    3a207b2278223a205b312c20325d7d2c20226f75747075745f666f726d223a20227479706564227d100000004a394c527b2265223a202261
    7474656d7074227df1000000550828097b2265223a202263726561746564222c202263616c6c223a20302c2022706172656e74223a206e75
    6c6c2c202274696d65223a20313030303030303030302e302c20226e616d65223a2022726f6f74222c20226e6f64655f74797065223a2022
    546f6f6c222c2022696e7075745f61726773223a205b312c202274776f222c206e756c6c2c20747275652c20322e355d2c2022696e707574
    5f6b7761726773223a207b226b6579223a205b312c207b2261223a20225c7530306539227d5d7d2c20226e6f6465223a20226170702e726f
    6f74222c20227265757365223a2022697420686164206e6f7420656e646564227dcd000000385b6eec7b2265223a20226372656174656422
    2c202263616c6c223a20312c2022706172656e74223a20302c202274696d65223a20313030303030303030302e302c20226e616d65223a20
    22676f6f64222c20226e6f64655f74797065223a2022546f6f6c222c2022696e7075745f61726773223a205b5b312c20325d5d2c2022696e
    7075745f6b7761726773223a207b7d2c2022696e7075745f666f726d223a20227479706564222c20226e6f6465223a20226170702e676f6f
    64222c20227265757365223a2022726575736564227d77000000eb3452d87b2265223a2022656e646564222c202263616c6c223a20312c20
    2274696d65223a20313030303030303030302e352c2022737461747573223a2022436f6d706c65746564222c20226f7574707574223a207b
    2278223a205b312c20325d7d2c20226f75747075745f666f726d223a20227479706564227d690000003758fee17b2265223a2022636f6e74
    657874222c202263616c6c223a20302c20226f72646572223a20302c20226b6579223a20226b222c202276616c7565223a207b2261223a20
    317d2c2022666f726d223a2022706c61696e222c202264656c65746564223a2066616c73657d6400000002f9a4c67b2265223a2022636f6e
    74657874222c202263616c6c223a20302c20226f72646572223a20312c20226b6579223a20226b222c202276616c7565223a206e756c6c2c
    2022666f726d223a2022706c61696e222c202264656c65746564223a20747275657d6d000000004189e77b2265223a2022636f6e74657874
    222c202263616c6c223a20302c20226f72646572223a20322c20226b6579223a20226170695f6b6579222c202276616c7565223a20222a2a
    2a222c2022666f726d223a20226d61736b6564222c202264656c65746564223a2066616c73657d9b0000006ec6bd777b2265223a20226372
    6561746564222c202263616c6c223a20322c2022706172656e74223a20302c202274696d65223a20313030303030303030312e302c20226e
    616d65223a2022626164222c20226e6f64655f74797065223a2022546f6f6c222c2022696e7075745f61726773223a205b5d2c2022696e70
    75745f6b7761726773223a207b7d2c20226e6f6465223a20226170702e626164227d8c000000084141f87b2265223a2022656e646564222c
    202263616c6c223a20322c202274696d65223a20313030303030303030312e302c2022737461747573223a20224661696c6564222c20226f
    7574707574223a207b222474797065223a202256616c75654572726f72222c2022246d657373616765223a2022626f6f6d222c2022247472
    6163656261636b223a2022227d7d890000009b0a04537b2265223a202263726561746564222c202263616c6c223a20332c2022706172656e
    74223a20302c202274696d65223a20313030303030303030312e302c20226e616d65223a2022736c6f77222c20226e6f64655f7479706522
    3a2022546f6f6c222c2022696e7075745f61726773223a205b5d2c2022696e7075745f6b7761726773223a207b7d7d7e00000002c317417b
    2265223a2022656e646564222c202263616c6c223a20332c202274696d65223a20313030303030303030322e302c2022737461747573223a
    202243616e63656c6c6564222c2022726561736f6e223a202274696d656f7574222c20226162616e646f6e6564223a20747275652c20226f
    7574707574223a206e756c6c7d
    """
)
"""A journal that the release 0.1 writes. Never write it anew: what reads it must stay able to."""


def test_the_golden_journal_stays_readable():
    info = ExecutionInfo.from_journal(GOLDEN)
    assert (info.session_id, info.session_name, info.flow_name, info.flow_id) == ("golden", "a name", "flow", None)
    assert (info.start_time, info.end_time, info.damage) == (1e9, None, None)
    told = [(r.parent, r.name, r.args, dict(r.kwargs), r.status.value, r.reason, r.result) for r in info.records]
    assert told == [
        (None, "root", (1, "two", None, True, 2.5), {"key": [1, {"a": "é"}]}, "Open", Reason.PROCESS_DIED, None),
        (0, "good", ([1, 2],), {}, "Completed", None, {"x": [1, 2]}),
        (0, "bad", (), {}, "Failed", None, None),
        (0, "slow", (), {}, "Cancelled", Reason.TIMEOUT, None),
    ]
    assert str(info.records[2].exception) == "ValueError: boom"
    assert [(r.started, r.ended) for r in info.records] == [
        (1e9, None),
        (1e9, 1e9 + 0.5),
        (1e9 + 1, 1e9 + 1),
        (1e9 + 1, 1e9 + 2),
    ]
    assert [(c.order, c.key, c.value, c.form.value) for c in info.records[0].changes] == [
        (0, "k", '{"a": 1}', "plain"), (1, "k", None, "plain"), (2, "api_key", '"***"', "masked"),
    ]  # fmt: skip
    assert [r.node for r in info.records] == ["app.root", "app.good", "app.bad", None]
    assert [r.reuse for r in info.records] == ["it had not ended", "reused", None, None]
    assert [(r.name, r.status.value) for r in info.earlier] == [("root", "Open"), ("good", "Completed")]
    assert info.records[3].abandoned is True


# ---- the state file


@pytest.fixture(scope="module")
def document(small):
    return "".join(attrs.evolve(small[1], records=small[1].records[:2]).document()).encode()


def test_a_state_file_that_breaks_off_anywhere_never_loads_and_says_why(document, tmp_path):
    store, path = FileStore(tmp_path), tmp_path / "mine.json"
    path.write_bytes(document)
    assert load_run("mine", store).records
    for cut in range(len(document) - 1, -1, -1):
        os.truncate(path, cut)
        with pytest.raises(StateError, match=r"the run 'mine' at .*mine\.json: this is no state file: \w+"):
            load_run("mine", store)


def test_runs_whose_state_files_break_off_are_listed_with_what_is_known(document, tmp_path):
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


def without_news(data):
    """A document as version 1 had it."""
    for name in ("status", "calls", "earlier"):
        data.pop(name, None)
    for run in data["runs"]:
        for edge in run["edges"]:
            for version in filter(None, (edge, edge["parent"])):
                for name in ("input_form", "output_form", "node", "context", "reuse"):
                    version["details"].pop(name, None)
    return {**data, "version": 1}


def test_a_state_file_of_version_1_is_read(small):
    data = without_news(small[1].payload())
    info = ExecutionInfo.from_document(json.dumps(data).encode())
    told = [(r.name, r.status, r.args, r.reason) for r in info.records]
    assert told == [(r.name, r.status, r.args, r.reason) for r in small[1].records]
    assert info.records[0].result == [3, 3]  # a tuple, once
    assert {record.inputs.rpartition('"input_form": ')[2] for record in info.records} == {'"unknown"'}
    ended = [record for record in info.records if record.status is not Status.OPEN]
    assert {record.output.rpartition('"output_form": ')[2] for record in ended} == {'"unknown"'}
    assert without_news(info.payload()) == data


def test_a_run_of_version_1_is_listed_without_what_it_did_not_say(small, tmp_path):
    store = FileStore(tmp_path)
    store.save("mine", [json.dumps(without_news(small[1].payload())).encode()])
    [run] = list_runs(store)
    assert (run.state, run.status, run.calls, run.flow_name) == ("ended", None, None, "flow")


# ---- which runs there are


@pytest.fixture
def runs(tmp_path):
    """Runs r0 to r4 that ended 500, 400, ... seconds ago, one that died 1000 seconds ago, one that runs."""
    store = FileStore()
    now = time.time()
    for number in range(5):
        store.save(f"r{number}", [b'{"version": 2}'])
        os.utime(f".railtracks/r{number}.json", (now, now - 500 + 100 * number))
    for name in ("died", "runs"):
        store.open(name, b"{}").close()
        os.utime(f".railtracks/{name}.journal", (now, now - 1000))
    lock = store.lock("runs")
    yield store
    lock.release()


def names():
    return {run.identifier for run in list_runs()}


ALL = {"r0", "r1", "r2", "r3", "r4", "died", "runs"}


def test_there_are_no_runs_where_there_is_no_folder(tmp_path):
    assert list_runs() == []
    assert list_runs(MemoryStore()) == []
    assert prune(keep=0) == []
    assert [*tmp_path.iterdir()] == []


def test_runs_are_listed_the_oldest_first_with_their_states(runs):
    listed = list_runs()
    assert {run.identifier for run in listed[:2]} == {"died", "runs"}
    assert [run.identifier for run in listed[2:]] == ["r0", "r1", "r2", "r3", "r4"]
    states = {run.identifier: run.state for run in listed}
    assert states == {"died": "died", "runs": "running", **{f"r{number}": "ended" for number in range(5)}}


async def test_a_run_that_ended_is_listed_with_what_came_of_it():
    for name, node in (("good", leaf), ("bad", broken)):
        async with rt.Session(run_identifier=name, flow_name="flow") as session:
            with pytest.raises(ValueError) if node is broken else anyio.CancelScope():
                await rt.call(node, *(() if node is broken else (1,)))
    bad = {run.identifier: run for run in list_runs()}["bad"]
    assert (bad.state, bad.status, bad.calls, bad.flow_name) == ("ended", Status.FAILED, 1, "flow")
    assert (bad.start_time, bad.end_time) == (session.info.start_time, session.info.end_time)
    assert {run.identifier: run.status for run in list_runs()} == {"good": Status.COMPLETED, "bad": Status.FAILED}


def test_pruning_by_age_removes_what_was_not_written_to_since(runs):
    assert prune(older_than=350) == ["died", "r0", "r1"]
    assert names() == ALL - {"died", "r0", "r1"}
    assert prune(older_than=timedelta(hours=1)) == []


def test_pruning_by_number_keeps_the_latest(runs):
    assert prune(keep=2) == ["died", "r0", "r1", "r2"]
    assert names() == {"r3", "r4", "runs"}


def test_pruning_by_both_removes_only_what_is_old_and_not_among_the_latest(runs):
    assert prune(older_than=150, keep=4) == ["died", "r0"]
    assert prune(older_than=350, keep=1) == ["r1"]
    assert names() == {"r2", "r3", "r4", "runs"}


@pytest.mark.parametrize("keep", [7, 8, 10**9])
def test_pruning_keeps_all_if_there_are_not_more(runs, keep):
    assert prune(keep=keep) == prune(keep=keep, older_than=0) == []
    assert names() == ALL


@pytest.mark.parametrize("limit", [{"keep": 0}, {"older_than": 0}, {"older_than": timedelta(0), "keep": 0}])
def test_pruning_all_leaves_those_that_run(runs, limit):
    assert set(prune(**limit)) == ALL - {"runs"}
    assert names() == {"runs"}
    assert sorted(path.name for path in Path(".railtracks").iterdir()) == ["runs.journal", "runs.lock"]


def test_pruning_without_a_limit_is_refused(runs):
    with pytest.raises(ConfigError, match="would remove all runs; give older_than=, keep=, or both"):
        prune()
    assert names() == ALL


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ({"keep": -1}, "prune: -1 is not allowed for keep; give a whole number of at least 0"),
        ({"keep": 1.5}, "1.5 is not allowed for keep"),
        ({"keep": True}, "True is not allowed for keep"),
        ({"keep": "3"}, "'3' is not allowed for keep"),
        ({"older_than": -0.5}, "prune: -0.5 is not allowed for older_than; give a number of seconds, or a timedelta"),
        ({"older_than": timedelta(-1)}, "is not allowed for older_than"),
        ({"older_than": float("nan")}, "nan is not allowed for older_than"),
        ({"older_than": "1 day"}, "'1 day' is not allowed for older_than"),
        ({"older_than": 0, "keep": -1}, "-1 is not allowed for keep"),
    ],
)
def test_pruning_with_a_value_that_makes_no_sense_is_refused_and_removes_nothing(runs, limit, problem):
    with pytest.raises(ConfigError) as caught:
        prune(**limit)
    assert problem in str(caught.value)
    assert names() == ALL


def test_pruning_for_ever_removes_nothing(runs):
    assert prune(older_than=float("inf")) == []


def test_a_run_that_is_resumed_while_others_are_pruned_stays(runs, monkeypatch):
    """Between the look at the list and the removal, r0 is written to."""
    original = FileStore.list

    def list_and_write(self):
        found = original(self)
        monkeypatch.setattr(FileStore, "list", original)
        self.save("r0", [b'{"new": 1}'])
        return found

    monkeypatch.setattr(FileStore, "list", list_and_write)
    assert prune(older_than=350) == ["died", "r1"]
    assert FileStore().read("r0").document == b'{"new": 1}'


@pytest.mark.parametrize("make", [MemoryStore, lambda: SQLiteStore("runs.db")], ids=["memory", "sqlite"])
def test_other_stores_are_pruned_too(make):
    store = make()
    for name in ("a", "b", "c"):
        store.save(name, [b'{"version": 2}'])
    lock = store.lock("a")
    assert prune(keep=1, store=store) == ["b"]
    lock.release()
    assert [run.identifier for run in list_runs(store)] == ["a", "c"]


# ---- one run


def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(runs):
    with pytest.raises(StateError, match=r"no run 'r9' at .*r9\.json; the latest are r2, r3, r4"):
        load_run("r9")
    with pytest.raises(StateError, match="no run 'r9' at memory, as r9; there are none"):
        load_run("r9", MemoryStore())


@pytest.mark.parametrize("identifier", ["../r0", "a/b", "", ".", 7, None])
def test_an_identifier_that_names_no_run_is_refused(identifier):
    with pytest.raises(ConfigError, match="is no identifier of a run"):
        load_run(identifier)


@pytest.mark.parametrize("setting", ["file:runs", "sqlite:runs.db"])
async def test_a_store_can_be_given_as_text(setting):
    async with rt.Session(run_identifier="mine", store=setting, durability="sync") as session:
        await rt.call(leaf, 1)
        assert [run.state for run in list_runs(setting)] == ["running"]
    assert load_run("mine", setting) == session.info
    assert [run.state for run in list_runs(setting)] == ["ended"]
    assert prune(keep=0, store=setting) == ["mine"]


async def test_inside_a_session_its_own_run_is_loaded_as_running():
    with pytest.raises(Stop):
        async with rt.Session(run_identifier="mine") as session:
            session.start_soon(endless)
            await anyio.sleep(1)
            info = load_run("mine")
            assert [(r.name, r.status, r.reason) for r in info.records] == [("endless", Status.OPEN, None)]
            assert info.answer is None
            assert [(run.state, run.status) for run in list_runs()] == [("running", None)]
            with pytest.raises(RunInUseError):
                FileStore().lock("mine")
            raise Stop
    assert load_run("mine") == session.info
    assert session.info.records[0].reason is Reason.OUTSIDE


DYING = """
import os, signal, sys
import anyio
import railtracks as rt

@rt.function_node
async def done(): return 1

@rt.function_node
async def dying():
    await rt.call(done)
    print("now", flush=True)
    sys.stdin.readline()

async def main():
    async with rt.Session(run_identifier="mine", durability=sys.argv[1], logging_setting="NONE"):
        await rt.call(dying)

anyio.run(main)
"""


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_the_run_of_a_process_that_was_killed_died_and_can_be_loaded(durability):
    command = [sys.executable, "-c", DYING, durability]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout.readline() == "now\n"
        assert [run.state for run in list_runs()] == ["running"]
        assert [r.reason for r in load_run("mine").records] == [None, None]
        process.kill()
    assert [run.state for run in list_runs()] == ["died"]
    assert [(r.name, r.status, r.reason) for r in load_run("mine").records] == [
        ("dying", Status.OPEN, Reason.PROCESS_DIED),
        ("done", Status.COMPLETED, None),
    ]


# ---- very many runs


@pytest.fixture
def three_are_many(monkeypatch):
    monkeypatch.setattr(_runs, "MANY", 3)
    monkeypatch.setattr(_runs, "_warned", set())


async def test_a_folder_with_very_many_runs_is_warned_of_once(three_are_many, caplog):
    for number in range(6):
        async with rt.Session(run_identifier=f"r{number}"):
            pass
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "there are 3 runs in" in record.getMessage()
    assert "rt.state.prune(keep=...)" in record.getMessage()
    assert f"in {Path.cwd() / '.railtracks'}" in record.getMessage()


async def test_a_folder_with_fewer_runs_is_not_warned_of(three_are_many, caplog):
    for _ in range(5):
        async with rt.Session(run_identifier="the-same"):
            pass
    async with rt.Session(run_identifier="other"):
        pass
    assert [r.getMessage() for r in caplog.records if "prune" in r.getMessage()] == []


@pytest.mark.parametrize("make", [MemoryStore, lambda: SQLiteStore("runs.db")], ids=["memory", "sqlite"])
async def test_other_stores_are_not_warned_of(make, three_are_many, caplog):
    store = make()
    for number in range(6):
        async with rt.Session(run_identifier=f"r{number}", store=store):
            pass
    assert caplog.records == []
