"""Calls of what users wrote, such as a ``__repr__``, that must not fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def guarded(func: Callable[[Any], str], value: Any) -> str:
    """Return what ``func`` returns, as a text of no subclass; if it raises, a text that says so."""
    try:
        return str.__str__(func(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # the user's __repr__ or __str__ may do anything
        return f"<{func.__name__} of {_class_name(value)} raised {_class_name(exc)}>"


def _class_name(value: object) -> str:
    """Return the name of a value's class, whatever its metaclass makes of ``__qualname__``."""
    return type.__dict__["__qualname__"].__get__(type(value))  # type: ignore[no-any-return]


def guarded_repr(value: object) -> str:
    """Return the ``repr`` of a value; if that raises, a text that says so."""
    return guarded(repr, value)
