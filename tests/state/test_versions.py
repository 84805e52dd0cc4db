"""Journals and state files of other versions, and one that must stay readable."""

import json

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import ExecutionInfo, FileStore, Form, MemoryStore, Reason, Status, list_runs
from tests.state.journals import framed, leaf, payloads

# ---- journals


def header(**members):
    return {"e": "header", "version": 5, "session_id": "mine", "start_time": 1.0, "end_time": None, **members}


@pytest.mark.parametrize("version", [99, 7, 0, -1, None, "2", 2.5, [2], {}])
def test_an_unknown_version_of_a_journal_is_an_error(version):
    """The error says which versions are known."""
    with pytest.raises(StateError, match=r"version .*; this release of railtracks reads 1 to 6"):
        ExecutionInfo.from_journal(framed(header(version=version)))


@pytest.mark.parametrize(
    "first",
    [
        {"e": "end", "time": 1.0},
        {"version": 3},
        {"e": "header"},
        [],
        7,
        None,
        {"e": "header", "version": 3},
        header(unheard=1),
        header(records=[]),
        header(damage="none"),
    ],
    ids=json.dumps,
)
def test_a_first_entry_that_is_not_a_header_is_a_state_error(first):
    with pytest.raises(StateError):
        ExecutionInfo.from_journal(framed(first, {"e": "end", "time": 2.0}))


def as_version_1(events):
    """Such a journal as the first release with one wrote: without forms, nodes and reuse."""
    news = {"input_form", "output_form", "node", "reuse"}
    old = [
        {key: value for key, value in event.items() if key not in news} for event in events if event["e"] != "context"
    ]
    return framed({**old[0], "version": 1}, *old[1:])


def test_the_form_of_values_of_version_1_is_unknown(small):
    """How much of a value was written is not known."""
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


# ---- state files


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


def test_a_run_of_version_1_is_listed_with_what_it_says(small, tmp_path):
    store = FileStore(tmp_path)
    store.save("mine", [json.dumps(without_news(small[1].payload())).encode()])
    [run] = list_runs(store)
    assert (run.state, run.status, run.calls, run.flow_name) == ("ended", None, None, "flow")
