"""The runnable examples: the published ones, and the audit."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import railtracks as rt
from railtracks.state import Status
from railtracks.testing import ScriptedModel
from tests import virtual

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs/scripts"


class NodeA(rt.nodes.Node[str]):
    def __init__(self, text: str) -> None:
        self.text = text

    async def invoke(self) -> str:
        return f"A: {self.text}"


def test_the_first_published_example_runs(backend, monkeypatch):
    monkeypatch.setattr(rt.nodes, "NodeA", NodeA, raising=False)  # the published name for any node
    rt.set_config(backend=backend)

    with rt.Session() as run:
        result = rt.call_sync(rt.nodes.NodeA, "Hello World")  # type: ignore[attr-defined, call-overload]
    session = rt.Session(context={"key": "value"}, save_state=True)

    assert result == "A: Hello World"
    assert run.info.answer == result
    assert session.context == {"key": "value"}


def an_agent():
    model = ScriptedModel(lambda messages: f"A: {messages[-1].content}")
    return rt.agent_node("My Agent", llm=model, system_message="You hold the key {api_key}.")


@pytest.mark.parametrize("make", [lambda: NodeA, an_agent], ids=["node", "agent"])
def test_the_second_published_flow_runs(make, backend):
    MyAgent = make()

    @rt.function_node
    async def my_workflow(user_input: str):
        result = await rt.call(MyAgent, user_input)
        return result

    flow = rt.Flow(
        "My Workflow", entry_point=my_workflow, timeout=60, context={"api_key": "secret-4711"}, logging_setting="INFO",
        backend=backend,
    )  # fmt: skip
    assert str(flow.invoke("Hello!")) == "A: Hello!"

    async def asynchronous():
        return await flow.ainvoke("Hello!")

    assert str(virtual.run(backend, asynchronous)) == "A: Hello!"
    assert "secret-4711" not in "".join(file.read_text() for file in Path(".railtracks").iterdir())


def test_the_published_warning_is_printed_word_for_word():
    code = "import railtracks as rt\nfor _ in range(2):\n    with rt.Session(run_identifier='my-unique-run'): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "RT.Session  : WARNING  - File .railtracks/my-unique-run.json already exists, overwriting..." in done.stderr


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "good.py").write_text("def short():\n    pass\n\n\ndef long():\n" + "    x = 1\n" * 9)
    (folder / "bad_syntax.py").write_text("def broken(:\n")
    (folder / "bad_coding.py").write_bytes(b"# coding: ascii\nx = '\xff'\n")
    (folder / "site-packages").mkdir()
    (folder / "site-packages/other.py").write_text("x = 1\n")
    return folder


def test_the_audit_counts_and_goes_on_past_what_cannot_be_parsed(source, backend, capsys):
    script = runpy.run_path(str(SCRIPTS / "audit.py"))
    assert script["main"]([str(source), "--max-lines", "5", "--backend", backend]) == 0
    output = capsys.readouterr().out
    assert "3 files, 14 lines, 2 functions" in output
    assert "1 functions too long; 2 files could not be parsed" in output
    info = rt.state.load_run(output.splitlines()[-1].removeprefix("As a page in the browser: railtracks view "))
    assert str(info) in output
    statuses = [record.status for record in info.records if record.name == "parse"]
    assert sorted(statuses) == [Status.COMPLETED, Status.FAILED, Status.FAILED]
    assert info.answer["longest"][0]["name"] == "long"


@pytest.mark.either_backend
def test_ctrl_c_ends_the_audit_at_once(tmp_path, backend):
    """The state says what was done until then."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(400):
        (folder / f"module_{number}.py").write_text(f"def function_{number}():\n    pass\n")
    (folder / "zzz.py").write_text("x = 1\n")
    code = f"""
import os, runpy, sys
from pathlib import Path
read_bytes = Path.read_bytes
def read_or_hang(self):
    if self.name == "zzz.py":
        print("reached", flush=True)
        os.read(0, 1)
    return read_bytes(self)
Path.read_bytes = read_or_hang
audit = runpy.run_path({str(SCRIPTS / "audit.py")!r})
sys.exit(audit["main"]([{str(folder)!r}, "--backend", {backend!r}, "--limit", "4"]))
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        for line in process.stdout:
            if line == "reached\n":  # the last file: all others were begun before
                break
        process.send_signal(signal.SIGINT)
        last = next(
            line for line in process.stdout if line.startswith("As a page in the browser: ")
        )  # while the last file still hangs
        _, errors = process.communicate(timeout=60)  # closes its standard input, which ends that
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    [state] = (tmp_path / ".railtracks").glob("*.json")
    assert last == f"As a page in the browser: railtracks view {state.stem}\n"
    statuses = [edge["details"]["status"] for edge in json.loads(state.read_text())["runs"][0]["edges"]]
    assert statuses.count("Completed") > 390
    assert "Cancelled" in statuses
    assert "Open" not in statuses
