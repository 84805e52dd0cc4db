"""Dependencies: parameters of nodes that the session fills in."""

from __future__ import annotations

import pickle
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ContextError, NodeCreationError
from railtracks.executors._pickling import dumps, loads
from railtracks.testing import ScriptedModel, check, simulate, tool_call


class Database:
    def __init__(self, name="real"):
        self.name = name


class Fake(Database):
    pass


happened: list[str] = []


@pytest.fixture(autouse=True)
def nothing_happened():
    happened.clear()


async def find(user: str, db: Database = rt.Depends("db"), limit: int = 3) -> str:
    """Find a user.

    Args:
        user: The name.
    """
    return f"{user} in {db.name}, {limit}"


def find_sync(user: str, *, db: Database = rt.Depends("db")) -> str:
    return f"{user} in {db.name}"


class Find(rt.nodes.Node[str]):
    def __init__(self, user: str, db: Database = rt.Depends("db")) -> None:
        self.text = f"{user} in {db.name}"

    async def invoke(self) -> str:
        return self.text


class Finder:
    def __call__(self, user: str, db: Database = rt.Depends("db")) -> str:
        return f"{user} in {db.name}"

    @rt.function_node
    async def method(self, user: str, db: Database = rt.Depends("db")) -> str:
        return f"{user} in {db.name}"


find_node = rt.function_node(find)
NODES = [
    find_sync, Find, Finder(), Finder().method, rt.function_node(find_sync), partial(find_sync), partial(Find),
    find_node.options(retries=1),
]  # fmt: skip


@pytest.mark.parametrize("node", NODES, ids=range(len(NODES)))
async def test_the_context_fills_in_parameters_of_any_node(node):
    async with rt.Session(context={"db": Database()}):
        assert (await rt.call(node, "Ada")).startswith("Ada in real")


async def test_what_is_passed_is_used():
    async with rt.Session(context={"db": Database()}):
        assert await rt.call(find, "Ada", db=Fake("fake")) == "Ada in fake, 3"
        assert await rt.call(find, "Ada", Fake("fake"), 5) == "Ada in fake, 5"
        assert await rt.call(partial(find, db=Fake("bound")), "Ada", limit=1) == "Ada in bound, 1"
    assert await find_node("Ada", Fake("direct")) == "Ada in direct, 3"


async def test_dependencies_are_not_on_record():
    async with rt.Session(context={"db": Database()}, name="record") as session:
        await rt.call(find, "Ada", limit=2)
    [record] = session.info.records
    assert (record.args, dict(record.kwargs)) == (("Ada",), {"limit": 2})
    assert "Database" not in Path(".railtracks/record.json").read_text()


# ---- what is missing or wrong


async def test_what_the_context_lacks_is_named():
    async with rt.Session():
        with pytest.raises(ContextError, match=r"find needs 'db' \(.*\.Database\) in the context .*={'db': \.\.\."):
            await rt.call(find, "Ada")
    with pytest.raises(ContextError, match=r"find was called outside of a session.*pass it: find\(\.\.\., db=\.\.\.\)"):
        await find_node("Ada")


@pytest.mark.parametrize("value", ["a text", None, 3])
async def test_a_value_of_another_type_is_refused(value):
    async with rt.Session(context={"db": value}):
        with pytest.raises(ContextError, match=r"the parameter 'db' of find was filled .*; expected .*Database"):
            await rt.call(find, "Ada")


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("hint", "value"),
    [(Database | None, None), (Named, Database()), (Any, 3), (dict[str, int], {}), (float, 1), (list["nothing"], [])],  # type: ignore[name-defined] # noqa: F821
)
async def test_other_annotations_take_what_fits(hint, value):
    async def node(db=rt.Depends("db")):
        return db

    node.__annotations__["db"] = hint
    async with rt.Session(context={"db": value}):
        assert await rt.call(node) is value


def positional(db=rt.Depends("db"), /):
    return db


async def make_async():
    return Database("async")


NO_SOURCE: Any = 3


def needs_more(url: str):
    return Database(url)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rt.function_node(positional), "the parameter 'db' of positional is positional-only"),
        (lambda: rt.Depends(NO_SOURCE), r"rt\.Depends\(3, key=None\) is not allowed; write rt\.Depends\('db'\)"),
        (lambda: rt.Depends(""), "is not allowed"),
        (lambda: rt.Depends("db", key="db"), "is not allowed"),
        (lambda: rt.function_node(lambda db=rt.Depends(make_async): db), "make_async, which is async, and <lambda> is"),
        (lambda: rt.function_node(lambda db=rt.Depends(needs_more): db), "has the parameters url; give them defaults"),
    ],
)
def test_dependencies_that_cannot_be_filled_in_are_refused(make, text):
    with pytest.raises(NodeCreationError, match=text):
        make()


# ---- functions


async def open_async():
    happened.append("open")
    try:
        yield Database("opened")
    finally:
        await anyio.sleep(1)
        happened.append("closed")


def open_sync():
    happened.append("open")
    yield Database("opened")
    happened.append("closed")


def make():
    return Database("made")


def nested(inner: Database = rt.Depends(open_sync)):
    return Database(f"nested {inner.name}")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (make, "made"),
        (make_async, "async"),
        (Database, "real"),
        (open_async, "opened"),
        (open_sync, "opened"),
        (contextmanager(open_sync), "opened"),
        (asynccontextmanager(open_async), "opened"),
        (nested, "nested opened"),
    ],
)
async def test_a_function_makes_the_value(function, name):
    async def node(db: Database = rt.Depends(function)) -> str:
        happened.append("run")
        return db.name

    async with rt.Session():
        assert await rt.call(node) == name
    assert happened in (["run"], ["open", "run", "closed"])


