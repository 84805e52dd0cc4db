"""What the errors and warnings of a resumed run say: what differs, what is on record, and what to write."""

from __future__ import annotations

from dataclasses import make_dataclass
from types import GenericAlias

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from tests.durability.world import FOLDER, flow_of, keep_journal


def order_class(*fields, module="job"):
    cls = make_dataclass("Order", fields)
    cls.__module__ = module
    return cls


Order = order_class(("id", int))
Moved = order_class(("id", int), module="models")
Wider = order_class(("id", int), ("express", bool))


def process_of(cls, **options):
    async def process(orders):
        return len(orders)

    process.__annotations__["orders"] = GenericAlias(list, (cls,))
    return flow_of(rt.function_node(process, **options))


@pytest.mark.parametrize("how", ["fork", "if_exists"])
async def test_a_type_that_differs_is_named_with_its_place(how):
    await process_of(Order).ainvoke([Order(1), Order(2)])
    flow = process_of(Moved)
    if how == "if_exists":
        flow = rt.Flow("F", flow.entry_point, run_identifier="run", if_exists="resume")
    with pytest.raises(StateError, match=r"\(argument orders: items were job.Order, and are models.Order now\)"):
        await (flow.ainvoke([Moved(1), Moved(2)]) if how == "if_exists" else flow.aresume("run", [Moved(1), Moved(2)]))


async def test_a_type_of_one_argument_is_named():
    async def main(first, *others, name=None):
        pass

    flow = flow_of(main)
    await flow.ainvoke(1, Order(1), name=(1,))
    with pytest.raises(StateError, match=r"\(argument others: it was job.Order, and is models.Order now\)"):
        await flow.aresume("run", 1, Moved(1), name=(1,))
    with pytest.raises(StateError, match=r"\(argument name: it was tuple, and is plain data now\)"):
        await flow.aresume("run", 1, Order(1), name=[1])


async def test_a_new_field_is_to_get_a_default():
    """Whether the arguments are passed or come from the record: no advice leads from the one to the other."""
    await process_of(Order).ainvoke([Order(1)])
    flow = process_of(Wider)
    with pytest.raises(StateError, match=r"other fields than job.Order has now; give `express` a default$"):
        await flow.aresume("run")
    with pytest.raises(StateError, match=r"if it is a new field, give `express` a default, and pass that"):
        await flow.aresume("run", [Wider(1, True)])


async def test_a_field_that_is_gone_is_named():
    await process_of(Wider).ainvoke([Wider(1, True)])
    with pytest.raises(StateError, match=r"has fields that job.Order has no longer: express; pass its arguments"):
        await process_of(Order).aresume("run")


@pytest.mark.parametrize(
    ("options", "write"), [({}, "the name process again"), ({"key": "orders"}, "@rt.function_node(key='orders')")]
)
async def test_the_entry_point_on_record_is_named(options, write):
    await process_of(Order, **options).ainvoke([Order(1)])

    async def handle(orders):
        pass

    with pytest.raises(StateError) as caught:
        await flow_of(handle).aresume("run")
    assert str(caught.value) == (
        f"the run 'run' has no top-level call of handle, only of process; if handle is what process was, give it "
        f"{write}, or pass its arguments: flow.resume('run', ...)"
    )


async def leave_journal(world):
    """Leave the journal of a run whose process has died, and return its path."""

    async def main():
        for name in ("a", "b"):
            await rt.call(world.step, name)
        keep_journal("copy")
        await rt.call(world.step, "end")

    flow = flow_of(main)
    await flow.ainvoke()
    (FOLDER / "run.json").unlink()
    world.ran()
    return flow, (FOLDER / "copy.journal").rename(FOLDER / "run.journal")


@pytest.mark.parametrize("keep", [-20, 0], ids=["cut", "empty"])
async def test_a_journal_that_breaks_off_is_what_a_kill_leaves(world, logged, keep):
    flow, path = await leave_journal(world)
    path.write_bytes(path.read_bytes()[: keep or 0])
    await flow.aresume("run")
    assert logged("WARNING") == []


async def test_a_damaged_journal_is_warned_of(world, logged):
    flow, path = await leave_journal(world)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    await flow.aresume("run")
    (warning,) = logged("WARNING")
    assert warning.startswith("The record of run: ")
    assert "calls whose end is not on record run again" in warning


