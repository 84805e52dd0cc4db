"""The documents of components have one form, and say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import railtracks as rt
from railtracks.pubsub import Policy

FOLDER = Path(__file__).parents[2] / "docs/components"
COMPONENTS = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
CONTENTS = [
    *("1. Purpose", "2. Public API", "3. Architectural Design", "4. Important Considerations", "5. Related Files"),
    "CHANGELOG",
]
PARTS = [
    *("3.1 Core Philosophy & Design Principles", "3.2 High-Level Architecture & Data Flow"),
    *("3.3 Key Design Decisions & Trade-offs", "4.1 Dependencies & Setup", "4.2 Performance & Limitations"),
    *("5.1 Code Files", "5.2 Related Component Files", "5.3 Related Feature Files"),
]
every_component = pytest.mark.parametrize("name", COMPONENTS)


def test_the_components_are_documented():
    assert set(COMPONENTS) == {"session", "task_execution", "pubsub_messaging"}


@every_component
def test_a_document_has_the_sections_in_their_order(name):
    text = COMPONENTS[name]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Table of Contents", *CONTENTS]
    assert re.findall(r"^- \[(.+)\]\(#", text, re.MULTILINE) == CONTENTS
    numbered = re.findall(r"^### (\d\.\d .+)$", text, re.MULTILINE)
    assert numbered[-len(PARTS) :] == PARTS
    assert all(part.startswith("1.") for part in numbered[: -len(PARTS)])
    assert len(numbered) > len(PARTS)


@every_component
def test_a_document_says_its_version_in_its_changelog(name):
    [version] = re.findall(r"^\*\*Version:\*\* (\S+)$", COMPONENTS[name], re.MULTILINE)
    assert re.search(
        rf"^- \*\*v{re.escape(version)}\*\* \(\d{{4}}-\d\d-\d\d\) \[`\w+`\]: ", COMPONENTS[name], re.MULTILINE
    )
    assert "**Component Contact:** @" in COMPONENTS[name]


@every_component
def test_a_document_names_each_code_file_once(name):
    files = re.findall(r"\]\(\.\./\.\./(railtracks/\S+\.py)\)", COMPONENTS[name])
    assert len(files) == len(set(files)) > 3


def test_the_document_of_the_session_names_its_members():
    headings = " ".join(re.findall(r"^#### (.+)$", COMPONENTS["session"], re.MULTILINE))
    members = [name for name in dir(rt.Session) if not name.startswith("_")]
    assert [name for name in members if not re.search(rf"`\.{name}\b", headings)] == []


def test_the_document_of_the_session_has_the_defaults():
    text = COMPONENTS["session"].partition("Default values:\n\n")[2].partition("\n\n")[0]
    stated = dict(re.findall(r"^- `(\w+)`: (\S+)", text, re.MULTILINE))
    config = rt.ExecutorConfig()
    real = {name: getattr(config, name) for name in stated}
    assert len(stated) == 8
    assert stated == {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in real.items()}


def test_the_document_of_messaging_has_each_policy():
    stated = re.findall(r'^\| `"(\w+)"` \|', COMPONENTS["pubsub_messaging"], re.MULTILINE)
    assert set(stated) == set(get_args(Policy))


def test_the_document_of_messaging_has_each_event():
    events = [name for name in rt.state.__all__ if is_event(getattr(rt.state, name))]
    stated = re.findall(r"^\| `([A-Z]\w+)` \|", COMPONENTS["pubsub_messaging"], re.MULTILINE)
    assert set(stated) == set(events) - {"Event", "CallEvent"}  # which are never published


def is_event(thing):
    return isinstance(thing, type) and issubclass(thing, rt.state.Event)
