"""A node passes for the function that it wraps: for ``inspect``, ``pickle``, ``copy``, ``abc``."""

import abc
import asyncio
import copy
import functools
import inspect
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import MethodType
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import railtracks as rt


@rt.function_node
async def fetch(url: str) -> str:
    return "real " + url


@rt.function_node
def square(n: int) -> int:
    return n * n


@rt.function_node
async def page(url: str) -> str:
    return "<" + await rt.call(fetch, url) + ">"


class Adder:
    """Pickled by its value."""

    def __init__(self, step):
        self.step = step

    async def __call__(self, n: int) -> int:
        return n + self.step

    @rt.function_node
    async def add(self, n: int) -> int:
        return n + self.step

    @rt.function_node
    def add_in_a_thread(self, n: int) -> int:
        return n + self.step

    @rt.function_node
    @classmethod
    async def make(cls, step: int) -> int:
        return cls(step).step

    @rt.function_node
    @staticmethod
    async def double(n: int) -> int:
        return 2 * n

    async def plain(self, n: int) -> int:
        return n - self.step


async def pair(left, right):
    return left, right


adder = Adder(3)
ASYNC = {
    "function": fetch,
    "partial": rt.function_node(functools.partial(pair, 1)),
    "partial of a partial": rt.function_node(functools.partial(functools.partial(pair, 1), right=2)),
    "callable object": rt.function_node(adder),
    "bound method": rt.function_node(adder.plain),
    "node in a class": Adder.add,
    "node of an object": adder.add,
    "class method": Adder.make,
    "mock": rt.function_node(AsyncMock()),
}
SYNC = {
    "function": square,
    "lambda": rt.function_node(lambda: 1),
    "builtin": rt.function_node(len),
    "class": rt.function_node(Adder),
    "partial": rt.function_node(functools.partial(max, 1)),
    "node of an object": adder.add_in_a_thread,
    "mock": rt.function_node(Mock()),
}


@pytest.mark.parametrize("kind", ASYNC)
def test_an_async_node_is_a_coroutine_function(kind):
    assert inspect.iscoroutinefunction(ASYNC[kind])
    assert not inspect.isgeneratorfunction(ASYNC[kind])
    if sys.version_info < (3, 14):  # deprecated then
        assert asyncio.iscoroutinefunction(ASYNC[kind])


@pytest.mark.parametrize("kind", SYNC)
def test_a_sync_node_is_not_a_coroutine_function(kind):
    assert not inspect.iscoroutinefunction(SYNC[kind])


@pytest.mark.parametrize("kind", ["function", "node in a class", "node of an object", "callable object"])
def test_the_signature_is_that_of_the_function(kind):
    nodes: dict[str, Any] = ASYNC
    names = {"function": ["url"], "node in a class": ["self", "n"]}.get(kind, ["n"])
    assert list(inspect.signature(nodes[kind]).parameters) == names


# ---- attributes


def test_attributes_are_those_of_the_function():
    @rt.function_node
    @functools.lru_cache
    def cached(n):
        return n

    cached(1)
    cached(1)
    assert cached.cache_info().hits == 1  # type: ignore[attr-defined]

    def marked():
        """Do nothing."""

    vars(marked)["pytestmark"] = [pytest.mark.slow]
    node = rt.function_node(marked, name="other")
    assert node.pytestmark is vars(marked)["pytestmark"]  # type: ignore[attr-defined]
    assert (node.name, vars(node)["__name__"], node.__doc__) == ("other", "marked", "Do nothing.")


def test_an_abstract_node_is_abstract_in_either_order():
    class Loader(abc.ABC):
        @rt.function_node
        @abc.abstractmethod
        async def load(self): ...

        @abc.abstractmethod
        @rt.function_node
        async def store(self): ...

    with pytest.raises(TypeError, match=r"load.*store"):
        Loader()  # type: ignore[abstract]


def test_what_neither_has_is_an_error_that_names_the_node():
    with pytest.raises(AttributeError, match="the node fetch has no attribute 'cache_inf0'"):
        fetch.cache_inf0  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(fetch, "cache_clear")


# ---- pickling and copying


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nodes_are_pickled_by_name(protocol):
    for node in (fetch, square):
        assert pickle.loads(pickle.dumps(node, protocol)) is node


async def test_nodes_of_objects_are_pickled_with_them():
    for node in (adder.add, adder.add_in_a_thread):
        again = pickle.loads(pickle.dumps(node))
        assert await rt.call(again, 4) == 7
        assert again.name == node.name
    assert await rt.call(pickle.loads(pickle.dumps(Adder.make)), 4) == 4


