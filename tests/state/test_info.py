"""ExecutionInfo: queries, the document, and the way there and back."""

import json
import math

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError, StateError
from railtracks.state import ExecutionInfo, Failure, Reason, RecordedError, Status
from railtracks.state._journal._format import encode_entries, entries_of, header_entry
from railtracks.state._transitions import RTState

ERROR = ValueError("boom")


def make(*calls):
    """A view of calls (name, index of the parent, outcome), each created and, unless None, ended in this order."""
    state, made, now = RTState(), [], iter(range(1000, 10**6))
    for name, parent, _ in calls:
        made.append(state.created(name, "Tool", (name,), {"k": 1}, None if parent is None else made[parent], next(now)))
    for record, (_, _, outcome) in reversed([*zip(made, calls, strict=True)]):
        if outcome is not None:
            end(state, record, outcome, float(next(now)))
    return ExecutionInfo("s", "name", "flow", "id", 1000.0, 1001.0, state.snapshot())


def end(state, record, outcome, now):
    if isinstance(outcome, Reason):
        state.cancelled(record, outcome, now)
    elif isinstance(outcome, Exception):
        state.failed(record, outcome, now)
    else:
        state.succeeded(record, outcome, now)


TREE = make(("a", None, "A"), ("b", 0, ERROR), ("c", 0, Reason.TIMEOUT), ("d", 1, "D"), ("e", None, None), ("f", 4, 6))
"""Two top-level calls: a, which made b (failed; it made d) and c (cancelled); and e (still open), which made f."""


# ---- queries


def test_a_session_without_a_call_has_no_answer_and_no_stamps():
    info = make()
    assert info.answer is None
    assert info.all_stamps == info.insertion_requests == []
    assert info.payload()["runs"] == []


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], Status.COMPLETED),
        (["A", "B"], Status.COMPLETED),
        (["A", Reason.TIMEOUT], Status.CANCELLED),
        ([Reason.TIMEOUT, ERROR], Status.FAILED),
        ([ERROR, None], Status.OPEN),
    ],
)
def test_the_status_is_that_of_the_top_level_calls(outcomes, status):
    info = make(*((str(place), None, outcome) for place, outcome in enumerate(outcomes)))
    assert info.status is info.summary().status is status
    assert attrs.evolve(info, end_time=None).status is (Status.OPEN if status is Status.COMPLETED else status)


def test_the_status_leaves_out_what_became_of_the_calls_below():
    assert make(("a", None, "A"), ("b", 0, ERROR)).status is Status.COMPLETED


@pytest.mark.parametrize("value", [None, 0, [], [1, 2], "text"])
def test_the_answer_of_one_call_is_its_value_itself(value):
    state = RTState()
    state.succeeded(state.created("a", "Tool", (), {}, None, 0.0), value, 1.0)
    assert ExecutionInfo("s", records=state.snapshot()).answer is value


def test_the_answer_of_several_calls_is_a_list_in_their_order():
    """It holds the results of the top-level calls, without those of nested calls."""
    assert make(("a", None, 1), ("b", 0, 2), ("c", None, 3), ("d", None, None)).answer == [1, 3, None]


def test_a_failed_call_answers_with_its_exception_itself():
    answer = make(("a", None, ERROR)).answer
    assert isinstance(answer, Failure)
    assert answer.exception is ERROR


def journalled(info):
    """The snapshot that is read from a journal with the same calls."""
    read = ExecutionInfo.from_document("".join(info.document()).encode())
    texts = [header_entry(info.facts, ""), *entries_of(read.records)]
    return ExecutionInfo.from_journal(encode_entries(texts)[0])


