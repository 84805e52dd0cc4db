"""An extension of Griffe, which reads the docstrings for the site: bring them into the form that it renders.

Literal blocks (``::``) become boxes of Python code, roles such as ``:class:`Session` `` become code, simple tables
become those of Markdown, and classes of attrs get the signature that they have.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`")
LITERAL = re.compile(r"^(?P<indent> *)(?P<before>.*?)::\n\n(?P<block>(?:(?P=indent) {4,}.*\n|\s*\n)+)", re.MULTILINE)

TABLE = re.compile(
    r"^(?P<indent> *)(?P<border>=+ +=+)\n(?P<rows>(?:.*\S.*\n)+?(?: *=+ +=+\n(?:.*\S.*\n)+?)?) *=+ +=+$", re.MULTILINE
)


def plain(text: str) -> str:
    """Return a docstring as Markdown."""

    def box(match: re.Match[str]) -> str:
        before = f"{match['indent']}{match['before']}:\n\n" if match["before"] else ""
        code = textwrap.dedent(match["block"]).strip()
        return before + textwrap.indent(f"```python\n{code}\n```\n", match["indent"]) + "\n"

    return ROLE.sub(r"`\1`", LITERAL.sub(box, TABLE.sub(table, text + "\n"))).rstrip()


def table(match: re.Match[str]) -> str:
    """Return a simple table of two columns as a table of Markdown."""
    indent = match["indent"]
    second = len(indent) + match["border"].rindex(" ") + 1
    rows: list[list[str]] = []
    for line in match["rows"].splitlines():
        cells = [line[:second].strip(), line[second:].strip()]
        if set(line.strip()) <= {"=", " "}:
            continue
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1][1] += f" {cells[1]}"
    if not re.search(r"^ *=+ +=+$", match["rows"], re.MULTILINE):
        rows.insert(0, ["value", "meaning"])
    rows.insert(1, ["---", "---"])
    return "\n".join(f"{indent}| {first} | {rest} |" for first, rest in rows)


class PlainDocstrings(griffe.Extension):
    """Bring docstrings and signatures into the form that mkdocstrings renders."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the signature of a class of attrs, where only private classes need packages that are not installed."""
        made_by_attrs = any(str(each.value).startswith("attrs.") for each in cls.decorators)
        if not made_by_attrs or "__init__" in cls.members or cls.parent is not cls.module:
            return
        try:
            made = getattr(importlib.import_module(cls.module.path), cls.name)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "railtracks":
                raise
            return
        if "__init__" in vars(made):
            cls.set_member("__init__", init_of(cls, made))


def init_of(cls: griffe.Class, made: type) -> griffe.Function:
    """Return the ``__init__`` that attrs has given to a class."""
    parameters = [
        griffe.Parameter(
            name,
            kind=griffe.ParameterKind(parameter.kind.description),
            annotation=None if parameter.annotation is parameter.empty else str(parameter.annotation),
            default=None if parameter.default is parameter.empty else shown_default(parameter.default),
        )
        for name, parameter in inspect.signature(vars(made)["__init__"]).parameters.items()
    ]
    return griffe.Function("__init__", parameters=griffe.Parameters(*parameters), parent=cls, analysis="dynamic")


def shown_default(value: object) -> str:
    """Return a default as code; what attrs makes for each instance is three dots."""
    text = repr(value)
    return "..." if text == "NOTHING" or text.startswith("<") else text