@pytest.mark.parametrize("function", [make, open_sync, contextmanager(open_sync), nested])
async def test_a_sync_function_makes_it_for_a_sync_node(function):
    def node(db: Database = rt.Depends(function)) -> str:
        return db.name

    async with rt.Session():
        assert await rt.call(node) in ("made", "opened", "nested opened")


@pytest.mark.parametrize("ending", [ValueError("no"), None])
async def test_what_was_opened_is_closed_when_the_call_ends(ending):
    async def node(db: Database = rt.Depends(open_async)) -> None:
        if ending is not None:
            raise ending
        await anyio.sleep_forever()

    async with rt.Session():
        with anyio.move_on_after(5), pytest.raises((ValueError, anyio.get_cancelled_exc_class())) as caught:
            await rt.call(node)
    assert caught.value is ending or ending is None
    assert happened == ["open", "closed"] if ending else ["open"]


async def test_the_context_has_values_in_place_of_a_function():
    async def node(db: Database = rt.Depends(open_async, key="db")) -> str:
        return db.name

    async with rt.Session(context={"db": Fake("fake")}):
        assert await rt.call(node) == "fake"
    assert happened == []
    async with rt.Session():
        assert await rt.call(node) == "opened"


# ---- where they work


async def test_models_do_not_see_dependencies():
    model = ScriptedModel([tool_call("find", user="Ada"), tool_call("find", user="Ada", db="mine"), "done"])
    agent = rt.agent_node(llm=model, tool_nodes=[find])
    async with rt.Session(context={"db": Database()}):
        response = await rt.call(agent, "Find Ada")
    assert [*model.tools[0][0].parameters["properties"]] == ["user", "limit"]
    texts = [message.content for message in response.message_history if message.role == "tool"]
    assert texts[0] == "Ada in real, 3"
    assert 'unknown argument "db"' in texts[1]


async def test_an_agent_raises_what_the_context_lacks():
    agent = rt.agent_node(llm=ScriptedModel([tool_call("find", user="Ada"), "never"]), tool_nodes=[find])
    async with rt.Session():
        with pytest.raises(ContextError, match="find needs 'db'"):
            await rt.call(agent, "Find Ada")


async def test_a_system_message_has_dependencies():
    def instructions(db: Database = rt.Depends("db")) -> str:
        return f"You use {db.name}."

    model = ScriptedModel(["Hi"])
    async with rt.Session(context={"db": Database()}):
        await rt.call(rt.agent_node(llm=model, system_message=instructions), "Hello")
    assert model.calls[0][0].content == "You use real."


async def test_calls_with_dependencies_are_cached_and_resumed():
    calls = []

    @rt.function_node(cache=True)
    async def node(user: str, db: Database = rt.Depends("db"), limit: int = 1) -> str:
        calls.append(db.name)
        return f"{user} in {db.name}"

    async with rt.Session(run_identifier="run", context={"db": Database()}):
        assert await rt.call(node, "Ada") == await rt.call(node, user="Ada", limit=1) == "Ada in real"
    assert calls == ["real"]
    async with rt.Session(run_identifier="run", if_exists="resume", context={"db": Database("another")}):
        assert await rt.call(node, "Ada") == "Ada in real"
    assert calls == ["real"]


@pytest.mark.parametrize(("cache", "warnings"), [(True, 1), (rt.Cache(key=lambda name: name), 0)])
async def test_a_cached_call_that_depends_on_the_context_warns(cache, warnings, caplog):
    @rt.function_node(cache=cache)
    async def greet(name: str, language: str = rt.Depends("language")) -> str:
        return f"{language} {name}"

    async with rt.Session(context={"language": "fr"}):
        assert [await rt.call(greet, name) for name in ("Ada", "Ada", "Bob")] == ["fr Ada", "fr Ada", "fr Bob"]
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ["greet has cache=, and reads 'language' from the context" in text for text in texts] == [True] * warnings


def test_nodes_with_dependencies_are_pickled():
    assert pickle.loads(pickle.dumps(find_node)) == find_node
    node = pickle.loads(pickle.dumps(rt.function_node(find_sync, name="other")))
    with rt.Session(context={"db": Database()}):
        assert rt.call_sync(node, "Ada") == "Ada in real"


def test_local_nodes_are_sent_with_their_dependencies():
    def local(user: str, db: Database = rt.Depends(open_sync)) -> str:
        return f"{user} in {db.name}"

    for node in (rt.function_node(local), Finder().method):
        sent = loads(dumps(node))
        with rt.Session(context={"db": Database("opened")}):
            assert rt.call_sync(sent, "Ada") == "Ada in opened"


def test_a_simulated_run_has_them():
    outcome = simulate(rt.Flow("Find", find, context={"db": Database()}), "Ada", seed=2)
    check(outcome)
    assert outcome.result == "Ada in real, 3"


def test_dependencies_show_what_they_are():
    shown = [repr(rt.Depends("db")), repr(rt.Depends(make)), repr(rt.Depends(make, key="db"))]
    assert shown == ["rt.Depends('db')", "rt.Depends(make)", "rt.Depends(make, key='db')"]
