"""Types of values that annotations bring back, and a value of each kind."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import uuid
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Optional

import attrs
import pydantic


@dataclass
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Square:
    size: int


@dataclass(frozen=True)
class Circle:
    size: int


@dataclass
class Base:
    x: int


@dataclass
class Derived(Base):
    pass


@dataclass
class Holder:
    content: Any


@dataclass
class Line:
    start: Point
    end: Point | None = None


@attrs.frozen
class Track:
    title: str
    when: datetime.datetime
    parts: tuple[Square, ...] = ()


class Model(pydantic.BaseModel):
    name: str
    when: datetime.date
    path: Path | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    ONE = "one"


WHEN = datetime.datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=datetime.UTC)
UID = uuid.UUID(int=77)
TYPED = {
    "dataclass": (Point, Point(1, 2)),
    "frozen dataclass": (Square, Square(3)),
    "nested dataclass": (Line, Line(Point(1, 2), Point(3, 4))),
    "nested optional": (Line, Line(Point(1, 2))),
    "attrs": (Track, Track("t", WHEN, (Square(1), Square(2)))),
    "pydantic": (Model, Model(name="n", when=WHEN.date(), path=Path("a/b"))),
    "tuple": (tuple[int, str], (1, "a")),
    "endless tuple": (tuple[Point, ...], (Point(1, 2), Point(3, 4))),
    "empty tuple": (tuple[int, ...], ()),
    "named tuple": (Pair, Pair(1, "r")),
    "datetime": (datetime.datetime, WHEN),
    "naive datetime": (datetime.datetime, WHEN.replace(tzinfo=None)),
    "date": (datetime.date, WHEN.date()),
    "time": (datetime.time, WHEN.time()),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "fraction": (fractions.Fraction, fractions.Fraction(1, 3)),
    "uuid": (uuid.UUID, UID),
    "path": (Path, Path("a/b.txt")),
    "enum": (Color, Color.RED),
    "int enum": (Level, Level.LOW),
    "text enum": (Word, Word.ONE),
    "set": (set[int], {3, 1, 2}),
    "frozen set": (frozenset[str], frozenset({"a"})),
    "set of enums": (set[Color], {Color.RED}),
    "list of dataclasses": (list[Point], [Point(1, 2)]),
    "list of lists of tuples": (list[list[tuple[int, int]]], [[(1, 2)], []]),
    "list of models": (list[Model], [Model(name="n", when=WHEN.date())]),
    "list of attrs": (list[Track], [Track("a", WHEN), Track("b", WHEN)]),
    "dict of decimals": (dict[str, decimal.Decimal], {"a": decimal.Decimal("0.3")}),
    "dict by enum": (dict[Color, Path], {Color.BLUE: Path("b")}),
    "dict by int": (dict[int, tuple[int, int]], {1: (2, 3)}),
    "dict by tuple": (dict[tuple[int, int], str], {(1, 2): "a"}),
    "optional": (Optional[Point], Point(1, 2)),  # noqa: UP045
    "optional datetime": (datetime.datetime | None, WHEN),
    "optional list of optionals": (list[Point | None] | None, [None, Point(1, 2)]),
    "union": (Point | Track, Track("t", WHEN)),
    "optional model": (Model | None, Model(name="n", when=WHEN.date())),
    "bytes in a tuple": (tuple[bytes, int], (b"\x00\xff", 1)),
    "infinity in a tuple": (tuple[float, float], (math.inf, 1.5)),
}
"""An annotation and a value that it fits, by what they are."""
