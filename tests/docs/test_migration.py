"""docs/migration.md has every public name of the earlier package, and what it names of this one exists."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import pytest

import railtracks as rt
import railtracks.testing.evaluation
from railtracks.cli._app import app

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "migration.md").read_text("utf-8")
FORMER = [
    line for line in Path(__file__).with_name("railtracks_1_7.txt").read_text("utf-8").splitlines() if line[0] != "#"
]
TABLES = {
    "Names of the package": "railtracks",
    "Models and messages": "railtracks.llm",
    "Exceptions": "railtracks.exceptions",
    "Guardrails": "railtracks.guardrails",
}
"""The headings of tables that have all names of a module."""
PAGES = [DOCS / name for name in ("migration.md", "faq.md", "troubleshooting.md")]


def section(heading: str) -> str:
    return PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]


def rows(heading: str) -> list[tuple[str, str]]:
    """Return the first and the second cell of each row of the table below a heading."""
    found = re.findall(r"^\| (.*?) \| (.*?) \|$", section(heading), re.MULTILINE)
    return [(first, second) for first, second in found if not first.startswith("1.7")]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def arguments(former: str) -> list[str]:
    """Return ``["Flow(name=)", "Flow(context=)"]`` for ``Flow(name=, context=)``."""
    function, _, names = former.removesuffix(")").partition("(")
    return [f"{function}({name})" for name in names.split(", ")] if names else [former]


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_each_name_of_the_earlier_module_once(heading):
    former = [name.rpartition(".")[2] for name in FORMER if name.rpartition(".")[0] == TABLES[heading]]
    named = [name for first, _ in rows(heading) for name in quoted(first)]
    assert sorted(named) == sorted(former) != []


def test_the_table_of_arguments_has_those_of_flows_and_agents():
    former = [name for name in FORMER if "=" in name or name.startswith("RAILTRACKS_")]
    named = [each for first, _ in rows("Arguments") for name in quoted(first) for each in arguments(name)]
    assert sorted(name for name in named if not name.startswith("railtracks ")) == sorted(former)


def test_the_table_of_middleware_has_all_of_it():
    former = {name.rpartition(".")[2] for name in FORMER if name.startswith("railtracks.middleware.")}
    of_models = {name for first, _ in rows("Names of the package") for name in quoted(first) if name.endswith("_llm")}
    named = {name for first, _ in rows("Middleware") for name in quoted(first)}
    assert named == former | of_models | {"couple"}


def test_models_that_the_page_names_exist():
    named = [re.match(r"\w+", name) for _, second in rows("Models and messages") for name in quoted(second)]
    classes = {match[0] for match in named if match and match[0][0].isupper()}
    assert {name for name in classes if not hasattr(rt.llm, name)} == set()
    assert len(classes) > 5


def test_names_that_are_said_to_be_the_same_exist():
    for heading, module in (("Exceptions", rt.exceptions), ("Models and messages", rt.llm)):
        same = [name for first, second in rows(heading) if second == "the same names" for name in quoted(first)]
        assert [name for name in same if not hasattr(module, name)] == []
        assert same


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_railtracks_on_the_page_exist(page):
    text = re.sub(r"^```(python3|text)\n.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"1\.7, in `[^`]+`", "", text)
    names = {name for name in re.findall(r"\brt((?:\.[A-Za-z_]\w*)+)", text) if name != ".guardrails"}
    assert names
    for name in names:
        reduce(getattr, name.split(".")[1:], rt)


def test_other_modules_that_the_page_names_exist():
    assert "`railtracks.testing.evaluation.evaluate`" in PAGE
    assert callable(railtracks.testing.evaluation.evaluate)
    assert "`railtracks.testing.ScriptedModel`" in PAGE
    assert callable(railtracks.testing.ScriptedModel)


def test_commands_that_the_pages_name_exist():
    pages = [page.read_text("utf-8") for page in PAGES]
    named = {name for text in pages for name in re.findall(r"`railtracks ([a-z]\w+)", text)}
    earlier = {name for first, _ in rows("Arguments") for name in re.findall(r"`railtracks ([\w-]+)", first)}
    commands = {name for name in app if not name.startswith("-")}
    assert {"list", "tail", "ui"} <= named
    assert named - {"agents"} - earlier <= commands  # of `railtracks agents-md`
