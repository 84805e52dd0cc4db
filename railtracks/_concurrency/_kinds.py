"""The type of an exception, which its own code may deny."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

T = TypeVar("T")


def is_kind(exc: object, kinds: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Return whether an exception is of one of ``kinds``, as an ``except`` clause would decide it.

    ``isinstance`` asks the exception for its ``__class__``, which may raise, and would then replace it.
    """
    return issubclass(type(exc), kinds)
