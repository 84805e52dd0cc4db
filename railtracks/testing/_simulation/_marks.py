"""``mark``: what user code wants to have in the story of a simulated run."""

from __future__ import annotations

from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError
from railtracks.testing._simulation._witness import Witness
from railtracks.testing._trace import one_line


def mark(text: str) -> None:
    """Add a line to the story of the simulated run that this code is part of. Outside of one, do nothing.

    It never waits, so the order of tasks and the moments of the run stay as they are. Secrets are masked as in the rest
    of the story.

    Args:
        text: The line, such as ``f"charged {amount}"``.

    Raises:
        ConfigError: ``text`` is not a string.
    """
    if not isinstance(text, str):
        raise ConfigError(f"mark: {text!r} is not a string; write mark(f'...')")
    observer = runtime_hooks.get().observer
    if isinstance(observer, Witness):
        observer.on_mark(one_line(text))
