"""Everything that can be called as a node, and what is said about what cannot."""

import functools
import gc
import inspect
import operator
import threading
import weakref
from typing import Any

import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from railtracks.nodes import FunctionNode, Node, function_node
from railtracks.nodes._resolve import as_node


async def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def add_sync(x: int, y: int = 1) -> int:
    """Add in a thread."""
    return x + y


class Sync:
    def __call__(self, x):
        return x + 1


class Async:
    async def __call__(self, x):
        return x + 1


class Methods:
    def __init__(self, step=1):
        self.step = step

    def plain(self, x):
        return x + self.step

    async def plain_async(self, x):
        return x + self.step

    @classmethod
    def of_class(cls, x):
        return x + cls().step

    @classmethod
    async def of_class_async(cls, x):
        return x + cls().step

    @staticmethod
    def static(x):
        return x + 1

    @staticmethod
    async def static_async(x):
        return x + 1


@functools.wraps(add)
def wrapper_without_await(x):
    return add(x)


TARGETS: dict[str, Any] = {
    "async": add,
    "sync": add_sync,
    "lambda": lambda x: x + 1,
    "lambda giving a coroutine": lambda x: add(x),
    "sync wrapper of an async function": wrapper_without_await,
    "builtin": (1).__add__,
    "builtin function": operator.index,
    "class": int,
    "partial": functools.partial(add_sync, y=1),
    "partial of an async one": functools.partial(add, y=1),
    "partial of a partial": functools.partial(functools.partial(add, y=5), y=1),
    "partial of a callable": functools.partial(Async()),
    "bound method": Methods().plain,
    "async bound method": Methods().plain_async,
    "class method": Methods.of_class,
    "async class method": Methods.of_class_async,
    "static method": Methods.static,
    "async static method": Methods.static_async,
    "callable": Sync(),
    "async callable": Async(),
}
ASYNC = {
    "async", "partial of an async one", "partial of a partial", "partial of a callable", "async bound method",
    "async class method", "async static method", "async callable",
}  # fmt: skip


@pytest.mark.parametrize("kind", TARGETS)
async def test_call_takes_it_plain_and_as_a_node(kind):
    target = TARGETS[kind]
    expected = 1 if kind in ("builtin function", "class") else 2
    async with rt.Session():
        assert await rt.call(target, 1) == await rt.call(function_node(target), 1) == expected


@pytest.mark.parametrize("kind", TARGETS)
def test_async_functions_run_in_the_task_of_their_caller(kind):
    """Other functions run in a thread."""
    assert function_node(TARGETS[kind]).is_async == (kind in ASYNC)


async def test_sync_nodes_run_in_another_thread_and_async_ones_do_not():
    async def here():
        return threading.get_ident()

    async with rt.Session():
        assert await rt.call(here) == threading.get_ident()
        assert await rt.call(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (add, "add"), (functools.partial(add), "add"), (Async(), "Async"), (functools.partial(Sync()), "Sync"),
        (len, "len"), (Methods().plain, "plain"), (Methods.of_class, "of_class"), (int, "int"), (lambda: 1, "<lambda>"),
    ],
)  # fmt: skip
def test_the_name_of_a_node_is_the_functions_own(target, name):
    assert function_node(target).name == name


def test_the_three_ways_to_write_it_are_one():
    for node in (function_node(add), function_node()(add), function_node(name=None)(add)):
        assert isinstance(node, FunctionNode)
        assert (node.func, node.name, node.node_type, node.abandon_on_cancel) == (add, "add", "Tool", True)


async def test_a_name_of_its_own_stands_in_the_record():
    node = function_node(name="Addition", abandon_on_cancel=False)(add_sync)
    async with rt.Session() as session:
        await rt.call(node, 1)
    assert session.info.name == node.name == "Addition"
    assert not node.abandon_on_cancel


def test_a_node_can_be_renamed_and_is_not_wrapped_twice():
    node = function_node(function_node(add, name="one"), name="two")
    assert (node.func, node.name) == (add, "two")
    assert function_node(node).name == "two"


async def test_a_node_is_still_the_plain_function():
    assert function_node(add_sync)(1, y=2) == 3
    assert await function_node(add)(1, y=2) == 3