@pytest.mark.parametrize("form", ["live", "document", "journal"])
@pytest.mark.parametrize("limit", [5.0, 0.25, 3, None])
def test_answer_of_a_call_that_took_too_long_has_its_limit(form, limit, tmp_path):
    """As far as it is on record: earlier releases did not record it."""
    state = RTState()
    record = state.created("slow", "Tool", (), {}, None, 1.0)
    state.cancelled(record, Reason.TIMEOUT, 7.5, timeout=limit)
    info = ExecutionInfo("s", start_time=0.0, records=state.snapshot())
    if form != "live":
        info = journalled(info) if form == "journal" else save_and_load(info, tmp_path)
    error = info.answer.exception
    assert isinstance(error, GlobalTimeOutError)
    assert error.timeout == (6.5 if limit is None else limit)
    if limit is None:
        assert str(error) == "slow exceeded its timeout and ended after 6.5 s"
    else:
        assert str(error) == f"slow exceeded the timeout of {limit:g} s, and ended after 6.5 s"
    (details,) = [edge["details"] for edge in info.payload()["runs"][0]["edges"]]
    assert details.get("timeout") == limit


EXITS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), pytest.fail.Exception("no"), BaseException("odd")]


@pytest.mark.parametrize("form", ["live", "document", "journal"])
@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_exception_of_any_kind_is_the_answer_of_a_failed_call(error, form, tmp_path):
    state = RTState()
    state.failed(state.created("ends", "Tool", (), {}, None, 1.0), error, 2.0)
    info = ExecutionInfo("s", start_time=0.0, records=state.snapshot())
    if form != "live":
        info = journalled(info) if form == "journal" else save_and_load(info, tmp_path)
    assert (info.records[0].status, info.records[0].reason) == (Status.FAILED, None)
    assert info.payload()["status"] == "Failed"
    found = info.answer.exception
    if form == "live":
        assert found is error
    else:
        assert isinstance(found, RecordedError)
        assert (found.type.rpartition(".")[2], found.message) == (type(error).__qualname__, str(error))


@pytest.mark.parametrize("reason", Reason)
def test_a_cancelled_call_answers_with_a_failure_that_says_why(reason):
    answer = make(("a", None, reason)).answer
    assert isinstance(answer, Failure)
    assert reason.value in str(answer.exception)


def test_the_name_is_that_of_the_only_top_level_call():
    assert make(("a", None, 1), ("b", 0, 2)).name == "a"


@pytest.mark.parametrize("calls", [(), (("a", None, 1), ("b", None, 2))], ids=["none", "two"])
def test_a_name_needs_exactly_one_top_level_call(calls):
    with pytest.raises(ValueError, match=f"{len(calls)} top-level calls"):
        _ = make(*calls).name


def test_each_ended_call_has_two_stamps():
    """The steps of all stamps are contiguous."""
    stamps = TREE.all_stamps
    assert [stamp.step for stamp in stamps] == list(range(11))  # e is open
    assert [stamp.identifier for stamp in stamps[-5:]] == ["f DONE", "d DONE", "c CANCELLED", "b FAILED", "a DONE"]
    assert [stamp.time for stamp in stamps] == [1000.0 + step for step in range(11)]


def test_the_insertion_requests_are_those_of_the_top_level_calls():
    assert [(edge.source, edge.target) for edge in TREE.insertion_requests] == [(None, "s-n0"), (None, "s-n4")]


def test_the_forests_know_all_calls_and_who_made_them():
    nodes, edges = TREE.node_forest, TREE.request_forest
    assert [(key, node.identifier) for key, node in nodes.heap().items()] == [(f"s-n{i}",) * 2 for i in range(6)]
    assert [(key, edge.identifier) for key, edge in edges.heap().items()] == [(f"s-e{i}",) * 2 for i in range(6)]
    assert [node.name for node in nodes.children("s-n0")] == ["b", "c"]
    assert [(edge.source, edge.target) for edge in edges.children("s-n1")] == [("s-n1", "s-n3")]
    assert nodes.children("s-n3") == []
    assert [node.name for node in nodes.insertion_request] == ["a", "e"]
    assert [edge.target for edge in edges.insertion_request] == ["s-n0", "s-n4"]


@pytest.mark.parametrize("forest", ["node_forest", "request_forest"])
def test_the_children_of_an_unknown_node_are_a_key_error(forest):
    with pytest.raises(KeyError, match="nope"):
        getattr(TREE, forest).children("nope")


