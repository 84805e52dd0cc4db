"""Secrets in the values of calls are masked on record, and nodes, callers and subscribers get the real values."""

import functools
import json
from pathlib import Path

import attrs
import pytest

import railtracks as rt
from tests.watched import SECRET, AnAttrs, Login, Watched, login, use


class Received(list):
    def take(self, *args, **kwargs):
        self.append((args, kwargs))
        return args[0] if args else None


async def test_nodes_and_callers_get_the_real_values():
    got = Received()

    async def node(password, *, api_key, config):
        got.take(password, api_key, config, rt.context.get("token"))
        return {"password": password}

    async with rt.Session({"token": SECRET}, run_identifier="run") as session:
        marked, config = rt.Secret(SECRET), {"secret": [SECRET]}
        result = await rt.call(node, SECRET, api_key=marked, config=config)
        assert await rt.call(lambda value: value.value, rt.Secret(SECRET)) == SECRET
    assert got == [((SECRET, marked, {"secret": [SECRET]}, SECRET), {})]
    assert got[0][0][1] is marked
    assert config == {"secret": [SECRET]}
    assert result == {"password": SECRET}
    assert session.info.records[0].args == (SECRET,)
    assert SECRET not in Path(".railtracks/run.json").read_text()


async def test_call_whose_secret_was_masked_runs_again_on_resume():
    got = Received()

    async def fetch(token):
        return got.take(token)

    for resume in (None, "run"):
        async with rt.Session(run_identifier="run", resume=resume):
            assert await rt.call(fetch, SECRET) == SECRET
    assert len(got) == 2


async def test_events_and_broadcasts_carry_the_real_values():
    items = []
    async with rt.Session(broadcast_callback=items.append, save_state=False) as session:
        session.subscribe(lambda event: items.append(event.args), kinds=(rt.state.CallCreated,))
        await rt.call(login, SECRET)
        await rt.broadcast(SECRET)
    assert sorted(items, key=str) == sorted([(SECRET,), SECRET], key=str)


def flat(tokens, *passwords, secret=None):
    return 1


def same(func):
    @functools.wraps(func)
    def run(*args, **kwargs):
        return func(*args, **kwargs)

    return run


class WithDecoratedInit(rt.nodes.Node):
    @same
    def __init__(self, user, api_key):
        pass

    async def invoke(self):
        return 1


@attrs.define
class AttrsNode(rt.nodes.Node):
    user: str
    password: str

    async def invoke(self):
        return 1


class Methods:
    def method(self, user, password):
        return 1

    @classmethod
    def of_class(cls, user, password):
        return 1

    @staticmethod
    def static(user, password):
        return 1

    @rt.function_node
    def node(self, user, password):
        return 1

    def __call__(self, user, password):
        return 1


def two(user, password, /):
    return 1


async def two_async(user, password="x"):
    return 1


TAKERS = {
    "function": two, "async": two_async, "node": rt.function_node(two), "decorated": same(two),
    "twice": same(same(two)), "lambda": lambda user, password: 1, "cached": functools.lru_cache(two),
    "partial": functools.partial(two),
    "partial of a node": functools.partial(rt.function_node(two_async)), "method": Methods().method,
    "classmethod": Methods.of_class, "static": Methods.static, "node as a method": Methods().node, "object": Methods(),
    "class": Login, "attrs class": AttrsNode, "partial of a class": functools.partial(Login),
    "class whose init is decorated": WithDecoratedInit, "partial of a method": functools.partial(Methods().method),
}  # fmt: skip


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS.keys())
async def test_positional_argument_named_as_a_secret_is_masked(taker):
    """A positional argument whose parameter names a secret is masked."""
    async with rt.Session() as session:
        await rt.call(taker, "ada", SECRET)
    assert session.payload()["runs"][0]["edges"][0]["details"]["input_args"] == ["ada", "***"]


async def test_variable_arguments_named_as_secrets_are_masked():
    """The arguments of a variable parameter that names a secret are masked."""
    async with rt.Session() as session:
        await rt.call(flat, "shown", SECRET, f"{SECRET}-2", secret="s")
    details = session.payload()["runs"][0]["edges"][0]["details"]
    assert (details["input_args"], details["input_kwargs"]) == (["shown", "***", "***"], {"secret": "***"})


async def test_positional_secret_that_is_none_is_written_as_none():
    """A positional secret that is None is written as None, as it is for a keyword."""
    async with rt.Session() as session:
        await rt.call(use, 1)
        await rt.call(two, "ada", None)
        await rt.call(two_async, user="ada", password=None)
    _, positional, keyword = (run["edges"][0]["details"] for run in session.payload()["runs"])
    assert positional["input_args"] == ["ada", None]
    assert keyword["input_kwargs"] == {"user": "ada", "password": None}


async def test_secret_name_registered_later_counts_for_positionals():
    """A secret name that is registered later counts for positional arguments too."""

    def pay(card_number):
        return 1

    node = rt.function_node(pay)
    async with rt.Session() as session:
        await rt.call(node, "4111-1111")
        rt.state.register_secret_keys("card_number")
        await rt.call(node, "4222-2222")
    args = [run["edges"][0]["details"]["input_args"] for run in session.payload()["runs"]]
    assert args == [["4111-1111"], ["***"]]


@pytest.mark.parametrize(
    "bound",
    [
        functools.partial(two, "ada", SECRET), functools.partial(two_async, user="ada", password=SECRET),
        functools.partial(functools.partial(two, "ada"), SECRET), functools.partial(use, rt.Secret(SECRET)),
        functools.partial(Login, "ada", SECRET), AnAttrs(SECRET).__eq__,
    ],
)  # fmt: skip
@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_secret_bound_to_a_node_is_masked_in_its_key(bound, durability, tmp_path):
    if bound.__class__ is not functools.partial:
        bound = functools.partial(bound, 1)
    with Watched(tmp_path) as watched:
        async with rt.Session(durability=durability):
            await rt.call(bound)
            watched.look()
        assert watched.shows(SECRET) == []


async def test_nothing_but_secrets_is_masked():
    def node(max_tokens, author, text):
        return {"max_tokens": max_tokens, "author": author, "text": text, "primary_key": 7, "count": 123456}

    async with rt.Session({"password": "test", "pin_token": 123456, "token": object()}) as session:
        result = await rt.call(node, 4096, "Ada", "a test of an object with 12345 parts, a TestCase")
        await rt.call(login, password="short")
        await rt.call(lambda: "a short object")
    assert [record.result for record in rt.state.load_run(session.identifier).records] == [result, 5, "a short object"]
    assert rt.state.load_run(session.identifier).records[0].args == (4096, "Ada", result["text"])


async def test_secrets_of_one_session_are_not_masked_in_another():
    async with rt.Session() as one:
        await rt.call(login, SECRET)
    async with rt.Session() as other:
        await rt.call(lambda: f"what was {SECRET} there")
    assert SECRET not in json.dumps(one.payload())
    assert other.payload()["runs"][0]["edges"][0]["details"]["output"] == f"what was {SECRET} there"
