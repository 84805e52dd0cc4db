"""The keys of nodes: what identifies a node in all processes.

Keys are on disk, in journals and documents. Each is pinned as a literal here: a change of one of them makes resumed
runs repeat the calls of that kind of node.
"""

import functools
import operator
from decimal import Decimal
from pathlib import PurePosixPath

import attrs
import pytest

import railtracks as rt
from railtracks._schema._docstrings import node_docs
from railtracks.nodes import Node, function_node
from railtracks.nodes._identity import argument_positions, bound_arguments, definition_path
from railtracks.nodes._resolve import as_node
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._plain_data import MAX_ITEMS


async def add(x, y=1):
    return x + y


def add_sync(x, y=1):
    return x + y


@functools.wraps(add)
def wrapper(*args):
    return add(*args)


@function_node
async def decorated(x):
    return x


@function_node(name="renamed", version="2", memo=False)
def options(x):
    return x


def local():
    def inner(x):
        return x

    return inner


class Methods:
    def method(self, x):
        return x

    @classmethod
    def of_class(cls, x):
        return x

    @staticmethod
    def static(x):
        return x

    @function_node
    def node(self, x):
        return x


@attrs.frozen
class Step:
    size: int

    def method(self, x):
        return x + self.size

    def __call__(self, x):
        return x + self.size

    @function_node(version="3")
    def node(self, x):
        return x + self.size


@attrs.define(slots=False)
class Counting:
    size: int

    def method(self, x):
        return x


class Greet(Node[str]):
    def __init__(self, name, greeting="Hello"):
        self.text = f"{greeting}, {name}"

    async def invoke(self):
        return self.text


class Versioned(Greet):
    @classmethod
    def version(cls):
        return "4"


def factory(name):
    return Greet(name)


def login(token, user):
    return user


@function_node(key="billing.charge", version="2")
async def with_a_key(x):
    return x


class WithAKey(Greet):
    @classmethod
    def key(cls):
        return "greet"


