"""Attributes as text: most are flat, and written without an encoder, which writes the others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._record_text import object_text

SECRET = "Qz7-hunter2-of-the-model"

names = st.sampled_from(["a.b", "a", "value", "name", "$a.b", "api.key", "gen_ai.request.model", f"a.{SECRET}", "ö.b"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "ö", SECRET, f"a {SECRET}"])
values = scalars | st.lists(scalars, max_size=2) | st.tuples(scalars) | st.dictionaries(names, scalars, max_size=1)


@given(st.dictionaries(names, values, max_size=4))
def test_attributes_are_written_as_the_encoder_writes_them(members):
    redactor = Redactor()
    redactor.add(SECRET)
    assert object_text(members, redactor) == json.dumps(Encoder(redactor).encode(members))
    assert SECRET not in object_text(members, redactor)


@pytest.mark.parametrize("length", [999, 2_000, 2_000_000])
def test_long_attributes_are_cut_as_the_encoder_cuts_them(length):
    members = {f"a.{number}": "x" * length for number in range(3)}
    assert object_text(members, Redactor()) == json.dumps(Encoder(Redactor(), None).encode(members))
