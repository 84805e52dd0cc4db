"""Secrets by value: what is learnt, where it is masked, and what is left alone."""

import copy
import dataclasses
import json
import pickle
from collections import deque, namedtuple
from types import MappingProxyType
from typing import Any

import attrs
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state._redaction._redactor import MASK, MAX_KNOWN, Redactor
from railtracks.state._serialization._encoder import Encoder, encode
from railtracks.state._serialization._record_text import inputs_text, result_text
from railtracks.state._serialization._secret_search import register_secrets

SECRET = "Qz7-hunter2"


@attrs.define
class AnAttrs:
    password: object


@dataclasses.dataclass
class ADataclass:
    password: object


class Model(pydantic.BaseModel):
    password: object


ANamedTuple = namedtuple("ANamedTuple", "user password")  # noqa: PYI024 (as old code writes them)


def in_secrets(value):
    secrets = Redactor()
    Encoder(secrets).encode(value)
    return secrets


def knows(secrets, text=SECRET):
    return secrets.redact(f"a {text} b") == f"a {MASK} b"


# ---- rt.Secret


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda s: f"{s!r:>20}", lambda s: repr([s])])
def test_a_secret_does_not_show_its_value(show):
    assert SECRET not in show(rt.Secret(SECRET))
    assert MASK in show(rt.Secret(SECRET))


def test_what_a_secret_raises_does_not_show_its_value():
    for misuse in (lambda s: f"{s:>20}", lambda s: s + "x", lambda s: s.strip(), lambda s: s["x"], lambda s: float(s)):
        with pytest.raises((TypeError, AttributeError)) as caught:
            misuse(rt.Secret(SECRET))
        assert SECRET not in str(caught.value)


def test_a_secret_is_equal_to_one_of_the_same_value_only():
    assert rt.Secret(SECRET) == rt.Secret(SECRET)
    assert hash(rt.Secret(SECRET)) == hash(rt.Secret(SECRET))
    assert rt.Secret(SECRET) != rt.Secret("other")
    assert rt.Secret(SECRET) != SECRET


@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
def test_a_secret_can_be_copied_and_pickled(copied):
    assert copied(rt.Secret(SECRET)) == rt.Secret(SECRET)


def test_a_secret_gives_its_value_back_and_nothing_else():
    value = object()
    assert rt.Secret[object](value).value is value
    assert not hasattr(rt.Secret(SECRET), "__dict__")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: v, lambda v: [v], lambda v: {v}, lambda v: {v: 1}, lambda v: {"k": v}, lambda v: deque([v]),
        AnAttrs, ADataclass, lambda v: Model(password=v), lambda v: ANamedTuple("u", v), rt.Secret,
        lambda v: attrs.asdict(AnAttrs(v)), lambda v: dataclasses.asdict(ADataclass(v)),
        lambda v: Model(password=v).model_dump(), lambda v: MappingProxyType({"k": v}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), [SECRET], {"k": SECRET}, AnAttrs(SECRET)])
def test_a_marked_value_is_masked_wherever_it_stands(wrap, value):
    """The value is known from then on."""
    if isinstance(value, list | dict | AnAttrs):
        value = SECRET if type(wrap(0)) in (set, dict) else value  # those have no hash
    secrets = Redactor()
    assert SECRET not in json.dumps(Encoder(secrets).encode(wrap(rt.Secret(value))))
    assert knows(secrets)


def test_a_hook_that_gives_a_secret_out_does_not_leak_it():
    @attrs.define
    class Client:
        header: rt.Secret

    rt.state.register_hooks(Client, attrs.asdict, lambda data: Client(**data))
    assert SECRET not in json.dumps(encode(Client(rt.Secret(SECRET))))


# ---- what is learnt


HOLDERS = {
    "dict": {"password": SECRET},
    "bytes": {"password": SECRET.encode()},
    "bytes key": {b"password": SECRET},
    "attrs": AnAttrs(SECRET),
    "dataclass": ADataclass(SECRET),
    "pydantic": Model(password=SECRET),
    "namedtuple": ANamedTuple("u", SECRET),
    "marked": rt.Secret(SECRET),
    "list under a secret key": {"tokens_and_passwords": [SECRET]},
    "secret key under a secret key": {"credentials": {"user": "u", "password": SECRET}},
    "attrs under a secret key": {"auth": AnAttrs(SECRET)},
    "attrs under a secret mark": rt.Secret(AnAttrs(SECRET)),
    "mark in a mark": rt.Secret(rt.Secret(SECRET)),
    "mark as a key": {rt.Secret(SECRET): 1},
}

holders = pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())


@holders
def test_what_is_masked_in_what_is_encoded_is_known_from_then_on(holder):
    assert knows(in_secrets([{"deep": (holder,)}]))


@holders
def test_secrets_of_the_initial_context_are_known_at_once(holder):
    """They are those that would be masked when the context is written."""
    secrets = Redactor()
    register_secrets({"one": [{"deep": (holder,)}]}, secrets)
    assert knows(secrets)


@pytest.mark.parametrize("depth", [7, 20, 60])
def test_a_deep_secret_of_the_initial_context_is_known(depth):
    value: dict[str, Any] = {"password": SECRET}
    for _ in range(depth):
        value = {"below": value}
    secrets = Redactor()
    register_secrets(value, secrets)
    assert knows(secrets)


class Broken:
    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize("bad", [Broken(), AnAttrs.__new__(AnAttrs)], ids=["raises", "half made"])
def test_a_broken_part_of_the_context_does_not_hide_the_others(bad):
    secrets = Redactor()
    register_secrets({"a": bad, "b": {"password": SECRET}}, secrets)
    assert knows(secrets)


