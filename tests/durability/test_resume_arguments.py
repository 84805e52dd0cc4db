"""The arguments of the entry point of a resumed run: those on record, or others."""

from __future__ import annotations

import datetime
import functools

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from tests.durability.values import TYPED, WHEN, Circle, Point, Square
from tests.durability.world import FOLDER, failing, flow_of, reasons, resumed


async def test_without_arguments_the_entry_point_gets_recorded_ones(world):
    async def main(a, b=2, *more, key=None, **rest):
        world.note((a, b, more, key, rest))
        await rt.call(world.step, "x")

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow, 1, [2], "three", key={"k": None}, other=1.5)
    world.broken.clear()
    await resumed(flow)
    assert world.ran() == [(1, [2], ("three",), {"k": None}, {"other": 1.5}), "x"] * 2


async def test_equal_arguments_find_what_is_on_record(world):
    world.broken.add("b")
    flow = flow_of(world.steps)
    await failing(flow, "a", "b")
    world.broken.clear()
    world.ran()
    assert (await resumed(flow, "run", "a", "b"))[0] == ["a!", "b!"]
    assert world.ran() == ["b"]


async def test_with_other_arguments_everything_runs_with_reasons(world):
    """With other arguments everything runs, and the reasons say why."""
    flow = flow_of(world.steps, allow_rerun=True)
    await flow.ainvoke("a", "b")
    world.ran()
    result, session = await resumed(flow, "run", "a", "c")
    assert (result, world.ran()) == (["a!", "c!"], ["a", "c"])
    assert reasons(session.info) == {
        "steps": "it is not on record",
        "step": "the call that made it is not on record",
    }


@pytest.mark.parametrize("name", TYPED)
async def test_recorded_arguments_have_the_types_of_their_annotations(world, name):
    annotation, value = TYPED[name]

    async def main(given, *, key=None):
        world.note((given, key))
        await rt.call(world.step, "x")

    main.__annotations__.update(given=annotation, key=annotation)
    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow, value, key=value)
    world.broken.clear()
    await resumed(flow)
    first, _, second, _ = world.ran()
    assert repr(second) == repr(first)


async def test_recorded_arguments_work_for_class_nodes_and_partials(world):

    class Reaching(rt.nodes.Node):
        def __init__(self, start: Point, end: Point) -> None:
            self.end = end

        async def invoke(self) -> Point:
            world.note(self.end)
            await rt.call(world.step, "x")
            return self.end

    world.broken.add("x")
    entry = functools.partial(Reaching, Point(0, 0))
    flow = flow_of(entry)
    with pytest.raises(ValueError):
        await flow.ainvoke(Point(1, 2))
    world.broken.clear()
    result, _ = await resumed(flow)
    assert result == Point(1, 2)
    assert world.ran() == [Point(1, 2), "x"] * 2


async def test_each_of_several_recorded_arguments_has_its_annotation(world):
    async def main(when: datetime.datetime, *squares: Square, **circles: Circle):
        world.note((when, squares, circles))
        await rt.call(world.step, "x")

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow, WHEN, Square(1), Square(2), a=Circle(1))
    world.broken.clear()
    await resumed(flow)
    assert world.ran() == [(WHEN, (Square(1), Square(2)), {"a": Circle(1)}), "x"] * 2


async def test_unresolvable_annotation_does_not_spoil_the_others(world):
    async def main(given: OnlyForTypeCheckers) -> None:  # type: ignore[name-defined]  # noqa: F821
        world.note(await rt.call(typed))
        await rt.call(world.step, "x")

    async def typed(given: OnlyForTypeCheckers = None) -> tuple[int, int]:  # type: ignore[name-defined]  # noqa: F821
        world.note("typed")
        return 1, 2

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow, 1)
    world.broken.clear()
    world.ran()
    await resumed(flow)
    assert world.ran() == [(1, 2), "x"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("unannotated", Point(1, 2), r"unannotated.*annotation of 'given'"),
        ("unannotated", object(), r"unannotated.*not all on record \(a value has no"),
        ("secretive", "sk-12345678", r"secretive.*not all on record \(a secret is"),
    ],
    ids=["class", "object", "secret"],
)
async def test_recorded_arguments_that_cannot_be_read_are_refused(world, name, value, message):
    """Recorded arguments that cannot be read back are refused with the reason, and nothing is lost."""

    async def unannotated(given):
        await rt.call(world.step, "x")

    async def secretive(api_key):
        await rt.call(world.step, "x")

    world.broken.add("x")
    flow = flow_of({"unannotated": unannotated, "secretive": secretive}[name])
    await failing(flow, value)
    before = (FOLDER / "run.json").read_bytes()
    with pytest.raises(StateError, match=f"(?s){message}.*pass its arguments again.*flow.resume\\('run', ...\\)"):
        await flow.aresume("run")
    known = rt.state.load_run("run")
    assert [r.name for r in (*known.records, *known.earlier)] == [name, "step"], "the run was replaced"
    with pytest.raises(StateError, match="pass its arguments again"):  # and it is refused again
        await flow.aresume("run")
    (FOLDER / "run.json").write_bytes(before)
    world.broken.clear()
    await flow.aresume("run", value)


async def test_recorded_arguments_that_no_longer_fit_are_refused(world):
    """Recorded arguments that no longer fit the entry point are refused."""

    def main_of(kind):
        if kind == "old":

            async def main(first: Point, second: Point):
                await rt.call(world.step, "x")
        else:

            async def main(only: Point):  # type: ignore[misc]
                await rt.call(world.step, "x")

        return flow_of(rt.function_node(main, name="main"))

    world.broken.add("x")
    await failing(main_of("old"), Point(1, 2), Point(3, 4))
    with pytest.raises((StateError, TypeError), match="argument") as caught:
        await main_of("new").aresume("run")
    assert isinstance(caught.value, StateError)


async def test_another_entry_point_finds_nothing_to_be_called_with(world):
    async def other(given): ...

    await flow_of(world.steps).ainvoke("a")
    with pytest.raises(
        StateError,
        match=r"top-level call of other, only of steps; if other is what steps was, give it the name steps",
    ):
        await flow_of(other).aresume("run")
