"""What a model gives: taken strictly or read without loss, and refused with errors that it can learn from."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import typing as t
import uuid

import attrs
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import railtracks as rt
from railtracks._schema import _arguments
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks._schema._fields import parameters_of
from railtracks.llm._tool_schemas import output_schema, tool_schema
from railtracks.nodes._resolve import as_node
from tests.effort import examples
from tests.llm.schemas import json_schema

if t.TYPE_CHECKING:
    import pydantic
else:
    pydantic = pytest.importorskip("pydantic")

T = t.TypeVar("T")


def arguments_for(node, given):
    return _arguments.arguments_for(parameters_of(node), given)


UserId = t.NewType("UserId", t.Annotated[int, ["cannot be hashed"]])


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Person:
    name: str
    age: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    friends: list[Person] = attrs.field(factory=list)
    _secret: bool = False


@dataclasses.dataclass
class Line:
    start: Person
    end: Person | None = None

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise RuntimeError("a line has two ends")


class Pair(t.NamedTuple):
    left: int
    right: str = "r"


class Options(t.TypedDict):
    depth: int
    wide: t.NotRequired[bool]


@attrs.frozen
class Box(t.Generic[T]):
    content: T


class Names(list[str]):
    pass


class Owner(pydantic.BaseModel):
    name: str
    born: datetime.date | None = None


class StrictOwner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    born: datetime.date


class Root(pydantic.RootModel[list[int]]):
    pass


def take(data: t.Any, annotation: t.Any) -> t.Any:
    """The data as the annotation says, through a node."""

    def tool(x): ...

    tool.__annotations__["x"] = annotation
    args, kwargs = arguments_for(as_node(tool), {"x": data})
    assert args == ()
    return kwargs["x"]


@pytest.mark.parametrize(
    ("annotation", "data", "value"),
    [
        (int, 3, 3),
        (int, 3.0, 3),
        (float, 3, 3.0),
        (float, 2.5, 2.5),
        (bool, False, False),
        (str, "3", "3"),
        (None, None, None),
        (t.Any, {"a": [1]}, {"a": [1]}),
        (object, "x", "x"),
        (list, [1, "a"], [1, "a"]),
        (t.Sequence[int], [1], [1]),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[()], [], ()),
        (set[int], [1, 2, 1], {1, 2}),
        (frozenset[str], ["a"], frozenset("a")),
        (collections.abc.Set[int], [1], {1}),
        (Names, ["a"], Names(["a"])),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict, {"a": 1}, {"a": 1}),
        (t.Mapping[Colour, int], {"red": 1}, {Colour.RED: 1}),
        (t.Literal["a", 1, True], True, True),
        (t.Literal["a", 1], 1, 1),
        (t.Literal[Colour.RED], "red", Colour.RED),
        (Colour, "blue", Colour.BLUE),
        (Level, 2, Level.HIGH),
        (int | str, "3", "3"),
        (str | int, 3, 3),
        (t.Optional[int], None, None),  # noqa: UP045
        (date_or_text := datetime.date | str, "2024-01-02", datetime.date(2024, 1, 2)),
        (date_or_text, "soon", "soon"),
        (Person | Pair, {"left": 1}, Pair(1)),
        (list[Box[int] | Box[str]], [{"content": "a"}, {"content": 1}], [Box("a"), Box(1)]),
        (UserId, 3, 3),
        (t.Annotated[int, "many"], 3, 3),
        (list[t.Annotated[int, ["cannot be hashed"]]], [3], [3]),
        (T, "x", "x"),
        (Person, {"name": "a", "secret": True}, Person("a", secret=True)),
        (Line, {"start": {"name": "a", "friends": [{"name": "b"}]}}, Line(Person("a", friends=[Person("b")]))),
        (Pair, {"left": 1}, Pair(1)),
        (Options, {"depth": 1}, {"depth": 1}),
        (Options, {"depth": 1, "wide": True}, {"depth": 1, "wide": True}),
        (Box[int], {"content": 1}, Box(1)),
        (Box, {"content": 1}, Box(1)),
        (Owner, {"name": "a", "born": "2024-01-02"}, Owner(name="a", born=datetime.date(2024, 1, 2))),
        (StrictOwner, {"born": "2024-01-02"}, StrictOwner(born=datetime.date(2024, 1, 2))),
        (datetime.date, "2024-01-02", datetime.date(2024, 1, 2)),
        (datetime.datetime, "2024-01-02T03:04:05Z", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
        (datetime.time, "03:04", datetime.time(3, 4)),
        (datetime.timedelta, "P1DT2H", datetime.timedelta(days=1, hours=2)),
        (datetime.timedelta, "-PT0.5S", datetime.timedelta(seconds=-0.5)),
        (datetime.timedelta, "P2W", datetime.timedelta(weeks=2)),
        (uuid.UUID, str(uuid.UUID(int=1)), uuid.UUID(int=1)),
        (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
    ],
)
def test_taken(annotation, data, value):
    taken = take(data, annotation)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("annotation", "data", "value"),
    [
        (int, "3", 3),
        (int, "3.0", 3),
        (float, "3", 3.0),
        (float, "2.5", 2.5),
        (bool, "false", False),
        (None, "null", None),
        (int | None, "3", 3),
        (int | None, "null", None),
        (str | None, "null", "null"),
        (t.Optional[str], "3", "3"),  # noqa: UP045
        (None | str, "null", "null"),
        (decimal.Decimal, 1.5, decimal.Decimal("1.5")),
        (decimal.Decimal, 3, decimal.Decimal(3)),
        (decimal.Decimal | float, 1.5, 1.5),
        (decimal.Decimal | None, 1.5, decimal.Decimal("1.5")),
        (datetime.date, "2024-01-02T00:00:00", datetime.date(2024, 1, 2)),
        (Level, "2", Level.HIGH),
        (t.Literal["1", 1], "1", "1"),
        (t.Literal[1], "1", 1),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], '["1", 2.0]', [1, 2]),
        (list[int] | None, "[1]", [1]),
        (str | list[int], "[1]", "[1]"),
        (list[int] | str, "[1]", "[1]"),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (dict[str, int], '{"a": "1"}', {"a": 1}),
        (Person, '{"name": "a", "friends": "[{\\"name\\": \\"b\\"}]"}', Person("a", friends=[Person("b")])),
        (int | list[int], ["1"], [1]),
        (Box[int] | Box[str], {"content": "1"}, Box("1")),
    ],
)
def test_read_without_loss(annotation, data, value):
    taken = take(data, annotation)
    assert taken == value
    assert type(taken) is type(value)


class Meal(pydantic.BaseModel):
    price: decimal.Decimal = decimal.Decimal(1)
    count: int = 1
    weight: float = 1.0
    is_hot: bool = False
    guests: list[str] = []
    rooms: set[int] = set()
    owner: Owner | None = None
    level: Level = Level.LOW
    day: datetime.date = datetime.date(2024, 1, 1)
    at: datetime.datetime | None = None
    name: int | str = ""
    by_number: dict[int, int] = {}


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("price", 1.5, decimal.Decimal("1.5")),
        ("price", "1.50", decimal.Decimal("1.50")),
        ("count", "3", 3),
        ("count", 3.0, 3),
        ("weight", "2.5", 2.5),
        ("is_hot", "true", True),
        ("guests", '["a", "b"]', ["a", "b"]),
        ("rooms", '["1", 2.0]', {1, 2}),
        ("owner", '{"name": "a", "born": "2024-01-02"}', Owner(name="a", born=datetime.date(2024, 1, 2))),
        ("owner", "null", None),
        ("level", "2", Level.HIGH),
        ("day", "2024-01-02T00:00:00", datetime.date(2024, 1, 2)),
        ("at", "2024-01-02", datetime.datetime(2024, 1, 2)),  # noqa: DTZ001 (it has none)
        ("name", "3", "3"),
        ("by_number", {"1": "2"}, {1: 2}),
    ],
)
def test_models_of_pydantic_read_without_loss(name, data, value):
    taken = getattr(take({name: data}, Meal), name)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("count", "many", "x.count: Input should be a valid integer"),
        ("count", True, "x.count: Input should be a valid integer"),
        ("count", "true", "x.count: Input should be a valid integer"),
        ("count", 3.5, "x.count: Input should be a valid integer"),
        ("is_hot", "yes", "x.is_hot: Input should be a valid boolean"),
        ("is_hot", 1, "x.is_hot: Input should be a valid boolean"),
        ("guests", "a, b", "x.guests: Input should be a valid array"),
        ("guests", "{}", "x.guests: Input should be a valid array"),
        ("day", 3, "x.day: Input should be a valid date"),
        ("day", "2024-01-02T03:00:00", "x.day: Input should be a valid date"),
        ("at", 1_700_000_000, "x.at: Input should be a valid datetime"),
        ("by_number", {"a": 1}, "x.by_number.a"),
    ],
)
def test_models_of_pydantic_are_as_strict_as_all_else(name, data, text):
    with pytest.raises(ArgumentError) as caught:
        take({name: data}, Meal)
    assert str(caught.value).startswith(text)


def test_arguments_may_be_the_json_of_an_object():
    assert arguments_for(as_node(lambda x: x), '{"x": "1"}') == ((), {"x": "1"})


@pytest.mark.parametrize(
    ("annotation", "data", "text"),
    [
        (int, True, "x: expected an integer, got true"),
        (int, "true", 'x: expected an integer, got "true"'),
        (int, "3.5", 'x: expected an integer, got "3.5"'),
        (int, "1" + "0" * 5_000, 'x: expected an integer, got "1' + "0" * 55 + "..."),
        (float, "NaN", 'x: expected a number, got "NaN"'),
        (float, "1e999", 'x: expected a number, got "1e999"'),
        (bool, "yes", 'x: expected true or false, got "yes"'),
        (bool, "1", 'x: expected true or false, got "1"'),
        (list[int], "{}", 'x: expected an array, got "{}"'),
        (list[int], "1, 2", 'x: expected an array, got "1, 2"'),
        (dict[str, int], "[1]", 'x: expected an object, got "[1]"'),
        (datetime.date, "2024-01-02T03:00:00",
         'x: expected the text of a date, such as 2024-12-31, got "2024-01-02T03:00:00"'),
        (int, 3.7, "x: expected an integer, got 3.7"),
        (int, float("inf"), "x: expected an integer, got Infinity"),
        (int, None, "x: expected an integer, got null"),
        (float, True, "x: expected a number, got true"),
        (float, float("nan"), "x: expected a number, got NaN"),
        (str, {"a": 1}, 'x: expected a text, got {"a": 1}'),
        (str, 3, "x: expected a text, got 3"),
        (bool, 0, "x: expected true or false, got 0"),
        (list[int], "abc", 'x: expected an array, got "abc"'),
        (list[int], {"a": 1}, 'x: expected an array, got {"a": 1}'),
        (list[int], [1, "a", 2, "b"], 'x[1]: expected an integer, got "a"; x[3]: expected an integer, got "b"'),
        (tuple[int, int], [1], "x: expected an array of 2, got [1]"),
        (tuple[()], [1], "x: expected an array of 0, got [1]"),
        (set[int], "ab", 'x: expected an array, got "ab"'),
        (dict[str, int], [1], "x: expected an object, got [1]"),
        (dict[str, int], {"a b": "c"}, 'x["a b"]: expected an integer, got "c"'),
        (dict[Colour, int], {"x": 1}, 'x.x: expected one of "red", "blue", got "x"'),
        (Colour, "RED", 'x: expected one of "red", "blue", got "RED"'),
        (Level, True, "x: expected one of 1, 2, got true"),
        (t.Literal["a", 1], True, 'x: expected one of "a", 1, got true'),
        (int | None, "a", 'x: expected an integer, got "a"'),
        (Person | None, {"name": 1}, "x.name: expected a text, got 1"),
        (
            int | list[int],
            [3.5],
            (
                "x: fits none of 2 types "
                "(as int: expected an integer, got [3.5] | as list[int]: [0]: expected an integer, got 3.5)"
            ),
        ),
        (Person, "a", 'x: expected an object, got "a"'),
        (Person, {}, "x.name: missing"),
        (Person, {"name": "a", "age": -1}, "x: 'age' must be >= 0: -1"),
        (Person, {"name": "a", "_secret": True},
         'x: unknown key "_secret" (the keys are name, age, friends, secret)'),
        (Person, {"name": 1, "friends": [{"name": "b"}, {"name": 2}]},
         "x.name: expected a text, got 1; x.friends[1].name: expected a text, got 2"),
        (Line, {"start": {"name": "a"}, "end": {"name": "a"}}, "x: a line has two ends"),
        (Pair, {"right": 3}, "x.left: missing; x.right: expected a text, got 3"),
        (Pair, [1, "a"], 'x: expected an object, got [1, "a"]'),
        (Options, {"deep": 1}, 'x.depth: missing; x: unknown key "deep" (the keys are depth, wide)'),
        (Box[int], {"content": "a"}, 'x.content: expected an integer, got "a"'),
        (Owner, {"born": "soon"},
         "x.name: Field required; x.born: Input should be a valid date in the format YYYY-MM-DD, input is too short"),
        (StrictOwner, {"born": "2024-01-02", "a": 1}, "x.a: Extra inputs are not permitted"),
        (datetime.date, "soon", 'x: expected the text of a date, such as 2024-12-31, got "soon"'),
        (datetime.date, 3, "x: expected the text of a date, such as 2024-12-31, got 3"),
        (datetime.timedelta, "P", 'x: expected the text of a duration, such as P1DT2H30M or PT0.5S, got "P"'),
        (datetime.timedelta, "P1DT", 'x: expected the text of a duration, such as P1DT2H30M or PT0.5S, got "P1DT"'),
        (datetime.timedelta, "P9999999999D",
         'x: expected the text of a duration, such as P1DT2H30M or PT0.5S, got "P9999999999D"'),
        (uuid.UUID, "x", 'x: expected the text of a UUID, got "x"'),
        (decimal.Decimal, "NaN", 'x: expected the text of a decimal number, such as 12.50, got "NaN"'),
    ],
)  # fmt: skip
def test_refused(annotation, data, text):
    with pytest.raises(ArgumentError) as caught:
        take(data, annotation)
    assert str(caught.value) == text


def test_every_problem_is_listed():
    def search(count: int, person: Person): ...

    with pytest.raises(ArgumentError) as caught:
        arguments_for(as_node(search), {"count": "many", "person": {"age": 3}, "foo": 1})
    assert str(caught.value) == (
        'count: expected an integer, got "many"; person.name: missing; '
        'unknown argument "foo" (the arguments are count, person)'
    )
    with pytest.raises(ArgumentError, match=r'unknown argument "foo" \(the arguments are none\)'):
        arguments_for(as_node(lambda: 1), {"foo": 1})


def test_errors_stay_short():
    with pytest.raises(ArgumentError) as caught:
        take(["x" * 10_000] * 1_000, list[int])
    assert str(caught.value).endswith("and 980 more")
    assert len(str(caught.value)) < 4_000


def test_text_in_place_of_an_object():
    with pytest.raises(ArgumentError, match=r'^the arguments must be a JSON object, such as .*, not "\{nope"$'):
        arguments_for(as_node(lambda x: x), "{nope")


def test_positional_only_parameters_go_by_position():
    def tool(a, b=2, c=3, /, d=4, *rest, e=5, **more: int): ...

    node = as_node(tool)
    assert arguments_for(node, {"a": 1}) == ((1,), {})
    assert arguments_for(node, {"c": 0, "a": 1, "d": 9, "z": 7.0}) == ((1, 2, 0), {"d": 9, "z": 7})
    assert "rest" not in tool_schema(node).parameters["properties"]
    with pytest.raises(ArgumentError, match=r"^a: missing; z: expected an integer, got null$"):
        arguments_for(node, {"z": None})


def test_bound_parameters_cannot_be_given():
    def tool(a: int, b: int, c: int = 0): ...

    node = as_node(functools.partial(tool, 1, b=2))
    assert arguments_for(node, {"c": 3}) == ((), {"c": 3})
    with pytest.raises(ArgumentError, match=r'unknown argument "b" \(the arguments are c\)'):
        arguments_for(node, {"b": 3})


def test_arguments_of_a_class_node_call_it():
    class Greet(rt.nodes.Node[str]):
        def __init__(self, name: str, times: int = 1) -> None:
            self.text = name * times

        async def invoke(self) -> str:
            return self.text

    args, kwargs = arguments_for(as_node(Greet), {"name": "a", "times": 2.0})
    assert rt.call_sync(Greet, *args, **kwargs) == "aa"


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@attrs.define
class Wild:
    how: str

    def __attrs_post_init__(self) -> None:
        if self.how == "deep":
            self.__attrs_post_init__()
        raise {"group": ExceptionGroup("", [ValueError()]), "broken": Broken(), "key": KeyError()}[self.how]


@pytest.mark.parametrize("how", ["group", "broken", "key", "deep", "other"])
def test_what_a_class_raises_becomes_an_argument_error(how):
    with pytest.raises(ArgumentError):
        take({"how": how}, Wild)
    with pytest.raises(ArgumentError):
        take([{"how": how}], list[int | Wild])


def test_set_of_what_cannot_be_in_one():
    with pytest.raises(ArgumentError, match="unhashable"):
        take([[1]], set[list[int]])


def test_data_that_is_nested_too_deeply():
    deep: t.Any = []
    person: t.Any = {"name": "a"}
    for _ in range(100_000):
        deep, person = [deep], {"name": "a", "friends": [person]}
    for kind, data in [(Person, person), (Person, deep), (Owner, deep), (Person | Line, person)]:
        with pytest.raises(ArgumentError):
            take(data, kind)
    with pytest.raises(ArgumentError, match="nested too deeply"):
        structured_output("[" * 100_000 + "]" * 100_000, list)


@attrs.define
class Left:
    next: Left | Right | None
    x: int


@attrs.define
class Right:
    next: Left | Right | None
    x: str


def test_nested_unions_take_no_exponential_time():  # 2 ** 60 attempts would not end
    data: t.Any = None
    for _ in range(60):
        data = {"next": data, "x": "right"}
    assert isinstance(take(data, Left | Right), Right)
    with pytest.raises(ArgumentError):
        take({"next": data, "x": None}, Left | Right)


@pytest.mark.parametrize(
    ("cls", "text", "value"),
    [
        (Person, '{"name": "a"}', Person("a")),
        (Person, '```json\n{"name": "a"}\n```', Person("a")),
        (Person, '  ```\n{"name": "a"}```\n', Person("a")),
        (Options, '{"depth": 1}', {"depth": 1}),
        (Owner, '{"name": "a"}', Owner(name="a")),
        (Box[int], '{"content": 1}', Box(1)),
        (list[int], '{"value": [1]}', [1]),
        (int, '{"value": 1.0}', 1),
        (int | None, '{"value": null}', None),
        (t.Literal["a"], '{"value": "a"}', "a"),
        (Root, '{"value": [1]}', Root([1])),
        (t.Annotated[list[Person], "x"], '{"value": [{"name": "a"}]}', [Person("a")]),
    ],
)
def test_structured_output(cls, text, value):
    assert structured_output(text, cls) == value


@pytest.mark.parametrize(
    ("cls", "text", "wrong"),
    [
        (Person, "Sure! ...", r"^the answer must be JSON alone, and this is none: Expecting value: line 1"),
        (Person, "", r"^the answer must be JSON alone"),
        (Person, "3", r"^expected an object, got 3$"),
        (Person, '{"name": 3}', r"^name: expected a text, got 3$"),
        (Person, '{"nam": "a"}', r'^name: missing; unknown key "nam" \(the keys are name, age, friends, secret\)$'),
        (float, '{"value": NaN}', r"NaN is no JSON number"),
        (float, '{"value": 1e999}', r"^value: expected a number, got Infinity$"),
        (float, '{"value": 1' + "0" * 400 + "}", r"^value: "),
        (int, '{"value": 1' + "0" * 5_000 + "}", r"^the answer must be JSON alone"),
        (list[int], "[1]", r'^expected an object with the key "value", got \[1\]$'),
        (list[int], '{"value": [1], "x": 1}', r'^unknown key "x" \(the keys are value\)$'),
        (list[int], "{}", r"^value: missing$"),
    ],
)
def test_structured_output_that_does_not_fit(cls, text, wrong):
    with pytest.raises(ArgumentError, match=wrong):
        structured_output(text, cls)


# Properties: of random types.


@attrs.frozen
class Kind:
    """A type, the values of it, and what JSON has in their place."""

    type: t.Any
    values: st.SearchStrategy[t.Any]
    written: frozenset[str]
    hashable: bool = False


def scalar(kind: t.Any, values: st.SearchStrategy[t.Any], written: str) -> Kind:
    return Kind(kind, values, frozenset({written}), hashable=True)


ZONES = st.none() | st.just(datetime.UTC) | st.just(datetime.timezone(datetime.timedelta(hours=-3, minutes=-30)))
WHOLE = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = [
    scalar(str, st.text(), "string"),
    scalar(int, st.integers(), "number"),
    scalar(float, WHOLE, "number"),
    scalar(bool, st.booleans(), "boolean"),
    scalar(None, st.none(), "null"),
    scalar(Colour, st.sampled_from(Colour), "string"),
    scalar(Level, st.sampled_from(Level), "number"),
    scalar(t.Literal["a", "b"], st.sampled_from(["a", "b"]), "string"),
    scalar(t.Literal[1, 7], st.sampled_from([1, 7]), "number"),
    scalar(UserId, st.integers(), "number"),
    scalar(t.Annotated[str, "a text"], st.text(), "string"),
    scalar(datetime.datetime, st.datetimes(timezones=ZONES), "string"),
    scalar(datetime.date, st.dates(), "string"),
    scalar(datetime.time, st.times(timezones=ZONES), "string"),
    scalar(datetime.timedelta, st.timedeltas(), "string"),
    scalar(uuid.UUID, st.uuids(), "string"),
    scalar(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False), "string"),
    scalar(pathlib.Path, st.text().map(pathlib.Path), "string"),
    Kind(Owner, st.builds(Owner, name=st.text(), born=st.none() | st.dates()), frozenset({"object"})),
]
NAMES = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4)


def array(kind: t.Any, values: st.SearchStrategy[t.Any], hashable: bool = False) -> Kind:
    return Kind(kind, values, frozenset({"array"}), hashable)


def of_one(inner: Kind) -> st.SearchStrategy[Kind]:
    some = st.lists(inner.values, max_size=3)
    made = [
        array(list[inner.type], some),
        array(t.Sequence[inner.type], some),
        array(tuple[inner.type, ...], some.map(tuple), inner.hashable),
        Kind(dict[str, inner.type], st.dictionaries(st.text(), inner.values, max_size=3), frozenset({"object"})),
        Kind(
            dict[Colour, inner.type],
            st.dictionaries(st.sampled_from(Colour), inner.values, max_size=3),
            frozenset({"object"}),
        ),
        Kind(Box[inner.type], st.builds(Box, inner.values), frozenset({"object"}), inner.hashable),
    ]
    if inner.hashable:
        made.append(array(frozenset[inner.type], st.frozensets(inner.values, max_size=3), True))
        made.append(array(set[inner.type], st.sets(inner.values, max_size=3)))
    return st.sampled_from(made)


def of_several(inner: list[Kind]) -> st.SearchStrategy[Kind]:
    apart: list[Kind] = []
    for kind in inner:
        if all(kind.written.isdisjoint(other.written) for other in apart):
            apart.append(kind)
    union = Kind(
        t.Union[tuple(kind.type for kind in apart)],  # noqa: UP007
        st.one_of([kind.values for kind in apart]),
        frozenset().union(*(kind.written for kind in apart)),
        all(kind.hashable for kind in apart),
    )
    fixed = array(
        tuple[tuple(kind.type for kind in inner)],
        st.tuples(*(kind.values for kind in inner)),
        all(kind.hashable for kind in inner),
    )
    return st.one_of(st.just(union), st.just(fixed), st.builds(record, st.sampled_from(MAKERS), NAMES, st.just(inner)))


def partly_required(name: str, hints: dict[str, t.Any]) -> t.Any:
    required = {key: t.Required[hint] for key, hint in hints.items()}
    return t.TypedDict(name, required, total=False)  # type: ignore[operator]


MAKERS: list[t.Callable[[str, dict[str, t.Any]], t.Any]] = [
    lambda name, hints: attrs.make_class(name, {key: attrs.field(type=hint) for key, hint in hints.items()}),
    lambda name, hints: dataclasses.make_dataclass(name, list(hints.items())),
    lambda name, hints: t.NamedTuple(name, list(hints.items())),
    lambda name, hints: t.TypedDict(name, hints),  # type: ignore[operator]
    partly_required,
]


def record(make: t.Callable[[str, dict[str, t.Any]], t.Any], names: list[str], inner: list[Kind]) -> Kind:
    fields = dict(zip(names, inner, strict=False))
    cls = make("Record", {name: kind.type for name, kind in fields.items()})
    return Kind(cls, st.builds(cls, **{name: kind.values for name, kind in fields.items()}), frozenset({"object"}))


KINDS = st.recursive(
    st.sampled_from(SCALARS),
    lambda kinds: kinds.flatmap(of_one) | st.lists(kinds, min_size=1, max_size=4).flatmap(of_several),
    max_leaves=6,
)


def as_json(value: t.Any) -> t.Any:
    """A value as a model would give it."""
    match value:
        case enum.Enum():
            return value.value
        case pydantic.BaseModel():
            return json.loads(value.model_dump_json())
        case datetime.timedelta():
            micros = value // datetime.timedelta(microseconds=1)
            return f"{'-' * (micros < 0)}PT{abs(micros) // 1_000_000}.{abs(micros) % 1_000_000:06}S"
        case datetime.date() | datetime.time():
            return value.isoformat()
        case uuid.UUID() | decimal.Decimal() | pathlib.PurePath():
            return str(value)
        case dict():
            return {as_json(key): as_json(item) for key, item in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return as_json(value._asdict())  # type: ignore[attr-defined]
        case list() | tuple() | set() | frozenset():
            return [as_json(item) for item in value]
    if dataclasses.is_dataclass(value) or attrs.has(type(value)):
        names = [each.name for each in (attrs.fields if attrs.has(type(value)) else dataclasses.fields)(type(value))]
        return {name: as_json(getattr(value, name)) for name in names}
    return value


def validates(data: t.Any, schema: t.Any) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    validator.check_schema(schema)
    validator(schema).validate(data)


@examples(300)
@given(st.data())
def test_every_value_fits_its_schema_and_comes_back(data):
    kind = data.draw(KINDS)
    note(kind.type)
    value = data.draw(kind.values)
    text = json.dumps(as_json(value))
    validates(json.loads(text), json_schema(kind.type))
    assert take(json.loads(text), kind.type) == value
    wrapped = output_schema(kind.type)
    text = text if "value" not in wrapped.schema["properties"] else json.dumps({"value": as_json(value)})
    validates(json.loads(text), wrapped.schema)
    assert structured_output(f"```json\n{text}\n```", kind.type) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a", "red", 1.0]),
    lambda data: (
        st.lists(data, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "content", "name", "red", "?"]), data, max_size=3)
    ),
    max_leaves=8,
)


def changed(data: t.Any, draw: t.Callable[..., t.Any]) -> t.Any:
    """The data with one thing in it, anywhere, replaced."""
    if isinstance(data, dict) and data and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(data)))
        return {**data, key: changed(data[key], draw)}
    if isinstance(data, list) and data and draw(st.booleans()):
        place = draw(st.integers(0, len(data) - 1))
        return [*data[:place], changed(data[place], draw), *data[place + 1 :]]
    return draw(JSON)


def without_unique(schema: t.Any) -> t.Any:
    """Sets are taken from arrays that name something twice, though models are told not to."""
    if isinstance(schema, dict):
        return {key: without_unique(value) for key, value in schema.items() if key != "uniqueItems"}
    return [without_unique(each) for each in schema] if isinstance(schema, list) else schema


@examples(300)
@given(st.data())
def test_other_data_is_refused_or_fits(data):
    kind = data.draw(KINDS)
    note(kind.type)
    given_data = changed(as_json(data.draw(kind.values)), data.draw)
    note(given_data)
    try:
        value = take(given_data, kind.type)
    except ArgumentError as exc:
        assert str(exc).startswith("x")
        return
    written = as_json(value)
    again = take(written, kind.type)
    assert again == value or again != again
    validates(written, without_unique(json_schema(kind.type)))
