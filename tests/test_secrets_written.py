"""Secrets stay out of everything a session writes: state, journal, log file and log records.

The property plants a secret by one road, lets it out by others, and then looks through every byte that was written, and
that stood in a file at any time meanwhile, for the secret in any form that it can be read from.
"""

import base64
import contextlib
import dataclasses
import functools
import json
import tempfile
import urllib.parse
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks._context_variable import current
from railtracks.state import FileStore, SQLiteStore
from tests import virtual
from tests.conftest import BACKENDS
from tests.effort import examples
from tests.watched import SECRET, AnAttrs, Login, Watched, login, use

pytestmark = pytest.mark.either_backend


@dataclasses.dataclass
class ADataclass:
    api_key: object


class Model(pydantic.BaseModel):
    accessToken: object


ANamedTuple = namedtuple("ANamedTuple", "user token")  # noqa: PYI024 (as old code writes them)


HOLDERS: list[Callable[[Any], Any]] = [
    lambda s: {"password": s}, lambda s: {"X-Api-Key": [s]}, lambda s: {"credentials": {"user": "u", "password": s}},
    AnAttrs, ADataclass, lambda s: Model(accessToken=s), lambda s: ANamedTuple("u", s), rt.Secret,
    lambda s: rt.Secret({"deep": [s]}), lambda s: {7: s, "secret": s},
]  # fmt: skip


WRAPS = [
    lambda v: {"a": v}, lambda v: [1, v], lambda v: (v, "x"), lambda v: {7: v}, lambda v: AnAttrs("unused-1", v),
    lambda v: ANamedTuple(v, "unused-2"),
]  # fmt: skip


@rt.function_node
def login_in_a_thread(user, api_key):
    return user


class Client:
    async def login(self, user, password):
        return user

    async def __call__(self, user, password):
        return user


def put(key, value):
    rt.context.put(key, value)
    return key


async def put_in_node(key, value):
    await rt.call(lambda: put(key, value))


ROADS = {
    "positional": lambda s, holder: rt.call(login, s),
    "positional, in a thread": lambda s, holder: rt.call(login_in_a_thread, "u", s),
    "keyword": lambda s, holder: rt.call(login, password=s),
    "beside a keyword": lambda s, holder: rt.call(login_in_a_thread, api_key=s, user="u"),
    "class": lambda s, holder: rt.call(Login, "u", s),
    "class, keyword": lambda s, holder: rt.call(Login, access_token=s, user="u"),
    "method": lambda s, holder: rt.call(Client().login, "u", s),
    "object": lambda s, holder: rt.call(Client(), "u", s),
    "partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, "u"), s),
    "bound by a partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, "u", s)),
    "keyword of a partial": lambda s, holder: rt.call(functools.partial(login_in_a_thread, api_key=s), "u"),
    "batch": lambda s, holder: rt.call_batch(login, [s]),
    "nested": lambda s, holder: rt.call(use, holder),
    "nested, keyword": lambda s, holder: rt.call(use, value=1, more=holder),
    "result": lambda s, holder: rt.call(lambda: holder),
    "result before the arguments show it": lambda s, holder: rt.call(use, s, holder),
    "context": lambda s, holder: put_in_node("settings", holder),
    "context, by its key": lambda s, holder: put_in_node("password", s),
}


class Odd:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"<Odd {self.value!r}>"


def class_of(name):
    return type("".join(filter(str.isprintable, name)) or "Empty", (), {"__repr__": lambda self: "<it>"})


def encoded(secret, encode=base64.b64encode, before=1):
    return encode(b"x" * before + as_bytes(secret) + b"yz").decode()


def halves(secret):
    text = text_of(secret)
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def attributes(values):
    """Describe the running call, as an agent does."""
    frame = current.get()
    frame.coordinator.set_attributes(frame.record, values)


async def log_it(secret):
    with contextlib.suppress(ValueError):
        await rt.call(lambda: fail(ValueError(f"in the log: {secret}")))


def text_of(secret):
    return secret if isinstance(secret, str) else repr(secret)


def as_bytes(secret):
    return secret.encode() if isinstance(secret, str) else secret


def fail(error, cause=None, note=None):
    if note is not None:
        error.add_note(note)
    raise error from cause


