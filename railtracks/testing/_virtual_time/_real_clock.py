"""The real clock, whatever has replaced the functions of ``time``.

Tools such as freezegun replace these functions in all modules, and the virtual world replaces them too. The harness
needs real seconds for its patience, so it has a copy of the module ``time`` of its own.
"""

from __future__ import annotations

import time
from importlib.util import module_from_spec
from typing import Any


def _copy() -> Any:
    spec = time.__spec__
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_time = _copy()


def monotonic() -> float:
    """Return the real seconds since some moment in the past."""
    return float(_time.monotonic())


def block(seconds: float) -> None:
    """Block for that many real seconds."""
    _time.sleep(seconds)
