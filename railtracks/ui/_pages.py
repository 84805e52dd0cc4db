"""The pages as HTML. Whatever stands in a run is text there: the templates escape it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from railtracks.state import ExecutionInfo
from railtracks.state._comparison import SHOWN_PAIRS, Comparison, sides, signed_seconds
from railtracks.state._views._texts import shown_seconds
from railtracks.ui._runs import Listing

_KINDS = {"ui.css": "text/css", "list.js": "text/javascript"}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("railtracks.ui"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.globals |= {
        "shown_seconds": shown_seconds, "signed_seconds": signed_seconds, "sides": sides, "shown_state": _shown_state,
    }  # fmt: skip
    return found


def _shown_state(info: ExecutionInfo) -> str:
    """Return how far a run has come, in a word."""
    return info.status.value


@cache
def asset(name: str) -> tuple[str, str] | None:
    """Return a file that pages load, and its media type; None if there is no such file."""
    if name not in _KINDS:
        return None
    return files("railtracks.ui").joinpath("static", name).read_text(encoding="utf-8"), _KINDS[name]


@attrs.frozen
class Pages:
    """Makes the pages of a server.

    Args:
        root: The path below which all pages are.
        place: Where the runs are, for people.
    """

    root: str
    place: str

    def _render(self, name: str, **values: Any) -> str:
        return _environment().get_template(name).render(root=self.root, place=self.place, **values)

    def list_page(self, listing: Listing) -> str:
        """Return the list of runs."""
        return self._render("list.html", listing=listing)

    def rows(self, listing: Listing) -> str:
        """Return the part of the list that changes."""
        return self._render("_rows.html", listing=listing)

    def comparison(self, comparison: Comparison) -> str:
        """Return the page that compares two runs."""
        return self._render("compare.html", comparison=comparison, limit=SHOWN_PAIRS)

    def problem(self, title: str, text: str) -> str:
        """Return a page that says what is wrong."""
        return self._render("problem.html", title=title, text=text)
