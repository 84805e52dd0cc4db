"""Everything that the README and the docs show runs, on both backends.

A box of Python code has to run alone, as a reader copies it. One that needs the boxes before it says so: the line
before it is ``*Continues from above.*``. A box and those that continue it are a chain, and each chain is one test.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import anyio
import attrs
import pytest
from hypothesis import settings
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

import railtracks as rt
import railtracks.testing
from railtracks._test_hooks import runtime_hooks
from railtracks.testing import conformance, evaluation, faults, invariants, machine, strategies, trees

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITHOUT_CODE = {
    *(
        "design.md",
        "design-harness.md",
        "faq.md",
        "format.md",
        "peers.md",
        "policy.md",
        "reference.md",
        "soak.md",
        "troubleshooting.md",
    ),
}
ELSEWHERE = {
    *("recipes-running.md", "recipes-tests.md", "recipes-web.md", "recipes.md", "start.md"),
    *("tutorial-pipeline.md", "tutorial-service.md"),
}
"""Pages whose code needs other packages or the files before it; ``tests/ecosystem`` runs it."""
CONTINUES = "*Continues from above.*"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


class Chain(NamedTuple):
    """A box that runs alone, and the boxes that continue it.

    Args:
        page: The page that they are on.
        line: The line of the first box.
        places: The places of the boxes among all boxes of the page.
        text: The page from the first box to the next chain.
    """

    page: Path
    line: int
    places: list[int]
    text: str

    def run(self, monkeypatch):
        document = parsed(self.page)
        main = ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", main)  # the box is the program that runs
        document.namespace = vars(main)
        examples = list(document.examples())
        for place in self.places:
            examples[place].evaluate()

    @property
    def shows_progress(self):
        examples = list(parsed(self.page).examples())
        return any("progress=True" in examples[place].parsed for place in self.places)


def parsed(page):
    return Document.parse(str(page), PythonCodeBlockParser())


def chains(page):
    document = parsed(page)
    examples = list(document.examples())
    starts = [place for place, example in enumerate(examples) if not continues(document, example)]
    assert starts[:1] in ([], [0]), f"the first box of {page.name} has nothing to continue from"
    for first, following in pairwise([*starts, len(examples)]):
        end = examples[following].start if following < len(examples) else len(document.text)
        text = document.text[examples[first].start : end]
        yield Chain(page, examples[first].line, list(range(first, following)), text)


def continues(document, example):
    return document.text[: example.start].rstrip().endswith(CONTINUES)


CHAINS = [chain for page in PAGES if page.name not in ELSEWHERE for chain in chains(page)]


@pytest.fixture
def standing_clock():
    """Stop the clock of sessions, so that no call yields because the machine was slow.

    Otherwise the two transfers of docs/testing.md could take turns, and wait for each other.
    """
    token = runtime_hooks.set(attrs.evolve(runtime_hooks.get(), clock=lambda: 0.0))
    yield
    runtime_hooks.reset(token)


@pytest.fixture
def restored_signals():
    """Restore the handlers that the box about SIGTERM replaces."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def repeatable_examples():
    """Have Hypothesis draw the same examples each time, as the page shows what it finds."""
    before = settings.get_current_profile_name()
    settings.register_profile("documents", deadline=None, derandomize=True, database=None)
    settings.load_profile("documents")
    yield
    settings.load_profile(before)