def test_an_initial_context_that_contains_itself_is_no_problem():
    context: dict[str, Any] = {"password": SECRET}
    context["self"] = context["token"] = context
    secrets = Redactor()
    register_secrets(context, secrets)
    assert knows(secrets)


BOTH_ORDERS = [
    [SECRET, {"password": SECRET}],
    {"note": SECRET, "password": SECRET},
    {"note": [SECRET], "more": {"password": SECRET}},
    {f"key of {SECRET}": 1, "password": SECRET},
    [rt.Secret(SECRET), SECRET],
]


@pytest.mark.parametrize("value", BOTH_ORDERS)
def test_a_secret_named_at_the_end_is_masked_before_it_as_well(value):
    assert SECRET not in result_text(value, Redactor())


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((SECRET, {"password": SECRET}), {}),
        ((SECRET,), {"password": SECRET}),
        ((), {"a": SECRET, "b": AnAttrs(SECRET)}),
    ],
)
def test_the_order_of_arguments_does_not_matter(args, kwargs):
    assert SECRET not in inputs_text(args, kwargs, Redactor())


def test_a_secret_that_is_seen_again_is_forgotten_later():
    """Those that were not seen again are forgotten first."""
    secrets = Redactor()
    secrets.add(SECRET)
    for n in range(MAX_KNOWN - 1):
        secrets.add(f"another-{n}")
    secrets.add(SECRET)
    secrets.add("one more than it remembers")
    assert knows(secrets)
    assert not knows(secrets, "another-0")


# ---- what is not learnt


@pytest.mark.parametrize("value", ["test", "", "12345", "*****", None, True, MASK])
def test_what_is_too_short_is_masked_by_its_key_alone(value):
    secrets = in_secrets({"password": value})
    text = f"a test of {value!r} and {value}, *** and ******"
    assert secrets.redact(text) == text


def test_the_type_of_a_secret_value_is_not_a_secret():
    for value in (object(), AnAttrs("x"), pydantic.SecretStr("x"), ValueError("x"), 2**2000, float("nan"), {1: 2}):
        secrets = in_secrets({"token": value})
        text = "an object, a ValueError, a pydantic.types.SecretStr, a float, a dict, an int"
        assert secrets.redact(text) == text, value


def test_blanks_are_not_a_secret():
    text = "def f():\n        return 1\n"
    assert in_secrets({"password": " " * 8}).redact(text) == text


def test_numbers_and_flags_beside_a_secret_stay():
    secrets = in_secrets({"pin_token": 123456})
    value = {"count": 123456, "ratio": 1.5, "max_tokens": 4096, "author": "Ada", "ok": True, "tokens": [1, 2]}
    assert Encoder(secrets).encode(value) == value


def test_the_keys_of_what_is_masked_are_not_secrets():
    secrets = in_secrets({"credentials": {"username": {"region": SECRET}}})
    assert secrets.redact("username, region") == "username, region"


# ---- forms in which texts quote a secret


TEXTS = [
    SECRET, "Qz7'single quote", 'Qz7"double quote', "Qz7'both\"quotes", "Qz7\\back\\slash", "Qz7-ünïcödé",
    "Qz7\nlines\t",
    "Qz7-\U0001f511-emoji",
]  # fmt: skip

QUOTED = {
    "as it is": str,
    "repr": repr,
    "repr of a text with both quotes": lambda s: repr(f"'{s}\""),
    "repr in a repr": lambda s: repr([repr(s)]),
    "json": json.dumps,
    "json in unicode": lambda s: json.dumps(s, ensure_ascii=False),
    "repr of json": lambda s: repr(json.dumps({"k": s})),
    "repr of bytes": lambda s: repr(s.encode()),
}


@pytest.mark.parametrize("quoted", QUOTED.values(), ids=QUOTED.keys())
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_known_secret_is_masked_in_all_its_quoted_forms(text, quoted):
    secrets = in_secrets({"password": text})
    inside = quoted(text).strip("b'\"")
    assert inside not in secrets.redact(f"<<{quoted(text)}>>")


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_known_text_is_masked_in_bytes_too(text):
    secrets = in_secrets({"password": text})
    data = json.dumps(Encoder(secrets).encode(b"a " + text.encode() + b" b"))
    assert "$base64" not in data
    assert "Qz7" not in data


RAW = bytes(range(240, 256)) + b"Qz7\x00\xff"


def test_known_bytes_are_masked_in_bytes_and_in_reprs():
    """These bytes cannot be decoded as text."""
    secrets = in_secrets({"encryption_key": RAW})
    data = json.dumps(Encoder(secrets).encode([RAW, b"in " + RAW, bytearray(RAW), AReprOf(RAW)]))
    assert "$base64" not in data
    assert "Qz7" not in data


class AReprOf:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"<client of {self.value!r}>"


@given(st.text(min_size=6, max_size=40).map(lambda text: f"Q{text}z"), st.text(), st.text())
@example("Qaaaaaaz", "Qaaaaaa", "aaaaaaz")
def test_a_known_secret_is_removed_and_the_rest_stays(secret, before, after):
    secrets = Redactor()
    secrets.add(secret)
    hidden = secrets.redact(before + secret + after)
    assert secret not in hidden
    if secret not in before + after and not any(marker in before + secret + after for marker in ("sk-", "://", "gh")):
        assert hidden == (before + secret + after).replace(secret, MASK).replace(repr(secret)[1:-1], MASK)


@given(st.lists(st.text("ab", min_size=6, max_size=12), min_size=1, max_size=5), st.text("ab", max_size=60))
def test_of_secrets_that_contain_each_other_none_stays(known, text):
    secrets = Redactor()
    for secret in known:
        secrets.add(secret)
    hidden = secrets.redact(text)
    assert not any(secret in hidden for secret in known)
    assert secrets.redact(hidden) == hidden
