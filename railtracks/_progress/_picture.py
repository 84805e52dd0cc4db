"""The lines of all sessions that are shown, and how they look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from railtracks._progress._view import SessionView
from railtracks._wording import counted
from railtracks.state._views._tree import STYLES, Line

MAX_SESSIONS = 10
"""The number of sessions that are shown at once, the oldest first."""
LEAST_HEIGHT = 3
"""The number of lines of a session, at least, if another one is shown below it."""


def shown_views(views: Sequence[SessionView], height: int) -> Sequence[SessionView]:
    """Return the sessions that are shown if there are ``height`` lines."""
    return views[: max(1, min(MAX_SESSIONS, height // LEAST_HEIGHT))]


def picture(views: Sequence[SessionView], height: int, now: float) -> list[Line]:
    """Return the lines of sessions, the oldest first. What one does not need is left for the next ones.

    Args:
        views: The sessions.
        height: The number of lines, at most.
        now: Monotonic seconds.
    """
    shown = shown_views(views, height)
    more = len(views) - len(shown)
    free = height - (1 if more and height > 1 else 0)
    lines: list[Line] = []
    for number, view in enumerate(shown):
        own = view.lines(free // (len(shown) - number), now)
        free -= len(own)
        lines += own
    if more and height > 1:
        lines.append(Line("", f"… and {counted(more, 'more session')}"))
    return lines


class Painter:
    """Turns lines into texts for a terminal, in its colours and cut to its width. It needs ``rich``.

    Args:
        stream: The terminal.

    Attributes:
        is_legacy: Whether it is a console of Windows in which lines cannot be drawn again.
    """

    def __init__(self, stream: Any) -> None:
        from rich.cells import cell_len, set_cell_size
        from rich.console import COLOR_SYSTEMS, Console
        from rich.style import Style

        console = Console(file=stream, force_terminal=True)  # it reads NO_COLOR, TERM and COLORTERM
        colours = None if console.no_color else console.color_system
        self.is_legacy: bool = console.legacy_windows
        self._cell_len, self._set_cell_size = cell_len, set_cell_size
        self._colours = None if colours is None else COLOR_SYSTEMS[colours]
        self._styles = {status: Style.parse(style) for status, style in STYLES.items()}

    def paint(self, line: Line, width: int) -> str:
        """Return the text of a line, which takes fewer columns than ``width``."""
        whole = f"{line.indent}{line.text}"
        if self._cell_len(whole) >= width:
            whole = f"{self._set_cell_size(whole, max(0, width - 2)).rstrip()}…" if width > 1 else ""
        indent, text = whole[: len(line.indent)], whole[len(line.indent) :]
        style = self._styles[line.status]
        return indent + (style.render(text, color_system=self._colours) if text else "")