async def test_static_nodes_are_pickled_with_their_class():
    for node in (Adder.double, adder.double, rt.function_node(Adder.double, name="other")):
        again = pickle.loads(pickle.dumps(node))
        assert (again, again.name) == (node, node.name)
        assert await rt.call(again, 4) == 8


def test_nodes_of_one_object_are_equal_as_its_methods_are():
    other = Adder(adder.step)
    for get in (lambda each: each.add, lambda each: each.make, lambda each: each.double):
        assert get(adder) == get(adder)
        assert hash(get(adder)) == hash(get(adder))
    assert adder.make == Adder.make
    assert adder.add != other.add
    assert adder.add != adder.add_in_a_thread
    assert adder.add != rt.function_node(adder.add, name="other")
    assert adder.add != adder.add.func
    assert len({adder.add, adder.add, other.add, fetch, square}) == 4
    assert fetch != rt.function_node(fetch, version="2")


class Basket:
    """A store that a flow has in its context."""

    def __init__(self):
        self.items: list[int] = []

    @rt.function_node
    def add(self, item: int) -> int:
        self.items.append(item)
        return len(self.items)

    def __call__(self, item: int) -> int:
        return self.add(item)


@rt.function_node
async def fill():
    return [await rt.call(rt.context.get("add"), 1), len(rt.context.get("basket").items)]


@pytest.mark.parametrize(
    "bind",
    [
        lambda basket: basket.add,
        rt.function_node,
        lambda basket: rt.function_node(functools.partial(basket.add)),
        lambda basket: rt.function_node(basket.add, name="add", version="2"),
    ],
    ids=["method", "object", "partial", "options"],
)
async def test_runs_of_a_flow_share_no_object_of_a_bound_node(bind):
    """The deep copy of a node belongs to the deep copy of its object."""
    basket = Basket()
    node = bind(basket)
    flow = rt.Flow("fill", fill, context={"add": node, "basket": basket})
    assert [await flow.ainvoke(), await flow.ainvoke()] == [[1, 1], [1, 1]]
    assert basket.items == []
    again = copy.deepcopy(node)
    assert (again.name, again.version) == (node.name, node.version)


def test_a_deep_copy_of_what_is_bound_to_no_object_is_the_node():
    for node in (fetch, Adder.make, Adder.double, rt.function_node(len)):
        assert copy.deepcopy(node) is node


def plain(n):
    return n + 1


class Greet(rt.nodes.Node[str]):
    def __init__(self, name: str):
        self.greeted = name

    async def invoke(self) -> str:
        return f"Hello, {self.greeted}!"


async def test_nodes_of_functions_are_pickled_with_their_options():
    node = rt.function_node(plain, name="other", version="2", memo=False, ignore=("n",), context_changes="rerun")
    again = pickle.loads(pickle.dumps(node))
    assert (again.func, again.name, again.version, again.memo) == (plain, "other", "2", False)
    assert (again.ignore, again.context_changes, again.key) == (("n",), "rerun", node.key)
    assert await rt.call(again, 1) == 2


async def test_nodes_of_nodes_are_pickled_with_their_options():
    node = rt.function_node(square, name="other", version="2", memo=False)
    again = pickle.loads(pickle.dumps(node))
    assert (again.func, again.name, again.memo, again.key) == (square.func, "other", False, node.key)
    assert await rt.call(again, 3) == 9


async def test_flows_are_pickled():
    flows: list[Any] = [
        (rt.Flow("Page", page, timeout=9, context={"a": 1}), "x", "<real x>"),
        (rt.Flow("Greet", Greet), "Ada", "Hello, Ada!"),
        (rt.Flow("Sum", adder.add), 1, 4),
    ]
    for flow, argument, result in flows:
        again = pickle.loads(pickle.dumps(flow))
        assert await again.ainvoke(argument) == result
        assert again.equality_hash() == flow.equality_hash()
        assert again.entry_point.key == flow.entry_point.key
    assert pickle.loads(pickle.dumps(rt.Flow("Page", page))).entry_point is page


def double(owner):
    return 2 * owner.factor


class Aliased:
    factor = 3

    @rt.function_node
    def plain(self):
        return self.factor

    other = rt.function_node(plain, name="other", version="2", memo=False)
    doubled = rt.function_node(double, version="3")

    def method(self):
        return self.factor + 1

    @rt.function_node
    def __mangled(self):
        return self.factor + 2

    def mangled(self):
        return self.__mangled


@pytest.mark.parametrize("name", ["plain", "other", "doubled", "mangled"])
async def test_nodes_of_methods_stay_the_nodes_that_they_are(name):
    owner = Aliased()
    node = owner.mangled() if name == "mangled" else getattr(owner, name)
    again = pickle.loads(pickle.dumps(node))
    assert (again.name, again.version, again.memo, again.key) == (node.name, node.version, node.memo, node.key)
    assert await rt.call(again) == await rt.call(node)