def test_the_parent_of_a_node_or_edge_is_its_own_earlier_version():
    for forest in (TREE.node_forest, TREE.request_forest):
        for item in forest.heap().values():
            if item.parent is not None:
                assert item.parent.identifier == item.identifier
                assert item.parent.stamp.step < item.stamp.step
                assert item.parent.parent is None
    assert [node.name for node in TREE.node_forest.heap().values() if node.parent is None] == ["e"]


def test_a_subset_is_some_nodes_and_all_below_them():
    part = TREE.subset("s-n1")
    assert [node.name for node in part.node_forest.heap().values()] == ["b", "d"]
    assert [edge.target for edge in part.insertion_requests] == ["s-n1"]
    assert part.name == "b"
    assert [run["name"] for run in TREE.subset(["s-n3", "s-n1", "s-n4"]).payload()["runs"]] == ["b", "e"]


def test_the_subset_of_all_is_equal_and_of_none_is_empty():
    assert TREE.subset(TREE.node_forest.heap()) == TREE
    assert TREE.subset([]).records == ()


def test_a_subset_leaves_the_view_as_it_was():
    before = TREE.payload()
    TREE.subset("s-n1")
    assert TREE.payload() == before


def test_a_subset_by_an_id_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError, match="s-e0"):
        TREE.subset(["s-n0", "s-e0"])


def test_a_view_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        TREE.session_id = "other"


def test_views_are_equal_if_they_would_be_saved_alike():
    calls = ("a", None, 1), ("b", 0, 2)
    assert make(*calls) == make(*calls)
    assert make(*calls) != make(*calls[:1])
    assert make(*calls) != "text"


# ---- the document


def test_the_document_has_the_shape_that_the_design_says():
    document = TREE.payload()
    runs = document.pop("runs")
    assert document == {
        "version": 6, "flow_name": "flow", "flow_id": "id", "session_id": "s", "session_name": "name",
        "start_time": 1000.0, "end_time": 1001.0, "status": "Open", "calls": 6,
        "callers": [None, 0, 0, 1, None, 4],
    }  # fmt: skip
    assert runs == json.loads(TREE.graph_serialization())
    assert [(run["name"], run["run_id"], run["status"]) for run in runs] == [
        ("a", "s-r0", "Completed"), ("e", "s-r4", "Open"),
    ]  # fmt: skip
    assert [(run["start_time"], run["end_time"]) for run in runs] == [(1000.0, 1010.0), (1004.0, None)]
    assert [[node["name"] for node in run["nodes"]] for run in runs] == [["a", "b", "c", "d"], ["e", "f"]]
    assert sorted(step["step"] for run in runs for step in run["steps"]) == list(range(11))


