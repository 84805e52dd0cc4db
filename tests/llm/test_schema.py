"""What a model is told of types, tools and answers."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import subprocess
import sys
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from railtracks.llm._tool_schemas import output_schema, tool_schema
from railtracks.nodes._resolve import as_node
from tests.llm.schemas import json_schema

if t.TYPE_CHECKING:
    import pydantic
else:
    pydantic = pytest.importorskip("pydantic")

T = t.TypeVar("T")
U = t.TypeVar("U", bound=int)
UserId = t.NewType("UserId", int)
STRING = {"type": "string"}
INTEGER = {"type": "integer"}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """How bad it is."""

    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    A = 1
    B = "b"


class Flags(enum.Flag):
    A = 1


class Opaque(enum.Enum):
    A = object()


@attrs.frozen
class Point:
    """A place.

    Args:
        x: To the right.
    """

    x: int
    y: int = 0
    label: str | None = attrs.field(default=None, kw_only=True)
    tags: list[str] = attrs.field(factory=list)
    made: int = attrs.field(default=1, init=False)
    _hidden: bool = False


@dataclasses.dataclass
class Line:
    start: Point
    end: Point
    width: float = 1.0


@dataclasses.dataclass
class Single:
    point: Point


class Pair(t.NamedTuple):
    left: int
    right: str = "r"


class Options(t.TypedDict):
    """What may be set.

    Attributes:
        depth: How deep.
    """

    depth: int
    wide: t.NotRequired[bool]


class Loose(t.TypedDict, total=False):
    a: t.Required[int]
    b: t.Annotated[str, "the b"]


@attrs.define
class Tree:
    value: int
    children: list[Tree] = attrs.field(factory=list)


@attrs.define
class Ping:
    pong: Pong | None = None


@attrs.define
class Pong:
    ping: Ping | None = None


@attrs.frozen
class Box(t.Generic[T]):
    content: T
    more: list[T] = attrs.field(factory=list)


@attrs.frozen
class Crate(Box[list[T]], t.Generic[T]):
    lid: T = attrs.field(kw_only=True)


@attrs.frozen
class IntBox(Box[int]):
    pass


@dataclasses.dataclass
class WithInit:
    shared: t.ClassVar[int] = 0
    a: dataclasses.InitVar[int]
    b: int = 2
    c: int = dataclasses.field(default=3, init=False)


class Names(list[str]):
    pass


class Address(pydantic.BaseModel):
    street: str


class Owner(pydantic.BaseModel):
    """Who has it."""

    name: str = pydantic.Field(description="full")
    home: Address
    work: Address | None = None


class Unsayable(pydantic.BaseModel):
    call: Callable[[], int]


class Root(pydantic.RootModel[list[int]]):
    pass


class Plain:
    pass


def closed(required: Sequence[str] = (), **properties: t.Any) -> dict[str, t.Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


POINT = {
    **closed(
        ["x"],
        x={**INTEGER, "description": "To the right."},
        y={**INTEGER, "default": 0},
        label={"anyOf": [STRING, {"type": "null"}], "default": None},
        tags={"type": "array", "items": STRING},
        hidden={"type": "boolean", "default": False},
    ),
    "description": "A place.",
}


def text(form: str) -> dict[str, str]:
    return {"type": "string", "format": form}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, STRING),
        (int, INTEGER),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (t.Any, {}),
        (object, {}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": INTEGER}),
        (t.List[int], {"type": "array", "items": INTEGER}),  # noqa: UP006
        (Sequence[int], {"type": "array", "items": INTEGER}),
        (Iterable[int], {"type": "array", "items": INTEGER}),
        (Names, {"type": "array", "items": STRING}),
        (tuple, {"type": "array", "items": {}}),
        (tuple[int, ...], {"type": "array", "items": INTEGER}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [INTEGER, STRING], "items": False, "minItems": 2, "maxItems": 2},
        ),
        (tuple[()], {"type": "array", "prefixItems": [], "items": False, "minItems": 0, "maxItems": 0}),
        (set[int], {"type": "array", "items": INTEGER, "uniqueItems": True}),
        (frozenset[str], {"type": "array", "items": STRING, "uniqueItems": True}),
        (dict, {"type": "object", "additionalProperties": True}),
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (Mapping[str, t.Any], {"type": "object", "additionalProperties": True}),
        (
            dict[Colour, int],
            {"type": "object", "additionalProperties": INTEGER, "propertyNames": {"enum": ["red", "blue"]}},
        ),
        (t.Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (t.Literal[1, "b", None], {"enum": [1, "b", None]}),  # noqa: PYI061
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (Level, {"type": "integer", "enum": [1, 2], "description": "How bad it is."}),
        (Mixed, {"enum": [1, "b"]}),
        (int | str, {"anyOf": [INTEGER, STRING]}),
        (t.Optional[int], {"anyOf": [INTEGER, {"type": "null"}]}),  # noqa: UP045
        (t.Annotated[int, "so many"], {**INTEGER, "description": "so many"}),
        (t.Annotated[int, pydantic.Field(description="so many")], {**INTEGER, "description": "so many"}),
        (t.Annotated[int, 3], INTEGER),
        (t.Annotated[Level, "mine"], {"type": "integer", "enum": [1, 2], "description": "mine"}),
        (UserId, INTEGER),
        (U, INTEGER),
        (T, {}),
        (datetime.datetime, text("date-time")),
        (datetime.date, text("date")),
        (datetime.time, text("time")),
        (datetime.timedelta, text("duration")),
        (uuid.UUID, text("uuid")),
        (decimal.Decimal, STRING),
        (pathlib.Path, STRING),
        (Point, POINT),
        (Single, closed(["point"], point=POINT)),
        (Pair, closed(["left"], left=INTEGER, right={**STRING, "default": "r"})),
        (collections.namedtuple("Two", "a b", defaults=[1]), closed(["a"], a={}, b={"default": 1})),  # noqa: PYI024
        (
            Options,
            {
                **closed(["depth"], depth={**INTEGER, "description": "How deep."}, wide={"type": "boolean"}),
                "description": "What may be set.",
            },
        ),
        (Loose, closed(["a"], a=INTEGER, b={**STRING, "description": "the b"})),
        (Box[int], closed(["content"], content=INTEGER, more={"type": "array", "items": INTEGER})),
        (Box, closed(["content"], content={}, more={"type": "array", "items": {}})),
        (IntBox, closed(["content"], content=INTEGER, more={"type": "array", "items": INTEGER})),
        (
            Crate[str],
            closed(
                ["content", "lid"],
                content={"type": "array", "items": STRING},
                more={"type": "array", "items": {"type": "array", "items": STRING}},
                lid=STRING,
            ),
        ),
        (WithInit, closed(["a"], a=INTEGER, b={**INTEGER, "default": 2})),
        (Address, Address.model_json_schema()),
    ],
)
def test_schema_of_a_type(annotation, schema):
    assert json_schema(annotation) == schema
    assert json.dumps(json_schema(annotation)) == json.dumps(json_schema(annotation))


def test_class_that_is_used_twice_is_described_once():
    schema = json_schema(Line)
    assert schema["$defs"] == {"Point": POINT}
    assert schema["properties"]["start"] == schema["properties"]["end"] == {"$ref": "#/$defs/Point"}


def test_recursive_class_refers_to_itself():
    own = closed(["value"], value=INTEGER, children={"type": "array", "items": {"$ref": "#/$defs/Tree"}})
    assert json_schema(Tree) == {**own, "$defs": {"Tree": own}}
    assert json_schema(list[Tree]) == {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "$defs": {"Tree": own}}


def test_classes_that_need_each_other():
    schema = json_schema(Ping)
    (pong, _) = schema["properties"]["pong"]["anyOf"]
    assert pong["properties"]["ping"]["anyOf"][0] == {"$ref": "#/$defs/Ping"}
    assert set(schema["$defs"]) == {"Ping"}


def test_classes_of_one_name_stay_apart():
    @attrs.define
    class Point:
        z: str

    schema = json_schema(tuple[Line, Point, Point])
    assert schema["$defs"]["Point"] == POINT
    assert schema["$defs"]["Point_2"] == closed(["z"], z=STRING)


def test_class_defined_in_a_function_knows_itself():
    @attrs.define
    class Local:
        next: Local | None = None

    assert json_schema(Local)["properties"]["next"]["anyOf"][0] == {"$ref": "#/$defs/Local"}


def test_definitions_of_pydantic_models_are_merged():
    schema = json_schema(tuple[Owner, Address])
    assert schema["$defs"]["Address"] == Address.model_json_schema()
    owner, address = schema["prefixItems"]
    assert owner["properties"]["home"] == address == {"$ref": "#/$defs/Address"}
    assert owner["description"] == "Who has it."


def test_pydantic_models_of_one_name_stay_apart():
    class Address(pydantic.BaseModel):
        planet: int

    class Alien(pydantic.BaseModel):
        home: Address
        away: Address

    schema = json_schema(tuple[Owner, Alien])
    owner, alien = schema["prefixItems"]
    assert owner["properties"]["home"] == {"$ref": "#/$defs/Address"}
    assert alien["properties"]["home"] == alien["properties"]["away"] == {"$ref": "#/$defs/Address_2"}
    assert schema["$defs"]["Address_2"]["properties"].keys() == {"planet"}


def test_field_of_pydantic_model_that_resembles_a_reference():
    class Odd(pydantic.BaseModel):
        ref: str = pydantic.Field(alias="$ref", default="#/$defs/Nothing")
        items: dict[str, str] = {"properties": "x"}

    assert json_schema(Odd) == Odd.model_json_schema()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements")
def test_type_statement():
    scope: dict[str, t.Any] = {}
    exec("type Json = dict[str, Json] | list[Json] | str\ntype Few[T] = tuple[T, T]", scope)
    refer = {"$ref": "#/$defs/Json"}
    own = {"anyOf": [
        {"type": "object", "additionalProperties": refer}, {"type": "array", "items": refer}, STRING,
    ]}  # fmt: skip
    assert json_schema(scope["Json"]) == {**own, "$defs": {"Json": own}}
    assert json_schema(scope["Few"][int])["prefixItems"] == [INTEGER, INTEGER]


@pytest.mark.parametrize(
    ("annotation", "wrong", "instead"),
    [
        (bytes, "bytes", "use str"),
        (list[bytes], "bytes", "use str"),
        (Plain, "Plain", "attrs class"),
        (Callable[[int], str], "Callable", "attrs class"),
        (Iterator[int], "Iterator", "attrs class"),
        (complex, "complex", "attrs class"),
        (Unsayable, "Unsayable, which has no JSON Schema", "types that JSON has"),
        (Flags, "Flags", "an Enum"),
        (Opaque, "Opaque", "values that are texts or numbers"),
        (t.Literal[b"x"], "Literal", "values that are texts or numbers"),
        (dict[int, str], "keys of the type int", "dict[str, ...]"),
        (type[int], "type[int]", "attrs class"),
    ],
)
def test_type_without_a_schema_is_refused(annotation, wrong, instead):
    def search(x):
        pass

    search.__annotations__["x"] = annotation
    with pytest.raises(NodeCreationError) as caught:
        tool_schema(as_node(search))
    assert wrong in str(caught.value)
    assert instead in str(caught.value)
    with pytest.raises(NodeCreationError, match=r"^(the output|field)"):
        output_schema(annotation)


def test_refusal_names_the_place():
    @attrs.define
    class Query:
        data: bytes

    def search(x: Plain): ...

    def deep(q: Query): ...

    deep.__annotations__["q"] = Query
    with pytest.raises(NodeCreationError, match=r"^parameter 'x' of the tool 'search' is of the type Plain"):
        tool_schema(as_node(search))
    with pytest.raises(NodeCreationError, match=r"^field 'data' of Query is of the type bytes"):
        tool_schema(as_node(deep))


def test_annotation_that_is_not_there_at_run_time():
    def search(x: Missing): ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        NodeCreationError, match=r"parameter 'x' of the tool 'search' is annotated as 'Missing'.*import"
    ):
        tool_schema(as_node(search))


GOOGLE = """Search the web.

    At length,
    and in depth.

    Args:
        query: What to look
            for.
        count (int): How many.
        *rest: Never shown.
        colour: Of the result.

    Returns:
        What was found.
    """
NUMPY = """Search the web.

    At length,
    and in depth.

    Parameters
    ----------
    query : str
        What to look
        for.
    count : int, optional
        How many.
    colour
        Of the result.

    Returns
    -------
    str
        What was found.
    """
REST = """Search the web.

    At length,
    and in depth.

    :param query: What to look
        for.
    :param int count: How many.
    :param colour: Of the result.
    :returns: What was found.
    """


KEYWORDS = GOOGLE.replace("        colour: Of", "\n    Keyword Args:\n        colour: Of")


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, REST, KEYWORDS], ids=["google", "numpy", "rest", "keywords"])
def test_docstring_describes_tool_and_parameters(doc):
    def search(query: str, count: int = 5, *rest: str, colour: Colour = Colour.RED): ...

    search.__doc__ = doc
    schema = tool_schema(as_node(search))
    assert schema.name == "search"
    assert schema.description == "Search the web.\n\nAt length,\nand in depth."
    assert schema.parameters == closed(
        ["query"],
        query={**STRING, "description": "What to look for."},
        count={**INTEGER, "description": "How many.", "default": 5},
        colour={"type": "string", "enum": ["red", "blue"], "description": "Of the result.", "default": "red"},
    )


def test_tool_without_docstring_or_annotations():
    schema = tool_schema(as_node(lambda x, y=(1, 2): x))
    assert (schema.name, schema.description) == ("_lambda_", "")
    assert schema.parameters == closed(["x"], x={}, y={})  # a tuple is no JSON


def test_name_is_made_safe():
    node = rt.function_node(lambda: 1, name="look up: Größe " + "x" * 80)
    assert tool_schema(node).name == ("look_up__Gr__e_" + "x" * 80)[:64]


def test_further_keyword_arguments():
    def one(**rest: int): ...

    def two(**rest): ...

    assert tool_schema(as_node(one)).parameters["additionalProperties"] == INTEGER
    assert tool_schema(as_node(two)).parameters["additionalProperties"] is True


def test_what_is_bound_is_not_shown():
    class Shop:
        def buy(self, what: str, count: int, price: int = 1):
            """Buy it.

            Args:
                what: The thing.
            """

    bound = Shop().buy
    assert list(tool_schema(as_node(bound)).parameters["properties"]) == ["what", "count", "price"]
    some = functools.partial(functools.partial(bound, "tea"), price=3)
    schema = tool_schema(as_node(some))
    assert schema.parameters == closed(["count"], count=INTEGER)
    assert schema.description == "Buy it."


def test_object_that_can_be_called():
    class Shop:
        """A shop."""

        def __call__(self, what: str): ...

    schema = tool_schema(as_node(Shop()))
    assert schema.description == "A shop."
    assert schema.parameters == closed(["what"], what=STRING)


def test_class_node_uses_its_own_docstring_and_init():
    class Greet(rt.nodes.Node[str]):
        """Greets someone.

        Args:
            name: Of the person.
        """

        def __init__(self, name: str, times: int = 1) -> None:
            """
            Args:
                times: How often.
            """

        async def invoke(self) -> str:
            return ""

    schema = tool_schema(as_node(Greet))
    assert (schema.name, schema.description) == ("Greet", "Greets someone.")
    assert schema.parameters == closed(
        ["name"],
        name={**STRING, "description": "Of the person."},
        times={**INTEGER, "description": "How often.", "default": 1},
    )


def test_builtin_without_signature_is_refused():
    with pytest.raises(NodeCreationError, match=r"the tool 'max'.*write a function"):
        tool_schema(as_node(max))


@pytest.mark.parametrize("cls", [Point, Single, Pair, Options, Address, Tree, Box[int]])
def test_output_of_an_object(cls):
    schema = output_schema(cls)
    assert schema.schema == json_schema(cls)
    assert schema.schema["type"] == "object"


def test_other_outputs_are_wrapped():
    for kind, inner in [(int, INTEGER), (list[int], {"type": "array", "items": INTEGER}), (Root, None)]:
        schema = output_schema(kind)
        assert schema.schema["type"] == "object"
        assert schema.schema["required"] == ["value"]
        if inner:
            assert schema.schema["properties"] == {"value": inner}
    assert output_schema(list[int]).name == "list_int"
    assert output_schema(Box[int]).name == "Box_int"
    assert output_schema(int | str).name == "int___str"


def test_docstring_parser_is_imported_when_needed():
    code = "import sys, railtracks._schema._builder; assert 'docstring_parser' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