async def test_nodes_that_were_made_of_methods_keep_their_options():
    owner = Aliased()
    for func in (owner.method, owner.plain):
        node = rt.function_node(func, name="special", version="9")
        again = pickle.loads(pickle.dumps(node))
        assert (again.name, again.version) == ("special", "9")
        assert await rt.call(again) == await rt.call(node)


def test_a_node_of_a_method_under_no_name_says_why():
    node = rt.function_node(MethodType(plain, Aliased()), name="lone")
    with pytest.raises(pickle.PicklingError, match="the node lone cannot be pickled, because Aliased has no attribute"):
        pickle.dumps(node)


def test_a_node_in_a_function_says_why_it_cannot_be_pickled():
    @rt.function_node
    def inner(): ...

    with pytest.raises(pickle.PicklingError, match=r"the node inner cannot be pickled.*top level of a module"):
        pickle.dumps(inner)
    assert copy.copy(inner) is inner
    assert copy.deepcopy({"node": inner})["node"] is inner


def test_processes_run_nodes():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(square, [2, 3])) == [4, 9]


async def test_a_snapshot_is_pickled_whatever_it_holds():
    async with rt.Session(name="mine") as session:
        await rt.call(lambda value: value, value=object())
        with pytest.raises(KeyError):
            await rt.call({"a": 1}.__getitem__, "missing")
    info = session.info
    again = pickle.loads(pickle.dumps(info))
    assert again == info
    assert [record.name for record in again.records] == [record.name for record in info.records]
    assert copy.deepcopy(info) == copy.copy(info) == info


def errors():
    suspended = rt.RunSuspended("run", [rt.exceptions.Question("q1", "Ship?")], ["carrier"])
    timeout = rt.exceptions.GlobalTimeOutError(2.5, "too long", ["fetch, line 1 of a.py"])
    special = {
        "RunSuspended": suspended,
        "GlobalTimeOutError": timeout,
        "NodeTimeOutError": rt.exceptions.NodeTimeOutError(2.5, "too long", ["fetch, line 1 of a.py"]),
        "LimitExceededError": rt.exceptions.LimitExceededError("api", "full"),
        "RemoteTraceback": rt.exceptions.RemoteTraceback("Traceback (most recent call last): ..."),
    }
    special["NodeInvocationError"] = rt.exceptions.NodeInvocationError("it failed", ["try again"], fatal=True)
    special["LLMError"] = rt.exceptions.LLMError("nothing", ["a history"])
    return [
        special.get(name) or getattr(rt.exceptions, name)("it failed", ["a note"]) for name in rt.exceptions.__all__
    ]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy"])
def test_errors_keep_what_they_have_with_their_notes(error, how):
    error = pickle.loads(pickle.dumps(error))  # not to change the parameter
    error.add_note("a later note")
    ways = {"pickle": lambda each: pickle.loads(pickle.dumps(each)), "copy": copy.copy, "deepcopy": copy.deepcopy}
    again = ways[how](error)
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert (again.args, str(again)) == (error.args, str(error))
    assert again.__notes__[-1] == "a later note"


# ---- a flow as a node


async def test_a_flow_is_called_as_a_nested_run(backend):
    flow = rt.Flow("Page", page)

    @rt.function_node
    async def pages(urls):
        return [await rt.call(flow, urls[0]), *await rt.call_batch(flow, urls[1:])]

    async with rt.Session() as session:
        assert await rt.call(pages, ["a", "b", "c"]) == ["<real a>", "<real b>", "<real c>"]
    called = [record for record in session.info.records if record.name == "Page" and record.node_type == "Other"]
    assert len(called) >= 3
    stored = rt.state.list_runs(flow="Page")
    assert len(stored) == 3


def test_a_flow_is_called_in_synchronous_code():
    with rt.Session():
        assert rt.call_sync(rt.Flow("Page", page), "a") == "<real a>"


async def test_a_flow_that_is_called_is_not_run_again():
    runs: list[Any] = []

    @rt.function_node
    async def pay(amount: int) -> int:
        runs.append(amount)
        return amount

    @rt.function_node
    async def order(amount: int) -> int:
        paid = await rt.call(rt.Flow("Pay", pay), amount)
        if len(runs) == 1:
            runs.append("failed")
            raise OSError("down")
        return paid

    flow = rt.Flow("Order", order, run_identifier="order", if_exists="resume")
    with pytest.raises(OSError, match="down"):
        await flow.ainvoke(5)
    assert await flow.ainvoke(5) == 5
    assert runs == [5, "failed"]