@pytest.fixture
def restored_logging():
    """Restore the handlers and the level that the box about ``dictConfig`` replaces."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.either_backend
@pytest.mark.usefixtures("standing_clock", "restored_signals", "repeatable_examples", "restored_logging")
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: f"{chain.page.name}:{chain.line}")
def test_boxes_run_alone_and_print_what_the_page_says(chain, backend, monkeypatch, capsys):
    monkeypatch.setattr(anyio, "run", functools.partial(anyio.run, backend=backend))
    monkeypatch.setenv("RAILTRACKS_BACKEND", backend)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    if chain.shows_progress:  # it takes several seconds, for people to see it
        monkeypatch.setattr(anyio, "sleep", functools.partial(shortened_sleep, anyio.sleep))
    chain.run(monkeypatch)
    output = capsys.readouterr().out
    printed = {without_places(line) for line in output.splitlines()}
    for line in timeline(chain.text):
        assert without_places(line) in printed, f"the page shows {line!r}"
    following = iter(output.splitlines())
    for line in promised(chain.text):
        assert line in following, f"the page promises that {line!r} is printed next"  # reads on to it


async def shortened_sleep(sleep, seconds):
    await sleep(seconds / 20)


def timeline(text):
    """Return the lines of timelines that the page shows."""
    return re.findall(r"^[> ] +\d+\.\d{3} s .*$", text, re.MULTILINE)


def without_places(line):
    return re.sub(r"\(\S+:\d+\)", "", line).rstrip()


def promised(text):
    """Return what the comments beside prints say, in order; without those that leave something out."""
    comments = re.findall(r"print\(.*\)  # (.*)", text)
    return [comment for comment in comments if "..." not in comment and ";" not in comment]


def test_the_log_of_an_application_is_what_the_page_shows(tmp_path):
    text = (ROOT / "docs/events.md").read_text(encoding="utf-8").partition("### The logging of an application")[2]
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL).groups()
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    seconds = re.compile(r"\d\.\d{3} s")
    assert seconds.sub("", done.stdout) == seconds.sub("", shown)
    assert done.stderr == ""


def test_the_test_file_on_the_page_about_testing_passes(pytester):
    page = ROOT / "docs/testing.md"
    [box] = (example.parsed for example in parsed(page).examples() if "(rt_session)" in example.parsed)
    pytester.makepyfile(box)
    # A busy machine takes its time, and what the strategies produce is tested elsewhere.
    settings = "settings.register_profile('page', deadline=None, max_examples=10)", "settings.load_profile('page')"
    pytester.makeconftest("\n".join(["from hypothesis import settings", *settings]))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2 * len(re.findall(r"^(?:async )?def test_", box, re.MULTILINE)))


@every_page
def test_each_page_has_code_and_all_of_it_is_run(page):
    text = page.read_text(encoding="utf-8")
    boxes = re.findall(r"^ *```+ *(?:python|py)\b", text, re.MULTILINE | re.IGNORECASE)
    assert page.name in ELSEWHERE or len(boxes) == sum(len(chain.places) for chain in CHAINS if chain.page == page)
    assert boxes or page.name in WITHOUT_CODE
    assert "--8<--" not in text, "an include line shows no code where the page is read unrendered"


@every_page
def test_only_boxes_are_marked_as_continuations(page):
    document = parsed(page)
    marked = [example for example in document.examples() if continues(document, example)]
    assert document.text.count(CONTINUES) == len(marked)


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists()


@every_page
def test_links_within_the_docs_lead_to_a_heading(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        other = (page.parent / target) if target else page
        assert anchor in anchors(other), f"{other.name} has no heading #{anchor}"


def anchors(page):
    """Return the anchors of the headings of a page, as forges and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_install_commands_name_the_checkout():
    files = [*PAGES, *(ROOT / "docs/scripts").glob("*.py"), *(ROOT / "railtracks").rglob("*.py"), ROOT / "noxfile.py"]
    wrong = re.compile(r"install\s+(?:-\S+\s+)*['\"`]*railtracks|railtracks\[")
    assert [str(file) for file in files if wrong.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("module", "prefix"),
    [(rt, "rt."), (rt.exceptions, ""), (rt.llm, ""), (rt.nodes, ""), (rt.state, ""), (rt.context, "")],
    ids=["rt", "exceptions", "llm", "nodes", "state", "context"],
)
def test_every_public_name_has_a_line_in_the_reference(module, prefix):
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    names = getattr(module, "__all__", ["get", "put", "update", "delete", "keys"])
    assert [name for name in names if not in_code(prefix + name, reference)] == []


@pytest.mark.parametrize("enum", [rt.state.Reason, rt.state.Status, rt.state.Form])
def test_every_member_of_an_enumeration_is_in_the_reference(enum):
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    [line] = [line for line in reference.splitlines() if line.startswith(f"| `{enum.__name__}` ")]
    assert [name for name in enum.__members__ if not in_code(name, line)] == []


@pytest.mark.parametrize("cls", [rt.Session, rt.Flow, rt.FlowConnection, rt.ExecutionInfo])
def test_every_public_member_has_a_line_in_the_reference(cls):
    reference = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    members = [name for name in dir(cls) if not name.startswith("_")]
    assert [name for name in members if not re.search(rf"`[^`\n]*\b{name}\b", reference)] == []


@pytest.mark.parametrize(
    "module",
    [railtracks.testing, conformance, evaluation, faults, invariants, machine, strategies, trees],
    ids=lambda module: module.__name__,
)
def test_every_public_name_of_the_harness_is_in_its_reference(module):
    reference = (ROOT / "docs/testing-reference.md").read_text(encoding="utf-8")
    assert [name for name in module.__all__ if not in_code(name, reference)] == []


def in_code(name, text):
    return re.search(rf"`[^`\n]*(?<![\w.]){re.escape(name)}\b", text)


def test_every_option_has_a_line_in_the_configuration():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert [name for name in rt.SessionOptions.__annotations__ if f"| `{name}` |" not in page] == []


@pytest.mark.either_backend
def test_the_readme_shows_the_tree_that_is_printed(backend, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL).groups()
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "RAILTRACKS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    duration = re.compile(r"[\d.]+ (?:ms|s)\b| \(own .*?\)")
    assert duration.sub("", done.stdout.partition("\n")[2]) == duration.sub("", shown)