WAYS = {
    "itself": lambda s: rt.call(lambda: s),
    "in a text": lambda s: rt.call(lambda: f"<{text_of(s)}>"),
    "quoted": lambda s: rt.call(lambda: f"it is {s!r}"),
    "as json": lambda s: rt.call(lambda: json.dumps({"k": text_of(s)})),
    "in a list": lambda s: rt.call(lambda: [1, (s,), {"k": {s}}]),
    "as a key": lambda s: rt.call(lambda: {s: 1, 2: s}),
    "as bytes": lambda s: rt.call(lambda: b"x" + as_bytes(s) + b"y"),
    "in a repr": lambda s: rt.call(lambda: Odd(s)),
    "in a repr of a dict": lambda s: rt.call(lambda: Odd({"k": [s]})),
    "as an argument": lambda s: rt.call(use, s, [s]),
    "as a keyword": lambda s: rt.call(use, value=f"{s}!", more={"k": s}),
    "message": lambda s: rt.call(lambda: fail(ValueError(f"bad: {s}"))),
    "quoted message": lambda s: rt.call(lambda: fail(KeyError(s))),
    "cause": lambda s: rt.call(lambda: fail(ValueError("x"), cause=ValueError(s))),
    "note": lambda s: rt.call(lambda: fail(ValueError("x"), note=f"note: {s}")),
    "group": lambda s: rt.call(lambda: fail(ExceptionGroup("g", [ValueError(repr(s))]))),
    "context": lambda s: put_in_node("note", f"<{text_of(s)}>"),
    "key of the context": lambda s: put_in_node(f"of {text_of(s)}", 1),
    "broadcast": lambda s: rt.broadcast(s),
    "name of a node": lambda s: rt.call(rt.function_node(use, name=f"use {text_of(s)}"), 1),
    "name of a node that fails": lambda s: rt.call(rt.function_node(fail, name=f"fail {s!r}"), ValueError("x")),
    "version of a node": lambda s: rt.call(rt.function_node(use, version=text_of(s)), 1),
    "name of a class": lambda s: rt.call(lambda: [class_of(f"{text_of(s)}C")(), (class_of(text_of(s)),)]),
    "class of an exception": lambda s: rt.call(lambda: fail(type(f"E{text_of(s)}", (ValueError,), {})("x"))),
    "class of a dataclass": lambda s: rt.call(
        use, dataclasses.make_dataclass("x", ["a"], namespace={"__qualname__": f"D.{text_of(s)}"})(1)
    ),
    "base64": lambda s: rt.call(lambda: [encoded(s, before=before) for before in range(3)]),
    "base64 for URLs in a message": lambda s: rt.call(lambda: fail(ValueError(encoded(s, base64.urlsafe_b64encode)))),
    "base64 in lines": lambda s: rt.call(lambda: encoded(s, base64.encodebytes, 70)),
    "quoted for URLs": lambda s: rt.call(lambda: f"https://a.example/{urllib.parse.quote(as_bytes(s), safe='')}"),
    "quoted for forms": lambda s: rt.call(use, f"a=b&c={urllib.parse.quote_plus(as_bytes(s))}"),
    "split over lines": lambda s: rt.call(lambda: "\n  ".join(halves(s))),
    "split over items": lambda s: rt.call(lambda: halves(s)),
    "attribute": lambda s: rt.call(lambda: attributes({"note": f"<{text_of(s)}>", text_of(s): 1})),
    "log": log_it,
    "at the cut of a repr": lambda s: rt.call(lambda: Odd("." * 940 + f"{text_of(s)}{'.' * 2_000}")),
    "at the cut of bytes": lambda s: rt.call(lambda: b"." * 950 + as_bytes(s) + b"." * 1_100_000),
    "bound": lambda s: rt.call(functools.partial(use, text_of(s))),
}


@attrs.frozen
class Plan:
    secret: object
    road: str
    wraps: tuple
    holder: int
    ways: tuple
    durability: str = "async"
    store: str = "file"
    backend: str = "asyncio"

    def held(self):
        value = HOLDERS[self.holder](self.secret)
        for wrap in self.wraps:
            value = WRAPS[wrap](value)
        return value


letters = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=18)


marked_texts = st.tuples(letters | st.text("'\"\\\n\t/+=é🔑 ", max_size=8), letters).map("Qz7-".join)


secret_texts = marked_texts.map(lambda text: text if len(text) > 7 else f"{text}wxyz")


secret_bytes = st.binary(max_size=20).map(lambda data: b"Qz7-" + data + b"wxyz") | secret_texts.map(str.encode)


plans = st.builds(
    Plan,
    secret=secret_texts | secret_bytes,
    road=st.sampled_from([*ROADS, "initial context", "initial context, by its key", "context outside calls"]),
    wraps=st.lists(st.integers(0, len(WRAPS) - 1), max_size=9).map(tuple),
    holder=st.integers(0, len(HOLDERS) - 1),
    ways=st.lists(st.sampled_from(list(WAYS)), min_size=1, max_size=6).map(tuple),
    durability=st.sampled_from(["async", "sync", "exit"]),
    store=st.sampled_from(["file", "file", "sqlite"]),
    backend=st.sampled_from(BACKENDS),
)


