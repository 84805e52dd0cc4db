"""Values of the standard library that are on record whole, and those that are not, which the form says."""

from __future__ import annotations

import io
import re
import sys
import types
import zoneinfo
from dataclasses import dataclass
from typing import Any

import pytest

from railtracks.state import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import form_in, is_lossy, parse_members, result_text
from railtracks.state._serialization._restoring import restore
from railtracks.state._serialization._standard_types import find_standard
from tests.durability.kinds import TWINS
from tests.state.seeing import seen


@dataclass
class Held:
    given: Any


NAMES = [name for name, twins in TWINS.items() if not type(twins[0]).__module__.startswith("tests")]
NESTED = {
    "list": lambda value: [value, {"a": value}],
    "tuple": lambda value: (value, (value,)),
    "value": lambda value: {"a": value},
    "key": lambda value: {value: 1, (value,): 2, "a": 3},
    "set": lambda value: {value},
    "field": Held,
    "namespace": lambda value: types.SimpleNamespace(given=value),
    "slice": lambda value: slice(value, None, [value]),
}


def brought_back(value: Any, annotation: Any) -> Any:
    text = result_text(value, Redactor())
    assert not is_lossy(form_in(text))
    members = parse_members(text)
    restored = restore(members["output"], members.get("output_types"), annotation)
    assert result_text(restored, Redactor()) == text
    return restored


@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_comes_back_wherever_it_stands(name, nested):
    for value in TWINS[name]:
        if nested in ("key", "set") and type(value).__hash__ is None:
            continue
        whole = NESTED[nested](value)
        assert seen(brought_back(whole, Held)) == seen(whole)


@pytest.mark.parametrize(
    "value",
    [
        zoneinfo.ZoneInfo.no_cache("Europe/Berlin"),
        object(),
        io.BytesIO(b"x"),
        iter([1]),
        {"a": 1}.values(),
        len,
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_all_on_record_is_lossy(value):
    for each in (value, [value], {"a": value}, Held(value), types.SimpleNamespace(a=value), slice(value)):
        assert form_in(result_text(each, Redactor())) is Form.OPAQUE


def test_a_pattern_that_prints_when_it_is_compiled_is_lossy():
    assert form_in(result_text(re.compile("a", re.DEBUG), Redactor())) is Form.OPAQUE


def test_a_secret_in_a_namespace_is_masked():
    text = result_text(types.SimpleNamespace(user="ann", password="correct horse"), Redactor())
    assert form_in(text) is Form.MASKED
    assert "horse" not in text


def test_an_enum_of_a_module_that_is_loaded_needs_no_annotation():
    import plistlib

    assert brought_back(plistlib.FMT_XML, None) is plistlib.FMT_XML
    assert find_standard("plistlib.UID") is None


@pytest.mark.parametrize(
    "path", ["os.system", "this.s", "antigravity.x", "tests.state.seeing.Color", "enum.Enum.x", "io.X"]
)
def test_no_other_name_on_record_is_a_type(path):
    assert find_standard(path) is None
    assert "this" not in sys.modules
    assert "antigravity" not in sys.modules
