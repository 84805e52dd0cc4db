"""Mocks of ``unittest.mock``, which claim to be what they stand for, and note whatever is done with them."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any


def is_mock_type(cls: type) -> bool:
    """Return whether a type is that of mocks."""
    mocks = sys.modules.get("unittest.mock")  # not imported here: without it there are none
    return mocks is not None and issubclass(cls, mocks.NonCallableMock)


def is_mock(value: Any) -> bool:
    """Return whether a value is a mock. It does not touch the value."""
    return is_mock_type(type(value))


def mock_behind(value: Any) -> Any:
    """Return the mock that a call of a value reaches; None if there is none. It does not touch the mock.

    ``create_autospec`` returns a function for a function, which checks the arguments and then calls its mock.
    """
    if is_mock(value):
        return value
    mock = vars(value).get("mock") if type(value) is FunctionType else None
    return mock if is_mock(mock) else None


def mock_name(value: Any) -> str:
    """Return the name that a mock was given, as by ``patch``, or that of the function before it; else its type's."""
    if type(value) is FunctionType:
        return value.__name__
    mock: Any = value
    name = vars(mock).get("_mock_name")
    return name if isinstance(name, str) and name else type(mock).__name__