async def play(plan, watched, store, resume):
    """One session: the secret comes to be known, then it gets out in all ways, the callbacks included."""
    secret = plan.secret
    known = []

    def callback(_):
        if known:
            raise ValueError(f"callback with {secret!r}")

    def payload_callback(payload):
        watched.seen.append(json.dumps(payload).encode())
        raise RuntimeError(secret)

    context = {"region": "eu"}
    if plan.road == "initial context":
        context["settings"] = plan.held()
    if plan.road == "initial context, by its key":
        context["password"] = secret
    session = rt.Session(
        context, store=store, durability=plan.durability, log_file=watched.folder / "log.txt",
        logging_setting="VERBOSE", payload_callback=payload_callback, broadcast_callback=callback,
        run_identifier="run", resume=resume,
    )  # fmt: skip

    async def agent():
        if plan.road in ROADS:
            await ROADS[plan.road](secret, plan.held())
        known.append(True)
        for way in plan.ways:
            with contextlib.suppress(Exception):
                await WAYS[way](secret)
            watched.look()
        return [f"all in all {text_of(secret)}", secret]

    async with session:
        session.subscribe(callback)
        if plan.road == "context outside calls":
            rt.context.put("settings", plan.held())
        await rt.call(agent)
        watched.seen.append(session.info.graph_serialization().encode())


def leaks(plan):
    """Return the forms of the secret that can be read somewhere after the plan was played and resumed."""
    with tempfile.TemporaryDirectory() as folder, Watched(folder) as watched:
        path = watched.folder / "state"
        store = FileStore(path) if plan.store == "file" else SQLiteStore(path / "runs.sqlite")
        for resume in (None, "run"):
            virtual.run(plan.backend, play, plan, watched, store, resume)
        shown = watched.shows(plan.secret)
        if plan.store == "sqlite":
            store.close()
        return shown


@settings(examples(15), suppress_health_check=[HealthCheck.too_slow])
@given(plans)
@example(Plan("Qz7-'\"\\é\n", "positional", (), 0, tuple(WAYS)))
@example(Plan(b"Qz7-\xff\x00'\"\n", "keyword", (), 0, tuple(WAYS), "sync", "sqlite"))
def test_no_written_byte_shows_a_secret(plan):
    """No byte that is written shows a secret that the session has seen."""
    assert leaks(plan) == []


@pytest.mark.parametrize("durability", ["async", "exit"])
@pytest.mark.parametrize("road", [*ROADS, "initial context", "initial context, by its key", "context outside calls"])
def test_secret_is_known_by_whichever_road_it_comes(road, durability):
    """By whichever road it comes, a secret is known from then on."""
    assert leaks(Plan(SECRET, road, (0, 1), 0, ("in a text", "message"), durability)) == []


@pytest.mark.parametrize("holder", range(len(HOLDERS)))
@pytest.mark.parametrize("road", ["nested", "result", "context", "initial context"])
def test_secret_is_known_in_whichever_holder_it_comes(road, holder):
    """In whichever holder it comes, a secret is known from then on."""
    assert leaks(Plan(SECRET, road, (0, 4), holder, ("in a text",))) == []


@pytest.mark.parametrize("secret", [SECRET, "Qz7-'\"\\é🔑\n", b"Qz7-bytes", b"Qz7-\xff\x00\xc3"], ids=ascii)
@pytest.mark.parametrize("way", WAYS)
def test_secret_is_masked_in_whichever_way_it_gets_out(way, secret):
    assert leaks(Plan(secret, "positional", (), 0, (way,))) == []


@pytest.mark.slow
def test_the_search_would_find_what_is_not_masked():
    for secret in (SECRET, "Qz7-'\"\\é\n", b"Qz7-\xff\x00'"):
        for way in set(WAYS) - {"broadcast"}:
            assert leaks(Plan(secret, "none", (), 0, (way,))) != [], way


async def test_unsaved_session_keeps_secrets_out_of_log_and_payload(tmp_path):
    """Secrets of a session that is not saved are kept out of the log and the payload too."""
    payloads = []

    def payload_callback(payload):
        payloads.append(payload)
        raise RuntimeError(SECRET)

    async def agent():
        await rt.call(login, SECRET)
        await rt.call(login, password=f"{SECRET}-2")
        return [SECRET, f"{SECRET}-2"]

    with Watched(tmp_path) as watched:
        async with rt.Session(save_state=False, log_file="log.txt", payload_callback=payload_callback) as session:
            await rt.call(agent)
        assert watched.shows(SECRET) == []
    assert "RuntimeError" in Path("log.txt").read_text()
    assert SECRET not in json.dumps(payloads) + session.info.graph_serialization()


async def test_info_saved_by_hand_shows_no_secret():
    async with rt.Session(save_state=False) as session:
        await rt.call(login, SECRET)
    session.info.save("copy.json")
    assert SECRET not in Path("copy.json").read_text()