@pytest.mark.parametrize("func", [add, add_sync])
def test_a_node_keeps_what_the_function_says_about_itself(func):
    node = function_node(func)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(node, attribute) == getattr(func, attribute)
    assert node.__wrapped__ is func  # type: ignore[attr-defined]
    assert inspect.signature(node) == inspect.signature(func)


# ---- in a class body


class Decorated:
    def __init__(self, step):
        self.step = step

    @function_node
    async def plain(self, x):
        return x + self.step

    @function_node(name="slow", abandon_on_cancel=False)
    def in_thread(self, x):
        return x + self.step

    @function_node
    @classmethod
    async def inner_class(cls, x):
        return cls, x

    @classmethod
    @function_node
    async def outer_class(cls, x):
        return cls, x

    @function_node
    @staticmethod
    async def inner_static(x):
        return x

    @staticmethod
    @function_node
    async def outer_static(x):
        return x


class Derived(Decorated):
    pass


async def test_decorated_methods_bind_like_methods():
    owner = Decorated(10)
    async with rt.Session() as session:
        assert await rt.call(owner.plain, 1) == await rt.call(Decorated.plain, owner, 1) == 11
        assert await rt.call(owner.in_thread, 1) == 11
        of_class: Any = (
            Derived.inner_class,
            Derived(0).inner_class,
            Derived.outer_class,
            Derived(0).outer_class,
        )
        for method in of_class:
            assert await rt.call(method, 1) == (Derived, 1)
        static: Any = (Derived.inner_static, Derived(0).inner_static, Derived.outer_static, owner.outer_static)
        for method in static:
            assert await rt.call(method, 1) == 1
    names = [record.name for record in session.info.records]
    assert names == ["plain", "plain", "slow", *["inner_class"] * 2, *["outer_class"] * 2, *["inner_static"] * 2,
                     *["outer_static"] * 2]  # fmt: skip


async def test_decorated_methods_are_still_plain_methods():
    owner = Decorated(10)
    assert owner.in_thread(1) == 11
    assert await owner.plain(1) == 11
    inner_class: Any = Derived.inner_class  # to a type checker it takes the class, too
    assert await inner_class(1) == (Derived, 1)


def test_a_bound_node_keeps_its_options():
    bound = Decorated(1).in_thread
    assert (bound.name, bound.abandon_on_cancel, bound.is_async) == ("slow", False, False)


# ---- classes


class Greet(Node[str]):
    def __init__(self, who, greeting="Hello"):
        self.text = f"{greeting}, {who}!"

    async def invoke(self):
        return self.text


class GreetSync(Greet):
    def invoke(self):
        return f"{self.text} {threading.get_ident() != MAIN}"

    @classmethod
    def name(cls):
        return "Greeter"

    @classmethod
    def type(cls):
        return "Agent"


MAIN = threading.get_ident()


def greet_factory(who):
    return Greet(who)


def greet_sync_factory(who):
    return GreetSync(who)


@pytest.mark.parametrize(
    ("target", "result", "name"),
    [
        (Greet, "Hello, Ada!", "Greet"),
        (GreetSync, "Hello, Ada! True", "Greeter"),
        (functools.partial(Greet, greeting="Hi"), "Hi, Ada!", "Greet"),
        (functools.partial(functools.partial(GreetSync), greeting="Hi"), "Hi, Ada! True", "Greeter"),
        (greet_factory, "Hello, Ada!", "greet_factory"),
        (greet_sync_factory, "Hello, Ada! True", "greet_sync_factory"),
        (lambda who: Greet(who), "Hello, Ada!", "<lambda>"),
        (function_node(greet_factory, name="made"), "Hello, Ada!", "made"),
    ],
)
async def test_a_class_node_or_a_factory_of_one_is_made_and_invoked(target, result, name):
    async with rt.Session() as session:
        assert await rt.call(target, "Ada") == result
    assert session.info.name == name


async def test_the_kind_of_a_node_stands_in_its_record():
    async with rt.Session() as session:
        for target in (add, Greet, GreetSync, functools.partial(GreetSync)):
            await rt.call(target, 1)
    assert [record.node_type for record in session.info.records] == ["Tool", "Other", "Agent", "Agent"]


