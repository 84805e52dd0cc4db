"""The tree of a run in colour, for ``rich``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks.state._views._tree import STYLES, Line


def rich_tree(lines: Iterable[Line]) -> Any:
    """Return the lines of a tree for ``rich``. Whatever stands in them is text there."""
    from rich.console import Group
    from rich.text import Text

    shown = []
    for line in lines:
        text = Text(line.indent, no_wrap=True, overflow="ellipsis", end="\n")
        text.append(line.text, STYLES[line.status])
        shown.append(text)
    return Group(*shown)
