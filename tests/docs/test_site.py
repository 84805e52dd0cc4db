"""The site: every public name is in the generated reference, and every page can be found."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import runpy
import types
from pathlib import Path

import pytest

import railtracks as rt
import railtracks.testing

ROOT = Path(__file__).parents[2]
SITE = runpy.run_path(str(ROOT / "docs/scripts/build_site.py"))
REFERENCE = SITE["reference_pages"]()
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
PUBLIC_MODULES = [
    *(rt.context, rt.exceptions, rt.executors, rt.llm, rt.mcp, rt.nodes, rt.state, railtracks.testing),
    *(
        importlib.import_module(f"railtracks.testing.{module.name}")
        for module in pkgutil.iter_modules(railtracks.testing.__path__)
        if not module.name.startswith("_")
    ),
]
REEXPORTED = {"railtracks.testing.cassettes", "railtracks.testing.models"}
"""Modules whose public names are all in ``railtracks.testing``, where users find them."""
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))


def exported():
    """Return each public name with its module, modules left out."""
    for module in (rt, *PUBLIC_MODULES):
        if module.__name__ not in REEXPORTED:
            for name in SITE["public_names"](module):
                if not isinstance(getattr(module, name), types.ModuleType):
                    yield f"{module.__name__}.{name}"


def resolve(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_generated_reference_has_each_public_name_once():
    directives = [name for text in REFERENCE.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    modules = set(SITE["MODULES"].values())
    assert sorted(name for name in directives if name not in modules) == sorted(exported())


@pytest.mark.parametrize("module", sorted(REEXPORTED))
def test_what_is_left_out_of_the_reference_is_exported_elsewhere(module):
    names = SITE["public_names"](importlib.import_module(module))
    assert set(names) <= set(railtracks.testing.__all__)


def test_every_name_in_the_table_of_names_exists():
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<=`)rt\.(?:[a-z]+\.)?\w+", text))
    assert [name for name in sorted(named) if not exists(name.split(".")[1:])] == []


@pytest.mark.parametrize(
    ("page", "pattern"),
    [("reference.md", r"[A-Z]\w*[a-z]\w*|[a-z]\w*(?=\()"), ("testing-reference.md", r"[A-Z]\w*[a-z]\w*")],
)
def test_a_table_of_names_has_public_names_only(page, pattern):
    """The other way round, ``test_documents`` asks that each public name has a row."""
    public = {name.rpartition(".")[2] for name in exported()} | {"print"}
    rows = re.findall(r"^\| (`.*?`) \|", without_code(ROOT / "docs" / page), re.MULTILINE)
    named = {name for row in rows for name in re.findall(rf"`({pattern})(?=[(`])", row)}
    assert len(named) > 40
    assert sorted(named - public) == []


def exists(path):
    thing = rt
    for name in path:
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
    return True


def test_the_table_of_names_links_to_the_docstrings():
    homes = SITE["documented"](REFERENCE)
    text = SITE["linked"]((ROOT / "docs/reference.md").read_text(encoding="utf-8"), homes)
    links = re.findall(r"\]\(reference/([\w-]+\.md)#([\w.]+)\)", text)
    assert ("calls.md", "railtracks.call_batch") in links
    assert [link for link in links if homes[link[1]] != link[0]] == []


def test_every_public_name_is_typed():
    """``basedpyright --verifytypes`` looks deeper, in ``nox -s types``."""
    functions = []
    for name in exported():
        thing = resolve(name)
        members = vars(thing).items() if inspect.isclass(thing) else [(name, thing)]
        functions += [each for key, each in members if inspect.isfunction(each) and not key.startswith("_")]
    assert len(functions) > 200
    assert [each.__qualname__ for each in functions if not is_typed(each)] == []


def is_typed(function):
    parameters = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return {*parameters, "return"} <= set(function.__annotations__)


def test_the_navigation_has_each_page_once():
    generated = ["changes.md", *(f"reference/{file}" for file in REFERENCE)]
    written = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES]
    assert sorted(SITE["navigation"]()) == sorted([*written, *generated])


def test_pages_of_the_site_load_nothing_from_elsewhere():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert "http" not in text


def test_the_pictures_are_those_that_the_script_draws():
    pictures = runpy.run_path(str(ROOT / "docs/scripts/draw_pictures.py"))["PICTURES"]
    written = {name: (ROOT / "docs/pictures" / name).read_text(encoding="utf-8") for name in pictures}
    assert written == {name: draw().svg() for name, draw in pictures.items()}


def without_code(page):
    return re.sub(r"^( *)(```+).*?^\1\2$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@every_page
def test_a_page_has_one_title_and_headings(page):
    headings = re.findall(r"^(#+) ", without_code(page), re.MULTILINE)
    assert headings.count("#") == 1
    assert "##" in headings


@every_page
def test_the_columns_of_tables_have_headings(page):
    rows = re.findall(r"^ *(\|.*\|)\n *\|[ :|-]+\|$", without_code(page), re.MULTILINE)
    assert [row for row in rows if not all(cell.strip() for cell in row.strip("|").split("|"))] == []


@every_page
def test_pictures_have_a_text(page):
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", without_code(page), re.DOTALL)
    assert [target for text, target in pictures if len(text) < 10] == []


@every_page
def test_a_page_has_no_directives(page):
    """They would show as they are where the page is read in the repository."""
    assert re.findall(r"^(?:!!!|\?\?\?|:::|===|\{%).*", without_code(page), re.MULTILINE) == []