def test_a_run_is_written_with_nodes_edges_and_steps():
    """The document has the form that the design specifies."""
    info = make(("a", None, "A"), ("b", 0, ERROR))
    created = [{"step": i, "time": 1000.0 + i, "identifier": f"CREATED {name}"} for i, name in enumerate("ab")]
    failed, done = ({"step": i, "time": 1000.0 + i, "identifier": text} for i, text in ((2, "b FAILED"), (3, "a DONE")))
    node = {"identifier": "s-n1", "node_type": "Tool", "name": "b"}
    edge = {"identifier": "s-e1", "source": "s-n0", "target": "s-n1"}
    details = {"input_args": ["b"], "input_kwargs": {"k": 1}, "reason": None, "abandoned": False}
    [run] = json.loads(info.graph_serialization())
    assert set(run) == {"name", "run_id", "status", "start_time", "end_time", "nodes", "edges", "steps"}
    assert run["steps"] == [*created, failed, done]
    assert run["nodes"][1] == {
        **node, "stamp": failed, "details": {"internals": {"latency": {"total_time": 1.0}}},
        "parent": {**node, "stamp": created[1], "details": {"internals": {}}, "parent": None},
    }  # fmt: skip
    assert run["edges"][1] == {
        **edge, "stamp": failed,
        "details": {
            **details, "status": "Failed", "output": {"$type": "ValueError", "$message": "boom", "$traceback": ""},
            "output_types": {"": {"type": "ValueError", "state": {"args": ["boom"]}}}, "output_form": "typed",
        },
        "parent": {
            **edge, "stamp": created[1], "details": {**details, "status": "Open", "output": None}, "parent": None,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [("x", "Completed", None), (ERROR, "Failed", None), (None, "Open", None), *((r, "Cancelled", r) for r in Reason)],
)
def test_the_status_of_run_and_edge_is_what_really_happened(outcome, status, reason):
    [run] = make(("a", None, outcome)).payload()["runs"]
    details = run["edges"][0]["details"]
    assert (run["status"], details["status"], details["reason"]) == (status, status, reason)


def test_the_payload_is_plain_data():
    def kinds(value):
        yield type(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from kinds(part)

    assert set(kinds(TREE.payload())) <= {dict, list, str, int, float, bool, type(None)}


def test_a_node_that_returned_none_is_completed():
    state = RTState()
    state.succeeded(state.created("a", "Tool", (), {}, None, 0.0), None, 1.0)
    [run] = ExecutionInfo("s", records=state.snapshot()).payload()["runs"]
    assert run["status"] == run["edges"][0]["details"]["status"] == "Completed"


# ---- there and back


def save_and_load(info, folder):
    info.save(folder / "state.json")
    return ExecutionInfo.load(folder / "state.json")


def test_a_view_with_calls_of_all_kinds_comes_back_equal(tmp_path):
    """It has failed, cancelled and open calls."""
    loaded = save_and_load(TREE, tmp_path)
    assert loaded == TREE
    assert [record.status for record in loaded.records] == [record.status for record in TREE.records]
    assert loaded.payload() == TREE.payload()
    assert [stamp.identifier for stamp in loaded.all_stamps] == [stamp.identifier for stamp in TREE.all_stamps]
    assert [node.name for node in loaded.node_forest.children("s-n0")] == ["b", "c"]
    assert loaded.subset("s-n1") == TREE.subset("s-n1")


def test_a_failure_comes_back_as_a_recorded_error(tmp_path):
    answer = save_and_load(make(("a", None, ERROR)), tmp_path).answer
    assert isinstance(answer, Failure)
    assert isinstance(answer.exception, RecordedError)
    assert str(answer.exception) == "ValueError: boom"


def test_an_exception_that_was_returned_comes_back_as_a_result(tmp_path):
    state = RTState()
    state.succeeded(state.created("a", "Tool", (), {}, None, 0.0), ERROR, 1.0)
    answer = save_and_load(ExecutionInfo("s", records=state.snapshot()), tmp_path).answer
    assert isinstance(answer, RecordedError)


def test_a_failure_with_an_unwritable_exception_is_a_failure(tmp_path):
    class Broken(Exception):
        @property
        def __cause__(self):  # type: ignore[override]
            raise RuntimeError("no cause")

    assert isinstance(save_and_load(make(("a", None, Broken("x"))), tmp_path).answer, Failure)


outcomes = st.none() | st.sampled_from([*Reason, ERROR, "x", math.inf, b"b", {1: 2}])


@given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 30), outcomes)))
def test_any_tree_comes_back_equal(tmp_path_factory, calls):
    tree = [
        (name, None if pick % 3 == 0 or i == 0 else pick % i, outcome) for i, (name, pick, outcome) in enumerate(calls)
    ]
    info = make(*tree)
    loaded = save_and_load(info, tmp_path_factory.getbasetemp())
    assert loaded == info
    assert save_and_load(loaded, tmp_path_factory.getbasetemp()) == info


