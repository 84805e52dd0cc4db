"""Build the site: copy the pages, generate the reference from the docstrings, and run zensical.

``python -m nox -s docs`` runs it. The pages in ``docs/`` are plain Markdown, and can be read in the repository, too.
What needs directives is generated into ``build/docs``, which ``mkdocs.yml`` names: a page for each public module, and
the changes. zensical is strict: a broken link or anchor is an error. A missing page is one here.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "docs"

SESSIONS = [
    *("Flow", "FlowConnection", "Session", "session", "CallHandle", "EventStream", "Subscription", "CurrentCall"),
    *("current_call", "session_id", "ExecutionInfo", "Secret", "recover", "arecover", "RecoveredRun", "RunSuspended"),
]
CALLS = [
    *("call", "call_batch", "call_stream", "CallStream", "call_sync", "broadcast", "broadcast_sync", "function_node"),
    *("Depends", "ask", "receive", "sleep", "now", "random", "uuid4"),
]
AGENTS = [
    *("agent_node", "AgentType", "AgentNode", "LLMResponse", "TokenBudget", "astream", "Stream", "Chunk"),
    *("ToolManifest", "Parameter", "tool", "ToolNode", "tool_from_schema", "hand_off", "HandOff", "ApprovalRequest"),
    *("ModelRetry", "escape_braces", "mcp_server"),
]
OPTIONS = [
    *("set_config", "enable_logging", "ExecutorConfig", "SessionOptions"),
    *("Retry", "Limit", "Cache", "PolicyOptions"),
]
PARTS = {
    "sessions": ("Sessions and flows", SESSIONS),
    "calls": ("Calls", CALLS),
    "agents": ("Agents", AGENTS),
    "options": ("Options and policies", OPTIONS),
}
"""The pages about ``railtracks`` itself, which has too many names for one: the file, its title, and its names."""

MODULES = {
    "context": "railtracks.context",
    "nodes": "railtracks.nodes",
    "state": "railtracks.state",
    "exceptions": "railtracks.exceptions",
    "executors": "railtracks.executors",
    "llm": "railtracks.llm",
    "mcp": "railtracks.mcp",
    "testing": "railtracks.testing",
    "testing-faults": "railtracks.testing.faults",
    "testing-invariants": "railtracks.testing.invariants",
    "testing-linearizability": "railtracks.testing.linearizability",
    "testing-strategies": "railtracks.testing.strategies",
    "testing-machine": "railtracks.testing.machine",
    "testing-trees": "railtracks.testing.trees",
    "testing-conformance": "railtracks.testing.conformance",
    "testing-evaluation": "railtracks.testing.evaluation",
}
"""The other pages: the file, and the public module that it documents."""


def public_names(module: ModuleType) -> list[str]:
    """Return the public names of a module: its ``__all__``, or without one the functions that it defines."""
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
    return getattr(module, "__all__", None) or sorted(name for name in own if not name.startswith("_"))


def reference_pages() -> dict[str, str]:
    """Return the text of each generated page of the reference by the name of its file."""
    pages = {}
    for file, (title, names) in PARTS.items():
        pages[f"{file}.md"] = page(title, [f"railtracks.{name}" for name in names])
    for file, name in MODULES.items():
        module = importlib.import_module(name)
        members = [f"{name}.{each}" for each in public_names(module) if not is_module(getattr(module, each))]
        shown = name if name.startswith("railtracks.testing") else name.replace("railtracks.", "rt.")
        pages[f"{file}.md"] = page(f"`{shown}`", members, name)
    return pages


def is_module(thing: object) -> bool:
    """Return whether this is a module, which has a page of its own."""
    return isinstance(thing, ModuleType)


def page(title: str, names: list[str], module: str | None = None) -> str:
    """Return a page of the reference: a directive for each name, below the docstring of the module."""
    parts = [f"# {title}"]
    if module is not None:
        parts.append(f"::: {module}\n    options:\n      members: false\n      show_root_heading: false")
    parts += [f"::: {name}" for name in names]
    return "\n\n".join(parts) + "\n"


def documented(pages: Mapping[str, str]) -> dict[str, str]:
    """Return the names that have a directive in pages, and the page that each is on."""
    directive = re.compile(r"^::: (\S+)$", re.MULTILINE)
    return {name: file for file, text in pages.items() for name in directive.findall(text)}


def linked(text: str, homes: Mapping[str, str]) -> str:
    """Return the table of all names with a link from each name to its docstring."""

    def link(match: re.Match[str]) -> str:
        home = homes.get(match["name"].replace("rt.", "railtracks.", 1))
        anchor = match["name"].replace("rt.", "railtracks.", 1)
        return match[0] if home is None else f"| [`{match['shown']}`](reference/{home}#{anchor})"

    return re.sub(r"^\| `(?P<shown>(?P<name>rt\.[\w.]+)[^`]*)`", link, text, flags=re.MULTILINE)


def without_sources(text: str) -> str:
    """Return a page without links to source files, which are not part of the site."""
    return re.sub(r"\[(`[^`]+`)\]\((?:\.\./)+railtracks/[^)]*\)", r"\1", text)


def changes() -> str:
    """Return the changelog as a page of the site."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")


def write_pages() -> None:
    """Write all pages of the site into the build folder, which is made anew."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(ROOT / "docs", BUILD, ignore=shutil.ignore_patterns("scripts", "__pycache__"))
    pages = reference_pages()
    table = BUILD / "reference.md"
    table.write_text(linked(table.read_text(encoding="utf-8"), documented(pages)), encoding="utf-8")
    for component in (BUILD / "components").glob("*.md"):
        component.write_text(without_sources(component.read_text(encoding="utf-8")), encoding="utf-8")
    (BUILD / "changes.md").write_text(changes(), encoding="utf-8")
    (BUILD / "reference").mkdir()
    for file, text in pages.items():
        (BUILD / "reference" / file).write_text(text, encoding="utf-8")


def navigation() -> list[str]:
    """Return the pages that the navigation in ``mkdocs.yml`` names, in its order."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    _, _, nav = text.partition("\nnav:\n")
    return re.findall(r"^ +- (?:[^#\n]*: )?([\w/.-]+\.md)$", nav, re.MULTILINE)


def check_navigation() -> None:
    """Exit with an error if a page is missing, or is not in the navigation."""
    there = {str(path.relative_to(BUILD)).replace("\\", "/") for path in BUILD.rglob("*.md")}
    named = navigation()
    problems = [f"mkdocs.yml names {name}, which does not exist" for name in named if name not in there]
    problems += [f"{name} is not in the navigation of mkdocs.yml" for name in sorted(there - set(named))]
    problems += [f"mkdocs.yml names {name} more than once" for name in sorted(there) if named.count(name) > 1]
    if problems:
        sys.exit("\n".join(problems))


def check_reference() -> None:
    """Exit with an error if markup of a docstring is shown as it is: what plain_docstrings.py does not know."""
    left = re.compile(r"={5,}|:(?:class|func|meth|mod|attr|data|exc):<|<p>::|::</p>")
    pages = sorted((ROOT / "site" / "reference").glob("*.html"))
    problems = [f"{page}: {found[0]}" for page in pages for found in left.finditer(page.read_text(encoding="utf-8"))]
    if problems or not pages:
        sys.exit("\n".join(problems) or "the site has no reference")


if __name__ == "__main__":
    write_pages()
    check_navigation()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 (nothing in it comes from outside)
    check_reference()