async def test_each_call_of_a_class_node_makes_a_new_instance():
    class Count(Node[int]):
        def __init__(self):
            self.n = 0

        async def invoke(self):
            self.n += 1
            return self.n

    async with rt.Session():
        assert [await rt.call(Count), await rt.call(Count)] == [1, 1]


async def test_what_init_raises_is_the_failure_of_the_call():
    error = ValueError("init")

    class Broken(Node[int]):
        def __init__(self):
            raise error

        async def invoke(self):
            return 1

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="init") as caught:
            await rt.call(Broken)
    assert caught.value is error is session.info.answer.exception


def test_a_class_that_was_made_on_the_fly_is_not_kept_for_ever():
    class Passing(Node[int]):
        async def invoke(self):
            return 1

    as_node(Passing)
    kept = weakref.ref(Passing)
    del Passing
    gc.collect()
    assert kept() is None


# ---- what is not a node


def generator():
    yield 1


async def async_generator():
    yield 1


class GeneratorCall:
    def __call__(self):
        yield 1


class WithoutInvoke(Node[int]):
    pass


@pytest.mark.parametrize("take", [as_node, function_node])
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (generator, "generator is a generator function.*return"),
        (async_generator, "async_generator is an async generator function.*return"),
        (functools.partial(generator), "generator is a generator function"),
        (GeneratorCall(), "GeneratorCall is a generator function"),
        (5, "5 .*a function"),
        ("add", "'add' .*a function"),
    ],
)
def test_what_cannot_be_a_node_is_refused_with_what_to_write(take, target, says):
    with pytest.raises(NodeCreationError, match=says):
        take(target)


def test_none_is_not_a_node():
    with pytest.raises(NodeCreationError, match=r"None is not a node.*a function"):
        as_node(None)


def test_a_coroutine_is_refused_and_closed():
    """The error shows the line to write."""
    coroutine = add(1)
    with pytest.raises(NodeCreationError, match=r"write `rt\.call\(add, \.\.\.\)`"):
        as_node(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_coroutine_passed_to_function_node_is_recognised():
    coroutine = add(1)
    try:
        with pytest.raises(NodeCreationError, match="coroutine"):
            function_node(coroutine)  # type: ignore[call-overload]
    finally:
        coroutine.close()


def test_an_instance_of_a_node_is_refused():
    """The error shows the line to write."""
    with pytest.raises(NodeCreationError, match=r"instance of Greet; write `rt\.call\(Greet, \.\.\.\)`"):
        as_node(Greet("Ada"))


@pytest.mark.parametrize("target", [WithoutInvoke, functools.partial(WithoutInvoke)])  # type: ignore[abstract]
def test_a_node_class_without_invoke_is_refused(target):
    """The error shows the line to add."""
    with pytest.raises(NodeCreationError, match=r"WithoutInvoke has no invoke\(\); write `async def invoke\(self\)"):
        as_node(target)


def test_a_decorated_node_class_is_refused():
    """The error says that a node class needs no decorator."""
    with pytest.raises(NodeCreationError, match=r"Greet is already a node; write `rt\.call\(Greet, \.\.\.\)`"):
        function_node(Greet)


async def test_a_refused_node_leaves_no_record():
    async with rt.Session() as session:
        with pytest.raises(NodeCreationError):
            await rt.call(5)  # type: ignore[call-overload]
    assert session.info.records == ()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("max_retries", r"write retries=3, or retries=rt\.Retry\(attempts=\.\.\., on=\.\.\.\)"),
        ("concurrency", r"write limit=5, or limit=rt\.Limit\('name', concurrency=\.\.\.\)"),
        ("nmae", r"did you mean 'name'\?"),
        ("colour", r"it has name, abandon_on_cancel, key, version, "),
    ],
)
def test_an_argument_that_does_not_exist_says_what_to_write(argument, says):
    make: Any = function_node
    for func in ((), (print,)):
        with pytest.raises(TypeError, match=rf"rt\.function_node has no argument '{argument}'; .*{says}"):
            make(*func, **{argument: 3})