KEYS = {
    "async function": (add, "tests.nodes.test_identity.add"),
    "sync function": (add_sync, "tests.nodes.test_identity.add_sync"),
    "wrapped function": (wrapper, "tests.nodes.test_identity.add"),
    "local function": (local(), "tests.nodes.test_identity.local.<locals>.inner"),
    "lambda": (lambda: 1, None),
    "decorated function": (decorated, "tests.nodes.test_identity.decorated"),
    "decorated with options": (options, "tests.nodes.test_identity.options@2"),
    "node of a node": (function_node(options, name="again", version="5"), "tests.nodes.test_identity.options@5"),
    "builtin function": (len, "builtins.len"),
    "function of a C module": (operator.index, "_operator.index"),
    "builtin type": (int, "builtins.int"),
    "method of a builtin type": (str.upper, None),
    "bound method of a builtin": ("text".upper, "None.str.upper"),
    "operator of a builtin": ((1).__add__, 'builtins.int.__add__("input_args": [1], "input_kwargs": {})'),
    "class": (Methods, "tests.nodes.test_identity.Methods"),
    "class with fields": (Step, "tests.nodes.test_identity.Step"),
    "method": (Methods.method, "tests.nodes.test_identity.Methods.method"),
    "bound method": (
        Step(1).method,
        (
            'tests.nodes.test_identity.Step.method("input_args": [{"size": 1}], "input_kwargs": {}, '
            '"input_types": {"/input_args/0": "tests.nodes.test_identity.Step"}, "input_form": "typed")'
        ),
    ),
    "class method": (
        Methods.of_class,
        (
            'tests.nodes.test_identity.Methods.of_class("input_args": ["tests.nodes.test_identity.Methods"], '
            '"input_kwargs": {})'
        ),
    ),
    "static method": (Methods.static, "tests.nodes.test_identity.Methods.static"),
    "callable object": (
        Step(2),
        (
            'tests.nodes.test_identity.Step("input_args": [{"size": 2}], "input_kwargs": {}, '
            '"input_types": {"/input_args/0": "tests.nodes.test_identity.Step"}, "input_form": "typed")'
        ),
    ),
    "bound method of an unwritable object": (Methods().method, None),
    "decorated method": (Methods.node, "tests.nodes.test_identity.Methods.node"),
    "bound decorated method": (
        Step(3).node,
        (
            'tests.nodes.test_identity.Step.node("input_args": [{"size": 3}], "input_kwargs": {}, '
            '"input_types": {"/input_args/0": "tests.nodes.test_identity.Step"}, "input_form": "typed")@3'
        ),
    ),
    "partial": (
        functools.partial(add, y=2),
        'tests.nodes.test_identity.add("input_args": [], "input_kwargs": {"y": 2})',
    ),
    "partial with a positional argument": (
        functools.partial(add_sync, 1),
        'tests.nodes.test_identity.add_sync("input_args": [1], "input_kwargs": {})',
    ),
    "partial of a partial": (
        functools.partial(functools.partial(add, 1), y=2),
        'tests.nodes.test_identity.add("input_args": [1], "input_kwargs": {"y": 2})',
    ),
    "partial of a decorated function": (
        functools.partial(decorated, 1),
        'tests.nodes.test_identity.decorated("input_args": [1], "input_kwargs": {})',
    ),
    "partial with a secret": (functools.partial(login, "hunter2-hunter2"), None),
    "partial with a typed value": (
        functools.partial(add, y=PurePosixPath("a")),
        (
            'tests.nodes.test_identity.add("input_args": [], "input_kwargs": {"y": "a"}, '
            '"input_types": {"/input_kwargs/y": "pathlib.PurePosixPath"}, "input_form": "typed")'
        ),
    ),
    "partial with a value that cannot be written": (functools.partial(add, object()), None),
    "partial of a bound method": (
        functools.partial(Step(1).method, 2),
        (
            'tests.nodes.test_identity.Step.method("input_args": [{"size": 1}, 2], "input_kwargs": {}, '
            '"input_types": {"/input_args/0": "tests.nodes.test_identity.Step"}, "input_form": "typed")'
        ),
    ),
    "key": (with_a_key, "key:billing.charge@2"),
    "lambda with a key": (function_node(lambda: 1, key="a/b:c-d_1.2"), "key:a/b:c-d_1.2"),
    "partial with a key": (
        function_node(functools.partial(add, 1), key="add"),
        'key:add("input_args": [1], "input_kwargs": {})',
    ),
    "node class with a key": (WithAKey, "key:greet"),
    "partial of a node class with a key": (
        functools.partial(WithAKey, greeting="Hi"),
        'key:greet("input_args": [], "input_kwargs": {"greeting": "Hi"})',
    ),
    "node class": (Greet, "tests.nodes.test_identity.Greet"),
    "node class with a version": (Versioned, "tests.nodes.test_identity.Versioned@4"),
    "partial of a node class": (
        functools.partial(Greet, greeting="Hi"),
        'tests.nodes.test_identity.Greet("input_args": [], "input_kwargs": {"greeting": "Hi"})',
    ),
    "factory of nodes": (factory, "tests.nodes.test_identity.factory"),
    "the library's broadcast": (rt.broadcast, "railtracks.broadcast"),
    "the library's ask": (rt.ask, "railtracks.ask"),
    "the library's list_runs": (rt.state.list_runs, "railtracks.state.list_runs"),
    "class of the library": (rt.llm.UserMessage, "railtracks.llm.UserMessage"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_key_of_a_node_is_pinned(kind):
    target, key = KEYS[kind]
    assert as_node(target).key == key


STEP = (
    '("input_args": [{"size": 1}], "input_kwargs": {}, "input_types": "tests.nodes.test_identity.Step", '
    '"input_form": "typed")'
)
FORMER_KEYS = {
    "bound method": (Step(1).method, f"tests.nodes.test_identity.Step.method{STEP}"),
    "callable object": (Step(1), f"tests.nodes.test_identity.Step{STEP}"),
    "bound decorated method": (Step(1).node, f"tests.nodes.test_identity.Step.node{STEP}@3"),
    "partial with a typed value": (
        functools.partial(add, y=PurePosixPath("a")),
        (
            'tests.nodes.test_identity.add("input_args": [], "input_kwargs": {"y": "a"}, '
            '"input_types": "pathlib.PurePosixPath", "input_form": "typed")'
        ),
    ),
    "partial with a plain value": (functools.partial(add, 1), None),
    "a key for two nodes": (functools.partial(add, Decimal(1), "1"), None),
    "nothing bound": (add, None),
}


@pytest.mark.parametrize("kind", FORMER_KEYS)
def test_the_key_that_version_3_recorded_is_pinned(kind):
    """None where it was the same, and where the nodes of two different objects had it."""
    target, key = FORMER_KEYS[kind]
    assert as_node(target).former_key == key


def test_objects_that_differ_in_an_attribute_are_different_nodes():
    keys = set()
    for note in (None, "a", ("a",), ["a"]):
        counter = Counting(1)
        if note is not None:
            counter.note = note  # type: ignore[attr-defined]
        keys.add(as_node(counter.method).key)
    assert len(keys) == 4


def test_every_call_of_ask_has_the_same_key():
    """Whatever the callback is: a resumed run may have another one."""

    async def main():
        return await rt.ask("how many?")

    keys = []
    for callback in (lambda question: "3", functools.partial(str.upper)):
        with rt.Session(ask_callback=callback) as session:
            rt.call_sync(main)
        keys += [record.node for record in session.info.records if record.name == "ask"]
    assert keys == ["railtracks.ask"] * 2


def test_the_description_of_ask_is_pinned():
    """Models read it, so it takes part in the identity of every agent that has ``rt.ask`` as a tool."""
    description = """Ask a person, and wait for the answer.

The session's ``ask_callback`` gets the question, and what it returns is the answer. It is a call like any other, on
record as ``ask``: a flow that is resumed has the answer, and does not ask again. The time that people take counts
towards the ``timeout`` of the top-level call.

In a sync node write ``rt.call_sync(rt.ask, question)``. With ``ask_callback=input`` it asks in the terminal, one
question at a time."""
    assert node_docs(rt.ask) == (description, {"question": "For people to read."})


def test_a_version_takes_part_in_the_key_and_a_name_does_not():
    assert function_node(add, name="other").key == as_node(add).key
    assert function_node(add, version="1").key == f"{as_node(add).key}@1"


@pytest.mark.parametrize(
    ("target", "bound"),
    [
        (add, None),
        (Greet, None),
        (wrapper, None),
        (decorated, None),
        (Step(1).method, ((Step(1),), {})),
        (Step(1), ((Step(1),), {})),
        (Methods.of_class, (("tests.nodes.test_identity.Methods",), {})),
        (functools.partial(functools.partial(add, 1), 2, z=3), ((1, 2), {"z": 3})),
        (functools.partial(functools.partial(add, y=1), y=2), ((), {"y": 2})),
        (functools.partial(Step(1).method, 2), ((Step(1), 2), {})),
    ],
)
def test_what_is_bound_to_a_target_comes_as_arguments(target, bound):
    assert bound_arguments(target) == bound


class Client:
    def __init__(self, name, token):
        self.name = name

    def login(self, password, user):
        return user

    @classmethod
    def of_class(cls, api_key):
        return cls

    def __call__(self, user, secret):
        return user


def several(user, *token):
    return user


@pytest.mark.parametrize(
    ("target", "positions"),
    [
        (login, {0}),
        (add, set()),
        (functools.partial(login), {0}),
        (functools.partial(login, "t"), set()),
        (Client, {1}),
        (Client.login, {1}),
        (Client("c", "t").login, {0}),
        (Client.of_class, {0}),
        (Client("c", "t"), {1}),
        (function_node(login), {0}),
        (len, set()),
        (several, {*range(1, MAX_ITEMS)}),
    ],
)
def test_secret_positions_are_those_of_the_arguments_of_a_call(target, positions):
    assert argument_positions(target, is_secret_name) == positions


def test_a_definition_path_is_that_of_the_innermost_function():
    partial = functools.partial(functools.partial(add, 1), 2)
    assert definition_path(partial) == definition_path(add) == "tests.nodes.test_identity.add"


@pytest.mark.parametrize(
    ("target", "secrets"),
    [
        (add, None),
        (functools.partial(add, 1), []),
        (functools.partial(login, "hunter2-hunter2"), ["hunter2-hunter2"]),
        (functools.partial(add, rt.Secret("hunter2-hunter2")), ["hunter2-hunter2"]),
    ],
)
def test_a_node_knows_the_secrets_that_are_bound_to_it(target, secrets):
    node = as_node(target)
    node.key  # noqa: B018 (it finds them)
    assert node.known_secrets == secrets
