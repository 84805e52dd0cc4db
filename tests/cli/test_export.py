"""``railtracks export``: what other programs get of a run."""

import csv
import io
import json
import math
import re
import subprocess

import anyio
import attrs
import pytest
from hypothesis import given

import railtracks as rt
from railtracks.cli._chrome_trace import assign_lanes, chrome_trace
from railtracks.state import CallRecord, load_run
from railtracks.testing import tool_call
from tests.agents.helpers import agent_of, forecast
from tests.state.test_views import trees


@pytest.fixture
def info(command, program):
    command("run", f"{program}:pages", 12, "--run-identifier", "pages")
    return load_run("pages")


def test_perfetto_gets_a_slice_for_each_call(command, info, tmp_path):
    code, out, err = command("export", "pages", "--format", "chrome-trace", "--output", tmp_path / "trace.json")
    assert (code, out, err) == (0, "", f"The run pages is written to {tmp_path / 'trace.json'}.\n")
    data = json.loads((tmp_path / "trace.json").read_text())
    slices = [event for event in data["traceEvents"] if event["ph"] == "X"]
    assert [each["name"] for each in slices] == [record.name for record in info.records]
    for each, record in zip(slices, info.records, strict=True):
        assert each["ts"] / 1e6 == pytest.approx(record.started - info.start_time, abs=1e-6)
        assert each["dur"] / 1e6 == pytest.approx(record.ended - record.started, abs=1e-6)
    assert slices[4]["args"] == {
        "node_id": "pages-n4", "arguments": "3", "status": "Failed", "error": "LookupError: no page 3",
    }  # fmt: skip
    named = [event["args"]["name"] for event in data["traceEvents"] if event["ph"] == "M"]
    assert named[:2] == ["flow Pages, session pages", "lane 0"]


@given(trees())
def test_slices_of_one_lane_are_apart_or_nest(records):
    latest = max((record.ended or record.started for record in records), default=0.0)
    lanes: dict[int, list[tuple[float, float]]] = {}
    for record, lane in zip(records, assign_lanes(records, latest), strict=True):
        lanes.setdefault(lane, []).append((record.started, latest if record.ended is None else record.ended))
    assert sorted(lanes) == list(range(len(lanes)))
    for slices in lanes.values():
        for start, end in slices:
            for other, stop in slices:
                assert end <= other or stop <= start or start <= other <= stop <= end or other <= start <= end <= stop


def test_pictures_show_which_node_called_which(command, info):
    _, out, _ = command("export", "pages", "--format", "mermaid")
    lines = out.splitlines()
    assert lines[0] == "flowchart TD"
    assert lines[1].startswith('    n0["fetch × 12, ')
    assert lines[1].endswith('2 failed"]:::failed')
    assert "    n1 -->|12| n0" in lines
    _, out, _ = command("export", "pages", "--format", "dot")
    assert 'label="flow Pages, session pages";' in out
    assert '    n1 -> n0 [label="12"];' in out


async def test_names_are_text_in_pictures(backend):
    from railtracks.cli._graphs import dot, mermaid

    @rt.function_node(name='"]; evil -->|"\\')
    async def node():
        pass

    async with rt.Session(logging_setting="NONE") as session:
        await rt.call(node)
    assert "evil -->" not in mermaid(session.info)
    assert r'label="\"]; evil -->|\"\\ × 1' in dot(session.info)


def test_graphviz_reads_the_graph(command, info):
    dot = pytest.importorskip("shutil").which("dot")
    if dot is None:
        pytest.skip("graphviz is not installed")
    _, out, _ = command("export", "pages", "--format", "dot")
    subprocess.run([dot, "-Tsvg"], input=out, text=True, check=True, capture_output=True)


