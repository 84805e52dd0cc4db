"""``railtracks export``: what other programs get of a run."""

import csv
import io
import json
import subprocess

import pytest
from hypothesis import given

import railtracks as rt
from railtracks.cli._chrome_trace import assign_lanes
from railtracks.state import load_run
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
        assert each["ts"] / 1e6 == pytest.approx(record.started - info.records[0].started, abs=1e-6)
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


def test_an_unknown_format_is_a_mistake(command, info):
    code, _, err = command("export", "pages", "--format", "png")
    assert code == 2
    assert "chrome-trace" in err
