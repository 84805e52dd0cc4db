"""The names on record do not depend on private modules."""

from __future__ import annotations

import importlib
import inspect
import zlib

import attrs
import pytest

import railtracks as rt
from railtracks import testing
from railtracks._public_path import _NAMESPACES, public_path
from railtracks.state._serialization import _former_names as former
from railtracks.state._serialization._encoder import encode
from railtracks.state._serialization._former_text import FORMER_LIMIT, NAME_GROWTH, former_types

PUBLIC = [
    (namespace, name)
    for namespace in _NAMESPACES
    for name in importlib.import_module(namespace).__all__
    if inspect.isclass(getattr(importlib.import_module(namespace), name))
    or inspect.isfunction(getattr(importlib.import_module(namespace), name))
]


@pytest.mark.parametrize(("namespace", "name"), PUBLIC)
def test_a_public_name_is_recorded_without_private_modules(namespace, name):
    path = public_path(getattr(importlib.import_module(namespace), name))
    home, _, last = path.rpartition(".")
    assert not any(part.startswith("_") for part in path.split("."))
    assert getattr(importlib.import_module(home), last) is getattr(importlib.import_module(namespace), name)


def test_a_users_class_is_recorded_by_module_and_name():
    @attrs.frozen
    class Message:
        pass

    assert public_path(Message) == f"{__name__}.{Message.__qualname__}"
    assert public_path(dict) == "dict"


@pytest.mark.parametrize("name", ["PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"])
def test_a_path_has_one_name_on_every_python(name):
    """Python 3.13 alone defines it in a private module, and version 3 recorded that."""
    cls = type(name, (), {"__module__": "pathlib._local"})
    assert public_path(cls) == f"pathlib.{name}"
    assert former.translate_types(f"pathlib._local.{name} tuple") == f"pathlib.{name} tuple"


def test_a_users_class_need_not_be_hashable():
    class Comparable(type):
        def __eq__(cls, other):
            return True

    class Point(metaclass=Comparable):
        pass

    class Wrong(ValueError, metaclass=Comparable):
        pass

    with pytest.raises(TypeError, match="unhashable"):
        hash(Point)
    assert encode(Point())["$type"] == f"{__name__}.{Point.__qualname__}"
    assert encode(Wrong())["$type"] == f"{__name__}.{Wrong.__qualname__}"


def test_a_private_class_with_a_public_name_keeps_its_own_path():
    Session = type("Session", (), {"__module__": "railtracks._elsewhere"})
    assert public_path(Session) == "railtracks._elsewhere.Session"


async def test_the_librarys_own_nodes_have_documented_keys():
    @rt.function_node
    async def asks():
        return await rt.ask("Why?"), await rt.call(rt.ask, "How?")

    async with rt.Session(ask_callback=lambda question: question) as session:
        await rt.call(asks)
    assert [record.node for record in session.info.records[1:]] == ["railtracks.ask"] * 3


def test_former_names_are_translated_back_and_forth():
    for before, now in former._CURRENT.items():
        assert former.translate_types(f"tuple {before} {before}X") == f"tuple {now} {before}X"
        assert former.translate_node(f"{before}@2") == f"{now}@2"
        assert former.former_node(f"{now}@2") == f"{before}@2"
        assert former.translate_values([{"$type": before, "x": [before]}]) == [{"$type": now, "x": [before]}]
        assert len(before) - len(now) <= NAME_GROWTH


@pytest.mark.parametrize(
    ("before", "thing"),
    [
        ("railtracks.testing.faults.Fault", testing.Fault),
        ("railtracks.testing.invariants.Violation", testing.Violation),
        ("railtracks.testing.invariants.check", testing.check),
        ("railtracks.testing.invariants.invariant", testing.invariant),
        ("railtracks.testing.models.ScriptError", testing.ScriptError),
        ("railtracks.testing.models.ScriptedModel", testing.ScriptedModel),
        ("railtracks.testing.models.tool_call", testing.tool_call),
    ],
)
def test_names_recorded_with_a_public_submodule_are_translated(before, thing):
    assert former.translate_types(before) == former.translate_node(before) == public_path(thing)


def test_types_bound_to_a_node_are_translated_in_its_key():
    key = 'flows.greet("input_args": ["railtracks.llm._model.Usage"], "input_types": "{} list", "input_form": "typed")'
    assert former.translate_node(key.format("railtracks.llm._model.Usage")) == key.format("railtracks.llm.Usage")
    assert former.former_node(key.format("railtracks.llm.Usage")) == key.format("railtracks.llm._model.Usage")


@pytest.mark.parametrize("count", [20, 25, 26, 27, 28, 30, 35, 45, 100])
def test_long_lists_of_types_are_found_in_records_of_version_2(count):
    """Whether a list is cut, and where, is decided by the names that version 2 wrote."""
    before = ["railtracks.llm._messages.UserMessage", "tuple"] * count
    now = ["railtracks.llm.UserMessage", "tuple"] * count
    written = " ".join(before)
    if len(written) > FORMER_LIMIT:
        checksum = zlib.crc32(written.encode())
        written = f"{written[:FORMER_LIMIT]}... {len(before)} in all, {checksum:08x}"
    assert former_types(now) == former.translate_types(written)


def test_methods_of_public_classes_are_known_by_their_class():
    assert public_path(rt.ExecutionInfo.load) == "railtracks.ExecutionInfo.load"
    assert public_path(rt.ExecutionInfo.save) == "railtracks.ExecutionInfo.save"
    node = rt.function_node(rt.ExecutionInfo.load)
    key = 'railtracks.{}("input_args": ["railtracks.{}"], "input_kwargs": {{}})'
    assert node.key == key.format("ExecutionInfo.load", "ExecutionInfo")
    before = key.format("state._info.ExecutionInfo.load", "state._info.ExecutionInfo")
    assert former.translate_node(before) == node.key
    assert former.former_node(node.key) == before
