"""Values under keys that name a secret are never written."""

import enum
import json
from dataclasses import dataclass
from types import MappingProxyType

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.state import ExecutionInfo, register_secret_keys
from railtracks.state._serialization._encoder import encode
from railtracks.state._transitions import RTState

SECRET = "hunter2"


@attrs.define
class AnAttrs:
    user: str
    password: str


@dataclass
class ADataclass:
    user: str
    api_key: str


class Model(pydantic.BaseModel):
    user: str
    accessToken: str


class Key(enum.StrEnum):
    PASSWORD = "password"


class Text(str):
    __slots__ = ()


MASKED = [
    "api_key", "apiKey", "APIKey", "apikey", "API_KEY", "OPENAI_API_KEY", "X-API-Key", "api key", "openaiApiKey",
    "token", "access_token", "refreshToken", "HTTPToken", "bearer_token", "token_2", "password", "Password",
    "db_password", "passwordHash", "PASSWD", "pwd", "passphrase", "secret", "clientSecret", "secrets", "authorization",
    "Authorization", "Proxy-Authorization", "auth", "credentials", "Set-Cookie", "AWS_SECRET_ACCESS_KEY", "private_key",
    "privateKey", "jwt", "connection_string", "encryption_key", "__password__",
]  # fmt: skip
WRITTEN = [
    "max_tokens", "tokens", "tokenizer", "author", "authors", "authority", "key", "keys", "primary_key", "keyboard",
    "monkey", "secretary", "user", "name", "compass", "passage", "apicultural_key", "session", "", "_", "42", "status",
]  # fmt: skip


@pytest.mark.parametrize("key", MASKED)
def test_a_key_that_names_a_secret_is_masked(key):
    assert encode({key: SECRET, "other": 1}) == {key: "***", "other": 1}


@pytest.mark.parametrize("key", WRITTEN)
def test_a_key_that_only_resembles_a_secret_one_is_written(key):
    assert encode({key: SECRET}) == {key: SECRET}


@pytest.mark.parametrize("value", [0, "", False, [SECRET], {"deep": SECRET}, AnAttrs("u", "p"), object()])
def test_whatever_the_value_is_it_is_masked(value):
    assert encode({"token": value}) == {"token": "***"}


def test_a_secret_that_is_none_says_so():
    assert encode({"token": None}) == {"token": None}


HOLDERS = [AnAttrs("u", SECRET), ADataclass("u", SECRET), Model(user="u", accessToken=SECRET), {"password": SECRET}]
wrappers = st.sampled_from(
    [
        lambda v: [v], lambda v: (1, v), lambda v: {"a": v}, lambda v: {7: v}, lambda v: {"$a": v},
        lambda v: MappingProxyType({"a": v}), lambda v: AnAttrs(v, "x"), lambda v: ADataclass(v, "x"),
    ]
)  # fmt: skip


@given(st.sampled_from(HOLDERS), st.lists(wrappers, max_size=90))
def test_a_secret_is_masked_at_any_depth_and_in_any_object(holder, path):
    value = holder
    for wrap in path:
        value = wrap(value)
    assert SECRET not in json.dumps(encode(value))


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_the_other_fields_of_an_object_are_written(holder):
    data = encode(holder)
    assert "***" in data.values()
    assert data.get("user", "u") == "u"


@pytest.mark.parametrize("key", [Key.PASSWORD, Text("password"), b"password"], ids=["enum", "subclass-of-str", "bytes"])
def test_a_key_that_is_some_other_kind_of_text_is_masked_too(key):
    assert SECRET not in json.dumps(encode({key: SECRET}))


def test_a_key_beside_odd_ones_is_masked_too():
    assert encode({"password": SECRET, 1: 2}) == {"$type": "dict", "$items": [["password", "***"], [1, 2]]}


def test_the_repr_of_a_half_made_object_does_not_show_its_secret():
    """A field of the object was never set."""
    half_made = AnAttrs.__new__(AnAttrs)
    half_made.password = SECRET
    assert SECRET not in json.dumps(encode(half_made))


def test_keyword_arguments_are_masked_in_the_document_only(tmp_path):
    """The record of the call still holds their values."""
    state = RTState()
    record = state.created("login", "Tool", ({"token": SECRET},), {"password": SECRET, "user": "u"}, None, 0.0)
    state.succeeded(record, AnAttrs("u", SECRET), 1.0)
    info = ExecutionInfo("s", records=state.snapshot())
    info.save(tmp_path / "state.json")
    text = (tmp_path / "state.json").read_text()
    assert SECRET not in text + info.graph_serialization() + json.dumps(info.payload())
    assert info.payload()["runs"][0]["edges"][0]["details"]["input_kwargs"] == {"password": "***", "user": "u"}
    assert info.answer.password == SECRET
    assert ExecutionInfo.load(tmp_path / "state.json") == info


# ---- names of the user's own


@pytest.mark.parametrize("key", ["card_number", "cardNumber", "CARD-NUMBER", "billing_card_number", "card number 2"])
def test_a_registered_name_is_masked_in_any_spelling(key):
    """Also if the name was seen before it was registered."""
    assert encode({key: "4111"}) == {key: "4111"}
    register_secret_keys("pin", "card_number")
    assert encode({key: "4111", "PIN": "0000"}) == {key: "***", "PIN": "***"}


@pytest.mark.parametrize("key", ["card", "number", "card_serial_number", "number_card", "pinned"])
def test_a_registered_name_does_not_mask_what_only_resembles_it(key):
    register_secret_keys("pin", "card_number")
    assert encode({key: 1}) == {key: 1}


def test_a_registered_name_may_be_in_any_script():
    register_secret_keys("пароль")
    assert encode({"пароль": SECRET}) == {"пароль": "***"}