async def test_a_session_and_its_file_agree():
    """A view that was taken inside the session stays as it was."""

    async def child(x):
        if x:
            raise ValueError(x)
        await anyio.sleep(1)

    async def parent():
        return await rt.call_batch(child, [0, 1])

    async with rt.Session(run_identifier="live") as session:
        await rt.call(parent)
        with anyio.move_on_after(0.5):
            await rt.call(child, 0)
        inside = session.info
        payload = inside.payload()
        await rt.call(parent)
    assert inside.payload() == payload
    loaded = ExecutionInfo.load(".railtracks/live.json")
    assert loaded == session.info
    assert loaded.payload() == session.payload()
    assert [stamp.step for stamp in loaded.all_stamps] == list(range(14))
    assert [run["status"] for run in session.payload()["runs"]] == ["Completed", "Cancelled", "Completed"]
    cancelled = session.info.insertion_requests[1].details
    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, Reason.OUTSIDE)
    assert session.info.node_forest.insertion_request[1].details["internals"]["latency"]["total_time"] == 0.5


# ---- files that are none


def broken(tmp_path, change):
    data = TREE.payload()
    change(data)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(StateError, match=r"broken\.json") as caught:
        ExecutionInfo.load(path)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"text", b"[" * 100_000], ids=repr)
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(StateError, match=r"broken\.json: this is not a state file"):
        ExecutionInfo.load(tmp_path / "broken.json")


@pytest.mark.parametrize("content", ["[]", "1", "null", "{}", '"text"'])
def test_json_that_is_not_a_document_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(StateError, match=r"broken\.json"):
        ExecutionInfo.load(tmp_path / "broken.json")


@pytest.mark.parametrize("version", [0, 7, "1", None])
def test_an_unknown_version_of_a_document_is_an_error(tmp_path, version):
    """The error names the version that is known."""
    message = broken(tmp_path, lambda data: data.update(version=version))
    assert f"version {version!r}" in message
    assert "reads 1" in message


@pytest.mark.parametrize("field", ["session_id", "runs", "start_time", "flow_name"])
def test_a_field_of_the_document_that_is_missing_is_named(tmp_path, field):
    assert field in broken(tmp_path, lambda data: data.pop(field))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda run: run.pop("nodes"), "nodes"),
        (lambda run: run["nodes"][0].pop("stamp"), "stamp"),
        (lambda run: run["edges"][0]["details"].pop("status"), "status"),
        (lambda run: run["edges"][0]["details"].update(status="Lost"), "status"),
        (lambda run: run["nodes"][1]["stamp"].update(step="x"), "step"),
        (lambda run: run["nodes"][0].update(identifier="rubbish"), "rubbish"),
        (lambda run: run["edges"][1].update(source="rubbish"), "rubbish"),
        (lambda run: run.update(run_id="rubbish"), "rubbish"),
        (lambda run: run["edges"].pop(), "edges"),
        (lambda run: run.update(nodes=5), "nodes"),
        (lambda run: run["edges"][0]["details"].update(input_args=5), "input_args"),
        (lambda run: run["edges"][0]["details"].update(input_kwargs=[1]), "input_kwargs"),
        (lambda run: run["edges"][0].update(details=None), "details"),
    ],
)
def test_what_is_wrong_in_a_run_is_named(tmp_path, change, named):
    assert named in broken(tmp_path, lambda data: change(data["runs"][0])).partition("broken.json")[2]


paths = st.lists(st.integers(0, 30), max_size=6)
rubbish = st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({}) | st.just({"$type": "x"})


@given(paths, rubbish)
def test_a_document_with_rubbish_loads_or_is_a_state_error(tmp_path_factory, path, value):
    """The rubbish may stand anywhere in the document."""
    data = TREE.payload()
    place = data
    for pick in path:
        options = list(place.values()) if isinstance(place, dict) else place
        deeper = [option for option in options if isinstance(option, dict | list) and option]
        if not deeper:
            break
        place = deeper[pick % len(deeper)]
    key = (list(place) if isinstance(place, dict) else range(len(place)))[sum(path) % len(place)]
    place[key] = value
    file = tmp_path_factory.getbasetemp() / "state.json"
    file.write_text(json.dumps(data))
    try:
        ExecutionInfo.load(file).payload()
    except StateError as exc:
        assert str(file) in str(exc)


def test_a_file_that_is_not_there_is_the_operating_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ExecutionInfo.load(tmp_path / "none.json")
