"""Reuse of calls of each kind of node: classes, partials, methods, callable objects, closures, sync nodes."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import attrs
import pytest

import railtracks as rt
from railtracks.state._serialization._plain_data import MAX_TEXT
from tests.durability.values import Square
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed


async def run_twice(world, *calls):
    """Run some calls in a run that fails after them, and again in reverse order.

    Returns:
        What ran again, and the state of the second run.
    """
    results = []
    order = calls

    async def main():
        results[:] = [await rt.call(*each) for each in order]
        await rt.call(world.step, "x")

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow)
    expected = results[::-1]
    world.broken.clear()
    world.ran()
    order = calls[::-1]
    _, session = await resumed(flow)
    assert results == expected
    again = world.ran()
    assert again.pop() == "x"
    return again, session.info


async def test_class_nodes_are_distinguished_by_class_and_arguments(world):
    """Class nodes and factories are distinguished by their class and their bound arguments."""

    class Scale(rt.nodes.Node[list]):
        def __init__(self, factor: int, value: int) -> None:
            self.factor, self.value = factor, value

        async def invoke(self) -> list[int]:
            world.note((self.factor, self.value))
            return [self.factor * self.value]

    class Boxed(Scale):
        async def invoke(self) -> Square:  # type: ignore[override]
            world.note((self.factor, self.value))
            return Square(self.factor * self.value)

    half = functools.partial(Scale, 2)
    again, _ = await run_twice(
        world, (Scale, 2, 4), (half, 4), (functools.partial(Scale, 3), 4), (Boxed, 2, 4), (half, 5)
    )
    assert again == []


async def test_partials_are_distinguished_by_what_is_bound(world):
    async def scale(factor, value, *, plus=0):
        world.note((factor, value, plus))
        return factor * value + plus

    double, triple = functools.partial(scale, 2), functools.partial(scale, 3)
    more = functools.partial(double, plus=1)
    again, _ = await run_twice(
        world, (double, 1), (triple, 1), (more, 1), (functools.partial(more, plus=2), 1), (scale, 2, 1)
    )
    assert again == []


async def test_methods_are_distinguished_by_the_objects_they_belong_to(world):
    @dataclass
    class Service:
        url: str = "here"

        async def fetch(self, name):
            world.note(f"{self.url}/{name}")
            return f"{self.url}/{name}"

        @classmethod
        async def make(cls, name):
            world.note(f"{cls.__name__} {name}")
            return f"{cls.__name__} {name}"

    class SubService(Service):
        pass

    calls = [(Service(url).fetch, "x") for url in ("here", "there")]
    again, _ = await run_twice(world, *calls, (Service.make, "a"), (SubService.make, "a"))
    assert again == []


async def test_callable_objects_are_distinguished_by_their_fields(world):
    @attrs.frozen
    class Adder:
        by: int

        async def __call__(self, x) -> tuple[int, int]:
            world.note(("add", self.by, x))
            return x, x + self.by

    again, _ = await run_twice(world, (Adder(1), 1), (Adder(2), 1))
    assert again == []


async def test_methods_of_objects_that_cannot_be_compared_run_again(world):
    """Methods and callables whose objects cannot be compared run again."""

    class OpaqueService:
        async def fetch(self, name):
            world.note(f"opaque/{name}")
            return name

    class Callable:
        def __init__(self):
            self.lock = threading.Lock()

        async def __call__(self):
            world.note("callable")

    again, info = await run_twice(world, (OpaqueService().fetch, "a"), (Callable(),))
    assert again == ["callable", "opaque/a"]
    for name in ("fetch", "Callable"):
        assert "bound to a value that cannot be compared" in reasons(info)[name]


async def test_lambdas_run_again_and_what_they_call_is_found(world):
    again, info = await run_twice(world, (lambda: rt.call_sync(world.step, "below"),))
    assert again == []
    assert "lambda" in reasons(info)["<lambda>"]
    assert [d.reused for d in info.resumed if d.name == "step"] == [True, False]


async def test_partial_that_binds_a_secret_or_an_object_runs_again(world):
    async def login(password):
        world.note("login")

    async def use(thing):
        world.note("use")

    again, info = await run_twice(
        world, (functools.partial(login, password="swordfish"),), (functools.partial(use, object()),)
    )
    assert again == ["use", "login"]
    assert reasons(info).keys() >= {"login", "use"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (({"password": "swordfish-1"},), "a secret is masked"),
        ((rt.Secret("swordfish-2"),), "a secret is masked"),
        ((object(),), "a value has no written form"),
        (("x" * (MAX_TEXT + 1),), "too large, or nested too deeply"),
        ((ValueError("x"),), "a value has no written form"),
    ],
    ids=["password", "secret", "object", "long text", "error"],
)
async def test_calls_with_arguments_that_cannot_be_compared_run_again(world, arguments, why, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_MAX_VALUE_BYTES", "1000000")

    async def use(thing):
        world.note("use")

    again, info = await run_twice(world, (use, *arguments))
    assert again == ["use"]
    assert f"cannot be compared: they are not all on record ({why})" in reasons(info)["use"]


async def test_positional_secret_is_not_compared(world):
    """A positional argument whose parameter names a secret is not compared."""

    async def login(user, password):
        world.note("login")

    again, info = await run_twice(world, (login, "ada", "swordfish-3"))
    assert again == ["login"]
    assert "(a secret is masked)" in reasons(info)["login"]


async def test_sync_nodes_and_what_they_call_are_reused(world):
    again, info = await run_twice(world, (world.in_thread, "a"), (world.in_thread, "b"))
    assert again == []
    assert len([r for r in info.records if r.name == "step"]) == 3


async def test_what_a_sync_node_called_is_found_when_it_runs_again(world):
    world.broken.add("b")

    def many(*names):
        return [rt.call_sync(world.step, name) for name in names]

    flow = flow_of(many)
    await failing(flow, "a", "b", "c")
    world.broken.clear()
    world.ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!"]
    assert world.ran() == ["b", "c"]


async def test_closures_are_found_by_definition_and_order(world):
    """Closures are found by where they are defined and by their order."""

    def times(factor):
        async def multiply(x):
            world.note((factor, x))
            return factor * x

        return multiply

    async def main():
        results = [await rt.call(times(factor), 5) for factor in (2, 3)]
        await rt.call(world.step, "x")
        return results

    flow = flow_of(main)
    await failing_once(flow, world, "x")
    assert (await resumed(flow))[0] == [10, 15]
    assert world.ran() == ["x"]
