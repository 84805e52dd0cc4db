"""Runs that ``if_exists="resume"`` starts again, and what would be lost or done again in silence."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

import railtracks as rt
from railtracks.state import Secret

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.either_backend]


@dataclasses.dataclass
class Report:
    pages: int


def unannotated():
    async def report():
        return Report(1)

    return report


def annotated():
    async def report() -> Report:
        return Report(1)

    return report


def giving(value):
    async def report() -> Any:
        return value

    return report


AGAIN = "report will run again when this run is started again, although it has completed: its result "
LOST = {
    "class": (
        unannotated,
        "is of a type that only an annotation can bring back \\(.*Report\\); annotate what the node",
    ),
    "exception": (
        lambda: giving([ValueError("x")]),
        r"is not all on record, as ValueError at \[0\] has no written form; return",
    ),
    "secret": (lambda: giving({"a": Secret("correct horse")}), r"is not all on record, as it holds a secret"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_result_that_cannot_be_brought_back_is_warned_of(name, backend, logged):
    made, why = LOST[name]
    flow = rt.Flow("Job", made(), run_identifier="job", if_exists="resume", logging_setting="QUIET", backend=backend)
    flow.invoke()
    [warning] = [each for each in logged("WARNING") if AGAIN in each]
    assert re.search(why, warning)


@pytest.mark.parametrize("made", [annotated, lambda: giving([1, {"a": (2,)}]), lambda: giving(None)])
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_result_that_comes_back_is_not_warned_of(made, attempts, backend, logged):
    flow = rt.Flow("Job", made(), run_identifier="job", if_exists="resume", logging_setting="QUIET", backend=backend)
    for _ in range(attempts):
        flow.invoke()
    assert logged("WARNING") == []


@pytest.mark.parametrize("options", [{}, {"run_identifier": "job"}])
def test_other_runs_are_not_checked(options, backend, logged):
    rt.Flow("Job", unannotated(), logging_setting="QUIET", backend=backend, **options).invoke()
    assert [each for each in logged("WARNING") if AGAIN in each] == []


def test_a_node_that_is_to_run_each_time_is_not_warned_of(backend, logged):
    node = rt.function_node(memo=False)(unannotated())
    rt.Flow("Job", node, run_identifier="job", if_exists="resume", logging_setting="QUIET", backend=backend).invoke()
    assert logged("WARNING") == []


def test_a_result_that_is_too_large_has_one_warning(backend, logged):
    flow = rt.Flow(
        "Job", giving("x" * 2000), run_identifier="job", if_exists="resume", logging_setting="QUIET", backend=backend,
        max_value_bytes=1000,
    )  # fmt: skip
    flow.invoke()
    [warning] = logged("WARNING")
    assert "the result of report is too large" in warning


async def test_a_session_has_one_warning_for_all_its_calls(logged):
    async with rt.Session(run_identifier="job", if_exists="resume"):
        await rt.call(unannotated())
        await rt.call(annotated())
        await rt.call(giving([ValueError("x")]))
    [warning] = logged("WARNING")
    assert warning.startswith("report (and 1 other call) will run again when this run is started again")


# ---- calls that are not made again


def pages_of(done):
    @rt.function_node
    async def page(number: int) -> str:
        done.append(number)
        return f"page {number}"

    return page


async def run_pages(page, *numbers, **options):
    async with rt.Session(run_identifier="job", if_exists="resume", **options) as session:
        for number in numbers:
            await rt.call(page, number)
    return session


async def test_a_run_whose_calls_were_left_out_is_kept(logged):
    done = []
    page = pages_of(done)
    await run_pages(page, 1, 2, 3)
    await run_pages(page, 2, 4)
    [kept] = [run.identifier for run in rt.state.list_runs() if run.identifier != "job"]
    [warning] = logged("WARNING")
    assert warning == (
        f"2 calls that the earlier run job had completed were not made again (page, page); that run is kept as {kept}"
    )
    assert [record.args for record in rt.state.load_run(kept).records] == [(1,), (2,), (3,)]
    assert [record.args for record in rt.state.load_run("job").records] == [(2,), (4,)]
    async with rt.Session(resume=kept):
        assert await rt.call(page, 3) == "page 3"
    assert done == [1, 2, 3, 4]
    await run_pages(page, 2, 4)
    assert len(logged("WARNING")) == 1


async def test_a_failed_attempt_is_kept_if_its_calls_are_left_out(logged):
    page = pages_of([])
    with pytest.raises(ValueError, match="x"):
        async with rt.Session(run_identifier="job", if_exists="resume"):
            await rt.call(page, 1)
            raise ValueError("x")
    await run_pages(page, 2)
    [warning] = logged("WARNING")
    assert (
        "1 call that the earlier run job had completed was not made again (page); that run is kept as job." in warning
    )


@pytest.mark.parametrize("second", [(1, 2, 3), (3, 2, 1), (1, 2, 3, 4)])
async def test_nothing_is_kept_if_all_calls_are_made_again(second, logged):
    page = pages_of([])
    await run_pages(page, 1, 2, 3)
    await run_pages(page, *second)
    assert logged("WARNING") == []
    assert [run.identifier for run in rt.state.list_runs()] == ["job"]


async def test_a_session_that_fails_keeps_the_earlier_calls_itself(logged):
    page = pages_of([])
    await run_pages(page, 1, 2)
    with pytest.raises(ValueError, match="x"):
        async with rt.Session(run_identifier="job", if_exists="resume"):
            await rt.call(page, 1)
            raise ValueError("x")
    await run_pages(page, 1, 2)
    assert logged("WARNING") == []


async def test_calls_that_are_to_run_again_are_not_left_out(logged):
    async def work(number: int) -> int:
        return number

    for options in (
        {"version": "1"},
        {"version": "2"},
        {"version": "2", "memo": False},
        {"version": "2", "memo": False},
    ):
        node = rt.function_node(**options)(work)
        await run_pages(node, 1, 2)
    assert logged("WARNING") == []


@pytest.mark.parametrize("again", [False, True])
async def test_a_handled_failure_leaves_nothing_out(again, logged):
    """Of a failure that is tried again, and does not come again, the alternative is left out."""
    broken = [True]

    @rt.function_node(retry_on_resume=again)
    async def first() -> int:
        if broken:
            raise KeyError("first")
        return 1

    @rt.function_node
    async def second() -> int:
        return 2

    @rt.function_node
    async def last() -> int:
        if broken:
            raise ValueError("last")
        return 3

    async def attempt():
        async with rt.Session(run_identifier="job", if_exists="resume"):
            try:
                await rt.call(first)
            except KeyError:
                await rt.call(second)
            await rt.call(last)

    with pytest.raises(ValueError, match="last"):
        await attempt()
    broken.clear()
    await attempt()
    assert any("not made again (second)" in each for each in logged("WARNING")) == again


async def test_large_values_of_a_run_that_is_kept_are_kept_too():
    @rt.function_node
    async def text(size: int) -> str:
        return "x" * size

    await run_pages(text, 100_000)
    await run_pages(text, 5)
    [kept] = [run.identifier for run in rt.state.list_runs() if run.identifier != "job"]
    assert rt.state.load_run(kept).records[0].result == "x" * 100_000
