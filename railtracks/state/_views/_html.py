"""The tree of a run as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from railtracks.state._views._tree import STYLES, Line

_COLOURS = {"green": "#1a7f37", "red": "#cf222e", "yellow": "#9a6700", "magenta": "#8250df", "cyan": "#0969da"}


def html_tree(lines: Iterable[Line]) -> str:
    """Return the lines of a tree as HTML. Whatever stands in them is text there."""
    shown = "\n".join(f"{escape(line.indent)}{_coloured(line)}" for line in lines)
    return f'<pre style="line-height: 1.3">{shown}</pre>'


def _coloured(line: Line) -> str:
    colour = _COLOURS.get(STYLES[line.status])
    return escape(line.text) if colour is None else f'<span style="color: {colour}">{escape(line.text)}</span>'