def test_tables_and_json_have_all_calls(command, info):
    _, out, _ = command("export", "pages", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == [record.name for record in info.records]
    assert (rows[4]["parent"], rows[4]["arguments"], rows[4]["error"]) == ("0", "3", "LookupError: no page 3")
    assert float(rows[4]["started"]) == info.records[4].started
    _, out, _ = command("export", "pages", "--format", "json")
    assert json.loads(out) == info.payload()


def attributes(pairs):
    """What a list of OTLP's KeyValue holds."""
    return {pair["key"]: value(pair["value"]) for pair in pairs}


def value(any_value):
    [(kind, found)] = any_value.items()
    if kind == "arrayValue":
        return [value(each) for each in found["values"]]
    return int(found) if kind == "intValue" else found


def otlp_spans(out):
    """The spans of the one request, the first of which is that of the session."""
    [resource_spans] = json.loads(out)["resourceSpans"]
    [scope_spans] = resource_spans["scopeSpans"]
    return scope_spans["spans"]


def test_collectors_get_a_span_for_each_call(command, info):
    _, out, _ = command("export", "pages", "--format", "otlp")
    [resource_spans] = json.loads(out)["resourceSpans"]
    assert attributes(resource_spans["resource"]["attributes"]) == {"service.name": "Pages"}
    root, *spans = otlp_spans(out)
    assert (root["name"], root["kind"], "parentSpanId" in root) == ("flow Pages", 1, False)
    assert (root["startTimeUnixNano"], root["endTimeUnixNano"]) == (
        str(round(info.start_time * 1e9)), str(round(info.end_time * 1e9)),
    )  # fmt: skip
    assert {span["traceId"] for span in spans} == {root["traceId"]}
    assert len({span["spanId"] for span in [root, *spans]}) == len(spans) + 1
    assert all(re.fullmatch("[0-9a-f]{32}", span["traceId"]) for span in spans)
    assert all(re.fullmatch("[0-9a-f]{16}", span["spanId"]) for span in spans)
    for span, record in zip(spans, info.records, strict=True):
        assert span["name"] == record.name
        parent = root if record.parent is None else spans[record.parent]
        assert span["parentSpanId"] == parent["spanId"]
        found = attributes(span["attributes"])
        assert found["railtracks.node_id"] == f"pages-n{record.index}"
        assert found["railtracks.status"] == record.status.value
        assert "railtracks.arguments" not in found
    failed = spans[4]
    assert failed["status"] == {"code": 2, "message": "LookupError: no page 3"}
    assert attributes(failed["attributes"])["error.type"] == "LookupError"
    [event] = failed["events"]
    described = attributes(event["attributes"])
    assert (event["name"], described["exception.message"]) == ("exception", "no page 3")
    assert described["exception.stacktrace"].startswith("Traceback")
    assert spans[0]["status"] == {}


def test_a_run_that_is_sent_twice_is_the_same_trace(command, info, program):
    first, again = (command("export", "pages", "--format", "otlp")[1] for _ in range(2))
    assert first == again
    command("run", f"{program}:pages", 12, "--run-identifier", "pages")
    other = command("export", "pages", "--format", "otlp")[1]
    assert otlp_spans(other)[0]["traceId"] != otlp_spans(first)[0]["traceId"]


async def test_a_run_without_an_end_reaches_to_its_latest_moment(backend):
    from railtracks.cli._otlp import otlp_request

    @rt.function_node
    async def top():
        await anyio.sleep(5)
        await rt.call(shows)

    @rt.function_node
    async def shows():
        shown.append(session.info)

    shown: list[rt.ExecutionInfo] = []
    async with rt.Session(logging_setting="NONE") as session:
        await rt.call(top)
    root, *spans = otlp_spans(json.dumps(otlp_request(shown[0])))
    latest = str(round(shown[0].records[1].started * 1e9))
    assert {span["endTimeUnixNano"] for span in [root, *spans]} == {latest}


async def test_agents_are_exported_by_the_conventions(backend):
    from railtracks.cli._otlp import otlp_request

    Weather, _ = agent_of([tool_call("forecast", city="Oslo")], "Snow.", name="Weather", tool_nodes=[forecast])
    flow = rt.Flow("Flow", Weather, logging_setting="NONE", run_identifier="weather")
    await flow.ainvoke("Do I need a coat?")
    live, loaded = (otlp_spans(json.dumps(otlp_request(each))) for each in (flow.last, load_run("weather")))
    assert live == loaded
    assert [(span["name"], span["kind"]) for span in live] == [
        ("flow Flow", 1), ("invoke_agent Weather", 1), ("chat scripted", 3), ("execute_tool forecast", 1),
        ("chat scripted", 3),
    ]  # fmt: skip
    chat = attributes(live[2]["attributes"])
    assert chat["gen_ai.usage.input_tokens"] == 5
    assert chat["gen_ai.response.finish_reasons"] == ["tool_calls"]


async def test_the_name_of_a_flow_is_text_that_can_be_encoded(backend):
    from railtracks.cli._otlp import otlp_request

    for name, session in (
        ("flow", rt.Session(flow_name="x\ud800", logging_setting="NONE", run_identifier="flow")),
        ("session", rt.Session(name="x\ud800", logging_setting="NONE", run_identifier="session")),
    ):
        async with session:
            await rt.call(lambda: 1)
        request = otlp_request(load_run(name))
        json.dumps(request, ensure_ascii=False).encode()
        assert attributes(request["resourceSpans"][0]["resource"]["attributes"]) == {"service.name": "x?"}


SETTINGS = {
    "seed": 2**70, "n": 2**63 - 1, "temperature": math.nan, "top_p": 0.5, "top_k": -math.inf, "bias": [1, -(2**63) - 1],
}  # fmt: skip
"""Numbers, some of which a collector cannot read."""
EXPORTED = {
    "gen_ai.request.seed": "1180591620717411303424", "gen_ai.request.choice.count": 2**63 - 1,
    "gen_ai.request.temperature": "nan", "gen_ai.request.top_p": 0.5,
    "gen_ai.request.top_k": "-inf", "railtracks.request.bias": ["1", "-9223372036854775809"],
}  # fmt: skip


async def test_numbers_that_otlp_cannot_hold_are_texts(backend):
    from railtracks.cli._otlp import otlp_request

    Agent, model = agent_of("Yes.")
    model.settings = SETTINGS
    await rt.Flow("Flow", Agent, logging_setting="NONE", run_identifier="numbers").ainvoke("?")
    chat = attributes(otlp_spans(json.dumps(otlp_request(load_run("numbers"))))[2]["attributes"])
    assert {name: chat[name] for name in EXPORTED} == EXPORTED


async def test_an_export_links_to_the_live_span(backend):
    from railtracks.cli._otlp import otlp_request

    async with rt.Session(logging_setting="NONE") as session:
        await rt.call(lambda: 1)
    for text, links in (
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
         [("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")]),
        ("damaged", []),
    ):  # fmt: skip
        root = otlp_spans(json.dumps(otlp_request(attrs.evolve(session.info, traceparent=text))))[0]
        assert [(link["traceId"], link["spanId"]) for link in root.get("links", [])] == links


def test_an_unknown_format_is_a_mistake(command, info):
    code, _, err = command("export", "pages", "--format", "png")
    assert code == 2
    assert "chrome-trace" in err


def test_times_of_a_trace_are_since_the_session_began():
    record = CallRecord(0, None, 0, "f", "Tool", (), {}, 1, 12.5, ended=13.0, ended_step=2)
    info = rt.ExecutionInfo(session_id="s", start_time=10.0, end_time=14.0, records=(record,))
    [event] = [event for event in chrome_trace(info)["traceEvents"] if event["ph"] == "X"]
    assert (event["ts"], event["dur"]) == (2.5e6, 0.5e6)
