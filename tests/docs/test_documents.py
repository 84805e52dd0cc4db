"""Everything that the README and the docs show runs, on both backends."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import anyio
import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import railtracks as rt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPT = (ROOT / "docs/scripts/session.py").read_text(encoding="utf-8")
INCLUDE = re.compile(r'--8<-- "(?P<path>[^:"]+):(?P<section>\w+)"')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run_one_after_another(page, backend, monkeypatch, capsys):
    monkeypatch.setattr(anyio, "run", functools.partial(anyio.run, backend=backend))
    monkeypatch.setenv("RAILTRACKS_BACKEND", backend)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    document = Document.parse(str(page), PythonCodeBlockParser())
    document.namespace["__name__"] = "__main__"
    count = 0
    for example in document.examples():
        if not INCLUDE.search(example.parsed):
            example.evaluate()
            count += 1
    assert count or page.name in ("reference.md", "design.md")
    output = capsys.readouterr().out
    told = {without_places(line) for line in output.splitlines()}
    for line in stories(page):
        assert without_places(line) in told, f"the page shows {line!r}"
    printed = iter(output.splitlines())
    for line in promised(page):
        assert line in printed, f"the page promises that {line!r} is printed next"  # reads on to it


def stories(page):
    """The lines of timelines that the page shows."""
    return re.findall(r"^[> ] +\d+\.\d{3} s .*$", page.read_text(encoding="utf-8"), re.MULTILINE)


def without_places(line):
    return re.sub(r"\(\S+:\d+\)", "", line).rstrip()


def promised(page):
    """What the comments beside prints say, in order; but for those that leave something out."""
    text = page.read_text(encoding="utf-8")
    return [
        comment for comment in re.findall(r"print\(.*\)  # (.*)", text) if "..." not in comment and ";" not in comment
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_section_that_a_page_includes_exists(page):
    for include in INCLUDE.finditer(page.read_text(encoding="utf-8")):
        assert include["path"] == "docs/scripts/session.py"
        assert f"[start: {include['section']}]" in SCRIPT
        assert f"[end: {include['section']}]" in SCRIPT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists()


def test_every_public_name_has_a_line_in_the_reference():
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert [name for name in rt.__all__ if f"`rt.{name}" not in reference and name != "exceptions"] == []
    assert [name for name in rt.exceptions.__all__ if f"`{name}`" not in reference] == []


def test_every_option_has_a_line_in_the_configuration():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert [name for name in rt.SessionOptions.__annotations__ if f"| `{name}` |" not in page] == []
