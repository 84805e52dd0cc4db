"""Other names for functions and classes in records."""

from __future__ import annotations

import pytest

from railtracks.state._records import CallRecord, Change, Form
from railtracks.state._serialization._renaming import rename_in_key, rename_in_record


def rename(path):
    return f"app.{path.removeprefix('__main__.')}" if path.startswith("__main__.") else path


BOUND = '"input_args": [1], "input_kwargs": {}, "input_types":'
FORM = '"input_form": "typed"'


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("__main__.f", "app.f"),
        ("__main__.f@2", "app.f@2"),
        ("lib.f@__main__.x", "lib.f@__main__.x"),
        ("lib.__main__.f", "lib.__main__.f"),
        (
            '__main__.f("input_args": ["__main__.f"], "input_kwargs": {"a": ")"})@(2)',
            'app.f("input_args": ["__main__.f"], "input_kwargs": {"a": ")"})@(2)',
        ),
        (
            '__main__.C.f("input_args": ["__main__.C", "__main__.C"], "input_kwargs": {})',
            'app.C.f("input_args": ["app.C", "__main__.C"], "input_kwargs": {})',
        ),
        (
            f'f({BOUND} {{"/input_args/0": "__main__.C"}}, {FORM})@3',
            f'f({BOUND} {{"/input_args/0": "app.C"}}, {FORM})@3',
        ),
        (f'f({BOUND} "tuple __main__.C", {FORM})', f'f({BOUND} "tuple app.C", {FORM})'),
    ],
)
def test_keys(key, expected):
    assert rename_in_key(key, rename) == expected


ENTRY = '{{"type": "{0}.Box", "state": {{"generic": "{0}.Box[list[{0}.Item]]", "attributes": {{"a": "__main__.a"}}}}'
STATE = ENTRY + ', "types": {{"/attributes/a": "{0}.Text"}}}}'


@pytest.mark.parametrize(
    "text",
    [
        '"output": "__main__.x"',
        '"output": {{"$type": "{0}.C", "$value": [{{"$type": "{0}.D", "$repr": "x"}}]}}, "output_form": "opaque"',
        f'"output": [1], "output_types": {{{{"": "tuple", "/0": {STATE}}}}}, "output_form": "typed"',
        '"output": [1], "output_types": "tuple {0}.C other.__main__.D", "output_form": "typed"',
    ],
)
def test_texts_of_a_record(text):
    record = CallRecord(0, None, 0, "f", "Tool", (), {}, 0, 0.0, node="__main__.f")
    record.output = text.format("__main__")
    record.inputs = '"input_args": [1], "input_kwargs": {"a": "__main__.x"}'
    types = '{"": "__main__.C"}'
    record.changes = [Change(0, "a", '["__main__.x"]', Form.TYPED, types), Change(1, "b", None, Form.PLAIN)]
    rename_in_record(record, rename, "__main__")
    assert (record.node, record.output) == ("app.f", text.format("app"))
    assert record.inputs == '"input_args": [1], "input_kwargs": {"a": "__main__.x"}'
    assert record.changes[0] == Change(0, "a", '["__main__.x"]', Form.TYPED, '{"": "app.C"}')