async def test_a_whole_journal_is_not_warned_of(world, logged):
    flow, _ = await leave_journal(world)
    await flow.aresume("run")
    assert world.ran() == ["end"]
    assert logged("WARNING") == []


@pytest.mark.parametrize("code_changes", ["warn", "ignore"])
async def test_a_result_that_the_annotation_excludes_now_runs_again(world, logged, code_changes):
    def flow(annotation, **options):
        async def charge(order):
            world.note(order)
            return f"charged {order}" if annotation is str else 7

        charge.__annotations__["return"] = annotation
        charge = rt.function_node(charge)

        async def main():
            found = await rt.call(charge, 1)
            await rt.call(world.step, "x")
            return found

        return flow_of(main, **options)

    world.broken.add("x")
    with pytest.raises(ValueError):
        await flow(str).ainvoke()
    world.broken.clear()
    world.ran()
    found = await flow(int, code_changes=code_changes).aresume("run")
    if code_changes == "ignore":
        assert (found, world.ran()) == ("charged 1", ["x"])
        return
    assert (found, world.ran()) == (7, [1, "x"])
    why = "its code has changed, and its result was not what its annotation says now, int"
    assert logged("WARNING") == [
        f"1 call that had completed ran again, first charge: {why}; info.resumed lists all calls"
    ]


async def test_an_annotation_that_was_always_wrong_does_not_matter(world, logged):
    def flow():
        async def charge(order) -> str:
            world.note(order)
            return [order]  # type: ignore[return-value]

        charge.__annotations__["return"] = str
        charge = rt.function_node(charge)

        async def main():
            await rt.call(charge, 1)
            await rt.call(world.step, "x")

        return flow_of(main)

    world.broken.add("x")
    with pytest.raises(ValueError):
        await flow().ainvoke()
    world.broken.clear()
    world.ran()
    await flow().aresume("run")
    assert (world.ran(), logged("WARNING")) == (["x"], [])


async def test_a_batch_that_a_function_is_passed_to_is_not_warned_of(world, logged):
    async def main():
        await rt.call(rt.call_batch, world.step, ["a", "b"])
        await rt.call(world.step, "x")

    world.broken.add("x")
    with pytest.raises(ValueError):
        await flow_of(main).ainvoke()
    world.broken.clear()
    world.ran()
    await flow_of(main).aresume("run")
    assert (world.ran(), logged("WARNING")) == (["x"], [])


def started_again(entry):
    return rt.Flow("F", entry, run_identifier="again", if_exists="resume")


async def test_a_class_that_no_annotation_names_is_warned_of_at_once(logged):
    async def bare(number):
        return Order(number)

    async def named(number) -> Order:  # type: ignore[valid-type]
        return Order(number)

    async def plain(number):
        return (number, number)

    named.__annotations__["return"] = Order
    nodes = [rt.function_node(each) for each in (bare, named, plain)]

    async def main():
        for node in nodes:
            await rt.call(node, 1)
            await rt.call(node, 2)

    await started_again(main).ainvoke()
    (warning,) = logged("WARNING")
    assert warning == (
        "If this run is started again, calls of bare run again although they have completed, as their results cannot "
        "be brought back: job.Order is named by no annotation. Annotate what bare returns, as in `-> Order`"
    )


async def test_a_run_that_is_not_started_again_is_not_warned_of(logged):
    async def bare(number):
        return Order(number)

    async def main():
        await rt.call(bare, 1)

    await flow_of(main).ainvoke()
    assert logged("WARNING") == []


class Client:
    pass


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            lambda: ["a", ValueError("no")],
            "ValueError at [1] has no written form; return the results alone, or raise the failures of a batch",
        ),
        (lambda: {"it": [Client()]}, f"{__name__}.Client at ['it'][0] has no written form; return plain data or types"),
    ],
    ids=["failure", "object"],
)
async def test_what_has_no_written_form_in_a_result_is_named(logged, result, text):
    async def main():
        return result()

    await started_again(main).ainvoke()
    (warning,) = logged("WARNING")
    assert f"its result is not all on record, as {text}" in warning
    assert ("ExceptionGroup" in warning) == ("ValueError" in text)
