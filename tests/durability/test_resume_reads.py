"""A recorded result that had read another value of the context is never used in silence."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from tests.durability.world import FOLDER, failing, flow_of, keep_journal, reasons, resumed

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Client:
    """Something without a written form."""


def flow_with(world, main, **options):
    """Return a flow that runs ``main`` and then fails as long as the gate is broken."""

    @rt.function_node
    async def outer():
        found = await main()
        await rt.call(world.gate)
        return found

    return flow_of(outer, **options)


async def interrupted(world, flow):
    """Run the flow until the gate, which opens."""
    world.broken.add("gate")
    session = await failing(flow)
    world.broken.clear()
    world.ran()
    return session


def notes(info):
    """Return what was noted about the calls that were reused all the same."""
    return [(decision.name, decision.why) for decision in info.resumed if decision.reused and decision.why]


def warnings(logged):
    return [each for each in logged("WARNING") if "from the context" in each]


@rt.function_node
async def shown():
    return f"for {rt.context.get('who', 'nobody')}"


@rt.function_node
async def set_who(who):
    rt.context.put("who", who)


async def test_changed_value_is_noted_and_logged_once(world, logged):
    who = ["Ada"]

    async def main():
        rt.context.put("who", who[0])
        return [await rt.call(shown), await rt.call(shown)]

    await interrupted(world, flow_with(world, main))
    who[0] = "Bob"
    result, session = await resumed(flow_with(world, main))
    assert result == ["for Ada", "for Ada"]
    why = 'it had read \'who\' from the context as "Ada", which is "Bob" now'
    assert notes(session.info) == [("shown", why)] * 2
    (warning,) = warnings(logged)
    assert warning == (
        f"The recorded result of shown is used, although {why}; use "
        '@rt.function_node(context_changes="rerun") to run such calls again'
    )
    saved = rt.ExecutionInfo.load(FOLDER / "run.json")
    assert notes(saved) == [("shown", why)] * 2


async def test_equal_value_is_not_noted(world, logged):
    async def main():
        rt.context.put("who", {"a": (1, Decimal(2))})
        return await rt.call(shown)

    await interrupted(world, flow_with(world, main))
    _, session = await resumed(flow_with(world, main))
    assert (notes(session.info), warnings(logged)) == ([], [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True), (1, 1.0), ((1,), [1]), (Decimal(1), Decimal("1.0")), ("a", None), (None, "a"),
        ("x" * 100_000, "x" * 99_999 + "y"),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
async def test_any_difference_is_noted(world, before, after):
    values = [before]

    async def main():
        rt.context.put("who", values[-1])
        return await rt.call(shown)

    await interrupted(world, flow_with(world, main))
    values.append(after)
    _, session = await resumed(flow_with(world, main))
    assert [name for name, _ in notes(session.info)] == ["shown"]


@pytest.mark.parametrize("change", ["appears", "disappears"])
async def test_missing_key_is_a_value_too(world, change):
    present = [change == "disappears"]

    async def main():
        if present[-1]:
            rt.context.put("who", "Ada")
        return await rt.call(shown)

    await interrupted(world, flow_with(world, main))
    present.append(not present[0])
    result, session = await resumed(flow_with(world, main))
    was, now = ('"Ada"', "nothing") if present[0] else ("nothing", '"Ada"')
    assert notes(session.info) == [("shown", f"it had read 'who' from the context as {was}, which is {now} now")]
    assert result == ("for Ada" if present[0] else "for nobody")


async def test_key_that_was_missing_and_asked_for_without_default(world):
    @rt.function_node
    async def asks():
        try:
            return rt.context.get("who")
        except KeyError:
            return "missing"

    present = [False]

    async def main():
        if present[-1]:
            rt.context.put("who", "Ada")
        return await rt.call(asks)

    await interrupted(world, flow_with(world, main))
    present.append(True)
    result, session = await resumed(flow_with(world, main))
    assert (result, [name for name, _ in notes(session.info)]) == ("missing", ["asks"])


async def test_running_total(world):
    """A call that fails and runs again changes what the calls after it had read."""
    total = "total"

    def book(context_changes):
        @rt.function_node(name="book", context_changes=context_changes)
        async def book(amount):
            world.note(amount)
            if amount in world.broken:
                raise ConnectionError("try later")
            rt.context.put(total, rt.context.get(total, 0) + amount)
            return amount

        return book

    async def day(context_changes):
        results = await rt.call_batch(book(context_changes), [3, 5, 7], limit=1)
        if any(isinstance(each, Exception) for each in results):
            raise ValueError("not all booked")
        return rt.context.get(total)

    for context_changes, expected, ran in (
        ("warn", 12, [3]),
        ("rerun", 15, [3, 5, 7]),
        ("ignore", 12, [3]),
    ):
        main = rt.function_node(day)
        world.broken.add(3)
        run = f"run-{context_changes}"
        with pytest.raises(ValueError, match="not all booked"):
            await flow_of(main, run_identifier=run).ainvoke(context_changes)
        world.broken.clear()
        world.ran()
        result, session = await resumed(flow_of(main, run_identifier=run), run)
        assert (result, world.ran()) == (expected, ran)
        assert [name for name, _ in notes(session.info)] == (["book"] if context_changes == "warn" else [])


async def test_undisturbed_running_total_is_not_noted(world, logged):
    @rt.function_node
    async def book(amount):
        rt.context.put("total", rt.context.get("total", 0) + amount)

    async def main():
        for amount in (3, 5, 7):
            await rt.call(book, amount)
        return rt.context.get("total")

    flow = flow_with(world, main)
    await interrupted(world, flow)
    for _ in range(2):
        world.broken.add("gate")
        with pytest.raises(ValueError, match="gate"):
            await flow.aresume("run")
        world.broken.clear()
    result, session = await resumed(flow)
    assert (result, notes(session.info), warnings(logged)) == (15, [], [])


async def test_own_writes_are_not_read_from_outside(world, logged):
    """What a call, or one below it, had set itself before does not count."""

    @rt.function_node
    async def sets_first():
        rt.context.put("who", "Ada")
        await rt.call(shown)
        return rt.context.get("who")

    @rt.function_node
    async def sets_below():
        await rt.call(set_who, "Ada")
        return rt.context.get("who"), await rt.call(shown)

    who = ["Bob"]

    async def main():
        for node in (sets_first, sets_below):
            rt.context.put("who", who[-1])
            await rt.call(node)

    await interrupted(world, flow_with(world, main))
    who.append("Eve")
    _, session = await resumed(flow_with(world, main))
    assert (notes(session.info), warnings(logged)) == ([], [])


async def test_read_before_own_write_counts(world):
    @rt.function_node
    async def swaps():
        before = rt.context.get("who")
        rt.context.put("who", "new")
        return before, rt.context.get("who")

    who = ["Bob"]

    async def main():
        rt.context.put("who", who[-1])
        return await rt.call(swaps)

    await interrupted(world, flow_with(world, main))
    who.append("Eve")
    result, session = await resumed(flow_with(world, main))
    assert result == ("Bob", "new")
    assert [why for _, why in notes(session.info)] == [
        'it had read \'who\' from the context as "Bob", which is "Eve" now'
    ]


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_reads_below_count_for_the_call_that_is_replayed(world, levels):
    @rt.function_node
    async def below(levels):
        return await (rt.call(below, levels - 1) if levels else rt.call(shown))

    who = ["Bob"]

    async def main():
        rt.context.put("who", who[-1])
        return await rt.call(below, levels)

    await interrupted(world, flow_with(world, main))
    who.append("Eve")
    _, session = await resumed(flow_with(world, main))
    assert [name for name, _ in notes(session.info)] == ["below"]


async def test_call_runs_again_where_its_node_says_so(world):
    """So do the calls that it makes, if they are replayed by themselves."""

    @rt.function_node(context_changes="rerun")
    async def greets():
        world.note("greets")
        return await rt.call(world.step, "a"), rt.context.get("who")

    who = ["Ada"]

    async def main():
        rt.context.put("who", who[-1])
        return await rt.call(greets)

    await interrupted(world, flow_with(world, main))
    who.append("Bob")
    result, session = await resumed(flow_with(world, main))
    assert result == ("a!", "Bob")
    assert world.ran() == ["greets", "gate"]
    assert reasons(session.info)["greets"] == 'it had read \'who\' from the context as "Ada", which is "Bob" now'
    result, session = await resumed(flow_with(world, main))
    assert (result, world.ran()) == (("a!", "Bob"), [])


async def test_calls_in_threads_read_too(world):
    @rt.function_node
    def reads():
        return rt.context.get("who")

    who = ["Ada"]

    async def main():
        rt.context.put("who", who[-1])
        return await rt.call(reads)

    await interrupted(world, flow_with(world, main))
    who.append("Bob")
    _, session = await resumed(flow_with(world, main))
    assert [name for name, _ in notes(session.info)] == ["reads"]


async def test_reads_of_concurrent_calls_are_not_noted(world, logged):
    """Each sees what it saw, as the calls come in the recorded order, and so do their changes."""

    @rt.function_node
    async def adds(name):
        await rt.call(world.step, name)
        seen = rt.context.get("seen", [])
        rt.context.put("seen", [*seen, name])
        return len(seen)

    async def main():
        return await rt.call_batch(adds, ["slow", "fast", "faster"]), rt.context.get("seen")

    world.delays = {"slow": 3.0, "fast": 2.0, "faster": 1.0}
    await interrupted(world, flow_with(world, main))
    for _ in range(2):
        result, session = await resumed(flow_with(world, main))
        assert result == ([2, 1, 0], ["faster", "fast", "slow"])
        assert (notes(session.info), warnings(logged)) == ([], [])


async def test_what_cannot_be_compared_is_not_noted(world, logged):
    """A client in the context is another object in each process."""

    @rt.function_node
    async def uses():
        return type(rt.context.get("client")).__name__

    async def main():
        rt.context.put("client", Client())
        rt.context.put("api_key", "sk-123456789012345678901234")
        rt.context.get("api_key")
        return await rt.call(uses)

    await interrupted(world, flow_with(world, main))
    result, session = await resumed(flow_with(world, main))
    assert (result, notes(session.info), warnings(logged)) == ("Client", [], [])
    assert b"sk-1234567890" not in (FOLDER / "run.json").read_bytes()


async def test_secret_that_was_read_is_not_written(world):
    @rt.function_node
    async def uses():
        return len(rt.context.get("api_key"))

    secret = ["sk-123456789012345678901234"]

    async def main():
        rt.context.put("api_key", secret[-1])
        return await rt.call(uses)

    await interrupted(world, flow_with(world, main))
    secret.append("sk-abcdefghijabcdefghijabcd")
    await resumed(flow_with(world, main))
    for path in FOLDER.iterdir():
        assert not any(each.encode() in path.read_bytes() for each in secret)


async def test_value_that_is_given_to_the_flow_and_was_changed(world):
    async def main():
        return await rt.call(shown)

    await interrupted(world, flow_with(world, main, context={"who": "Ada"}))
    result, session = await resumed(flow_with(world, main, context={"who": "Bob"}))
    assert result == "for Ada"
    assert [name for name, _ in notes(session.info)] == ["shown"]


async def test_reads_survive_a_kill(world):
    """They are in the journal, also those of a call that was replayed."""
    who = ["Ada"]

    @rt.function_node
    async def main():
        rt.context.put("who", who[-1])
        found = await rt.call(shown)
        await rt.call(world.die, f"dead{who[-1]}")
        return found

    await flow_of(main).ainvoke()
    for name, before in (("Bob", "Ada"), ("Eve", "Bob")):
        who.append(name)
        _, session = await resumed(flow_of(main), f"dead{before}")
        assert notes(session.info) == [
            ("shown", f'it had read \'who\' from the context as "Ada", which is "{name}" now')
        ]


async def test_large_value_that_is_unchanged(world, logged):
    async def main():
        rt.context.put("who", ["x" * 1_000] * 100)
        return len(await rt.call(shown))

    await interrupted(world, flow_with(world, main))
    _, session = await resumed(flow_with(world, main))
    assert (notes(session.info), warnings(logged)) == ([], [])


async def test_value_that_a_replayed_call_had_set_is_not_noted(world, logged):
    """The value that was read came from a call that is replayed."""

    async def main():
        await rt.call(set_who, "Ada")
        first = await rt.call(shown)
        await rt.call(set_who, "Bob")
        return first, await rt.call(shown)

    await interrupted(world, flow_with(world, main))
    result, session = await resumed(flow_with(world, main))
    assert result == ("for Ada", "for Bob")
    assert (notes(session.info), warnings(logged)) == ([], [])


@pytest.mark.parametrize("value", ["never", "", None, True])
def test_context_changes_has_three_values(value):
    with pytest.raises(NodeCreationError, match=r"context_changes must be 'warn', 'rerun' or 'ignore', not"):
        rt.function_node(shown.func, context_changes=value)


async def test_reads_of_the_session_body_are_not_recorded(world):
    """Top-level code is not a call, so it is not replayed either."""
    async with rt.Session({"who": "Ada"}, run_identifier="run") as session:
        rt.context.get("who")
        assert await rt.call(shown) == "for Ada"
        keep_journal()
    assert [sorted(record.reads or ()) for record in session.info.records] == [["who"]]
    await anyio.sleep(0)
    async with rt.Session({"who": "Bob"}, resume="run") as session:
        assert await rt.call(shown) == "for Ada"
    assert [name for name, _ in notes(session.info)] == ["shown"]
