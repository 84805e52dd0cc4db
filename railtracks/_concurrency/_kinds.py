"""The type of an exception, which its own code may deny."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TypeGuard, TypeVar

T = TypeVar("T")


def is_kind(exc: object, kinds: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Return whether an exception is of one of ``kinds``, as an ``except`` clause would decide it.

    ``isinstance`` asks the exception for its ``__class__``, which may raise, and would then replace it.
    """
    kind = type(exc)
    return kind is kinds or issubclass(kind, kinds)  # trio's Cancelled is slow to ask for its subclasses


_CAUSE, _CONTEXT = vars(BaseException)["__cause__"], vars(BaseException)["__context__"]
_MEMBERS = vars(BaseExceptionGroup)["exceptions"]
_TRACEBACK = vars(BaseException)["__traceback__"]


def linked_exceptions(exc: BaseException) -> list[BaseException]:
    """Return the cause, the context and the members of an exception, without any code of its class."""
    links = [link for link in (_CAUSE.__get__(exc), _CONTEXT.__get__(exc)) if link is not None]
    return [*links, *grouped_exceptions(exc)]


def traceback_of(exc: BaseException) -> TracebackType | None:
    """Return the traceback of an exception, without any code of its class."""
    traceback: TracebackType | None = _TRACEBACK.__get__(exc)
    return traceback


def grouped_exceptions(exc: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group, without any code of its class; () for another exception."""
    return _MEMBERS.__get__(exc) if is_kind(exc, BaseExceptionGroup) else ()


def leaves_of(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, at all levels, that are not groups themselves; another exception as it is.

    They come one by one, so that the first of a large group cost no more than those of a small one.
    """
    groups = [iter((exc,))]
    while groups:
        each = next(groups[-1], None)
        if each is None:
            groups.pop()
        elif is_kind(each, BaseExceptionGroup):
            groups.append(iter(grouped_exceptions(each)))
        else:
            yield each
