"""Runs that were recorded in the module ``__main__``, and resumed from another program or in another way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT

pytestmark = pytest.mark.either_backend

APP = """
import enum, functools, os, sys
from dataclasses import dataclass
from typing import Generic, TypeVar
import railtracks as rt
from railtracks.testing import ScriptedModel, tool_call

T = TypeVar("T")

@dataclass
class Order:
    size: int

@dataclass
class Box(Generic[T]):
    content: T

class Color(enum.Enum):
    RED = 1

def ran(what):
    with open("ran.txt", "a") as file:
        file.write(f"{what} ")

@rt.function_node
async def charge(order: Order) -> Order:
    ran("charge")
    assert type(order) is Order
    rt.context.put("color", "red")
    return Order(order.size + 1)

@rt.function_node
async def pack(order: Order, color: Color) -> Box[Order]:
    ran("pack")
    return Box[Order](order)

@dataclass
class Shelf:
    name: str
    async def store(self, box: Box[Order]) -> str:
        ran("store")
        return self.name

class Ship(rt.nodes.Node[int]):
    def __init__(self, order: Order) -> None:
        self.order = order
    def invoke(self) -> int:
        ran("ship")
        return self.order.size

@rt.function_node
async def forecast(city: str) -> str:
    ran("forecast")
    return "rain"

def answer(messages):
    ran("model")
    return "rain" if len(messages) > 2 else tool_call("forecast", city="Turin")

Weather = rt.agent_node("Weather", llm=ScriptedModel(answer), tool_nodes=[forecast])
Host = rt.agent_node("Host", llm=ScriptedModel(lambda messages: ran("host") or "hi"), tool_nodes=[Weather])

@rt.function_node
async def job(first: Order) -> list[Order]:
    order = await rt.call(charge, first)
    assert type(order) is Order, type(order)
    box = await rt.call(functools.partial(pack, color=Color.RED), order)
    assert type(box) is Box and type(box.content) is Order
    assert await rt.call(Shelf("A").store, box) == "A"
    assert await rt.call(Ship, order) == 2
    assert (await rt.call(Weather, "Hello")).content == "rain"
    assert (await rt.call(Host, "Hello")).content == "hi"
    if os.environ.get("FAIL"):
        raise OSError("down")
    ran("done")
    return [order]

flow = rt.Flow("Job", job, run_identifier="job", logging_setting="QUIET")
"""
EFFECTS = "charge pack store ship model forecast model host "
MAIN = """
if __name__ == "__main__":
    if os.environ.get("FAIL"):
        flow.invoke(Order(1))
    else:
        found = flow.resume("job")
        assert found == [Order(2)] and type(found[0]) is Order
"""
IMPORTS = """
from app import flow, Order
found = flow.resume("job")
assert found == [Order(2)] and type(found[0]) is Order
"""
BEGIN_IMPORTED = "from app import flow, Order; flow.invoke(Order(1))"
SCRIPT, MODULE, IMPORTED = ["app.py"], ["-m", "app"], ["-c", IMPORTS]


@pytest.fixture
def python(tmp_path, backend):
    """Runs Python in the working directory, and returns its error."""
    (tmp_path / "app.py").write_text(APP + MAIN)

    def run(command, stdin=None, **environment):
        given = {**os.environ, "PYTHONPATH": ROOT, "RAILTRACKS_BACKEND": backend, **environment}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=given, input=stdin, capture_output=True, text=True
        )
        return done.stderr

    return run


def ran():
    with open("ran.txt") as file:
        return file.read()


def become(version):
    """Have an earlier release recorded the run."""
    path = Path(".railtracks/job.json")
    data = json.loads(path.read_text())
    assert data["version"] == 6
    for name in ("checksum", "checksums", "callers"):
        del data[name]
    path.write_text(json.dumps({**data, "version": version}))


@pytest.mark.parametrize(
    ("first", "second"),
    [(SCRIPT, IMPORTED), (MODULE, SCRIPT), (["-c", BEGIN_IMPORTED], SCRIPT), (SCRIPT, MODULE)],
    ids=["script and import", "module and script", "import and script", "script and module"],
)
def test_script_and_the_module_that_it_is_are_one(python, first, second):
    assert "OSError: down" in python(first, FAIL="1")
    assert python(second) == ""
    assert ran() == EFFECTS + "done "


@pytest.mark.parametrize("again", [SCRIPT, MODULE, IMPORTED], ids=["script", "module", "import"])
def test_what_earlier_releases_recorded_as_main_is_found(python, again):
    """From the same script, and from a program that imports it."""
    assert "OSError: down" in python(["-"], APP + MAIN, FAIL="1")
    become(4)
    assert python(again) == ""
    assert ran() == EFFECTS + "done "
    assert python(again) == ""
    assert ran() == EFFECTS + "done "
    with open(".railtracks/job.json") as file:
        assert "__main__" not in file.read()


def test_interactive_session_is_resumed_by_another(python):
    for environment in ({"FAIL": "1"}, {}):
        python(["-"], APP + MAIN, **environment)
    assert ran() == EFFECTS + "done "


@pytest.mark.slow
@pytest.mark.parametrize("doubt", ["two modules", "another name"])
def test_main_that_is_in_doubt_is_not_guessed(python, tmp_path, doubt):
    python(["-"], APP + MAIN, FAIL="1")
    if doubt == "two modules":
        (tmp_path / "other.py").write_text(APP)
    else:
        (tmp_path / "app.py").write_text(APP.replace("def forecast", "def renamed").replace("[forecast]", "[renamed]"))
        (tmp_path / "other.py").write_text("")
    error = python(["-c", "import other" + IMPORTS])
    assert "StateError: the call of job in the run 'job' has an argument that is of a type" in error
    assert "(__main__.Order)" in error
    assert ran() == EFFECTS
