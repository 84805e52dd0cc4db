"""Values and exceptions whose own code raises, whatever is done with them."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import railtracks as rt


class StrayError(BaseException):
    """Neither an Exception, nor what ends a program."""


def raising(error: BaseException | None = None) -> Any:
    """Return a method that raises."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise error or RuntimeError("no code of a value may matter")

    return method


def odd(base: type = object, meta: type = type, **members: Any) -> Any:
    """Return a new class with these members."""
    return meta("Odd", (base,), members)


def stray(*names: str) -> Any:
    """Return an object whose methods raise what is not an Exception."""
    return odd(**dict.fromkeys(names, raising(StrayError())))()


class NoHash(type):
    def __eq__(cls, other):
        return True


class NoEquality(type):
    __eq__ = raising()
    __hash__ = type.__hash__


class RaisingHash(type):
    __hash__ = raising()


class RaisingNames(type):
    __module__: Any = property(raising())
    __name__: Any = property(raising())
    __dict__: Any = property(raising())  # type: ignore[misc]


class RaisingChecks(type):
    __instancecheck__ = __subclasscheck__ = raising()


class RaisingAttributes(type):
    __getattribute__ = raising()


class Text(str):
    __len__ = __getitem__ = __contains__ = __iter__ = __eq__ = __hash__ = isascii = raising()


class ShownAsText:
    def __repr__(self):
        return Text("hello=world")

    __str__ = __repr__


@dataclasses.dataclass
class Fields:
    x: int
    __getattribute__ = raising()


class Items(dict):
    def items(self):
        return [1, 2, 3]


class Table(Mapping):
    __getitem__ = __iter__ = __len__ = raising()


class Items3(list):
    __iter__ = __len__ = __getitem__ = raising()


class Whole(int):
    __int__ = __index__ = __repr__ = __str__ = __lt__ = __le__ = __eq__ = raising()
    __hash__: Any = None


class Fraction(float):
    __float__ = __repr__ = __str__ = raising()


class Member(Enum):
    ONE = 1
    value = property(raising())


Pair = namedtuple("Pair", "first second")  # noqa: PYI024 - an odd one
Claims = odd(__class__=property(raising()))
StrayClaims = odd(__class__=property(raising(StrayError())))

VALUES: dict[str, Callable[[], Any]] = {
    "class without a hash": lambda: odd(meta=NoHash)(),
    "class without ==": lambda: odd(meta=NoEquality)(),
    "class with a hash that raises": lambda: odd(meta=RaisingHash)(),
    "class without names": lambda: odd(meta=RaisingNames)(),
    "class without checks": lambda: odd(meta=RaisingChecks)(),
    "class without attributes": lambda: odd(meta=RaisingAttributes)(),
    "list of a class without a hash": lambda: odd(list, meta=NoHash)([1]),
    "a class without a hash itself": lambda: odd(meta=NoHash),
    "a class without names itself": lambda: odd(meta=RaisingNames),
    "a class without attributes itself": lambda: odd(meta=RaisingAttributes),
    "repr": lambda: odd(__repr__=raising())(),
    "stray repr": lambda: stray("__repr__"),
    "repr of a subclass of str": ShownAsText,
    "equality": lambda: odd(__eq__=raising(), __hash__=raising())(),
    "__class__": Claims,
    "stray __class__": StrayClaims,
    "attributes": odd(__getattribute__=raising()),
    "dataclass": lambda: Fields(1),
    "mapping": Table,
    "items that are no pairs": lambda: Items(a=1),
    "list": lambda: Items3([1]),
    "int": lambda: Whole(3),
    "float": lambda: Fraction(1.5),
    "str": lambda: Text("abcdefgh"),
    "enum": lambda: Member.ONE,
    "in a list": lambda: [Claims(), 1, "two"],
    "stray, in a list": lambda: [StrayClaims(), 1],
    "stray reprs, nested": lambda: [stray("__repr__"), {"a": stray("__str__", "__repr__")}],
    "key": lambda: {Claims(): 1},
    "named tuple": lambda: Pair(Claims(), stray("__repr__")),
    "set": lambda: {Claims(), 3, "a"},
    "set that cannot be sorted": lambda: {stray("__repr__"), stray("__lt__", "__gt__"), 1},
    "under a secret name": lambda: {"token": stray("__repr__")},
    "secret": lambda: rt.Secret(stray("__repr__")),
}

ERRORS: dict[str, Callable[[], Exception]] = {
    "str": lambda: odd(ValueError, __str__=raising(), __repr__=raising())(1),
    "stray str": lambda: odd(ValueError, __str__=raising(StrayError()), __repr__=raising(StrayError()))(1),
    "str of a subclass of str": lambda: odd(ValueError, __str__=lambda self: Text("token=1"))(1),
    "class without a hash": lambda: odd(ValueError, meta=NoHash)(1),
    "class without names": lambda: odd(ValueError, meta=RaisingNames)(1),
    "__class__": lambda: odd(ValueError, __class__=property(raising()))(1),
    "attributes": lambda: odd(ValueError, __getattribute__=raising())(1),
    "traceback": lambda: odd(ValueError, __traceback__=property(raising()))(1),
    "cause": lambda: odd(ValueError, __cause__=property(raising()), __context__=property(raising()))(1),
    "notes": lambda: odd(ValueError, __notes__=property(raising()))(1),
    "truth": lambda: odd(ValueError, __bool__=raising())(1),
    "falsy": lambda: odd(ValueError, __bool__=lambda self: False)(1),
    "of length 0": lambda: odd(ValueError, __len__=lambda self: 0)(1),
    "equality": lambda: odd(ValueError, __eq__=raising(), __hash__=None)(1),
    "frozen": lambda: dataclasses.dataclass(frozen=True)(odd(ValueError, __annotations__={"x": int}))(1),
}
