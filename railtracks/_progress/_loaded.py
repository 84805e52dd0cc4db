"""The display, if there is one: it takes long to import, and few programs show their sessions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from railtracks._progress._display import Display


def loaded_display() -> Display | None:
    """Return the display; None if no session has been shown in this process."""
    module = sys.modules.get("railtracks._progress._display")
    display: Display | None = None if module is None else module.display
    return display
