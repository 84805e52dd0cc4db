"""A failure is explained where it was raised, once, and calls that it leaves after that name who has raised it."""

from __future__ import annotations

import re

import anyio
import pytest

import railtracks as rt

SHARED = ValueError("shared")


@rt.function_node
async def one():
    raise SHARED


@rt.function_node
async def other():
    raise SHARED


@rt.function_node
async def waits():
    await anyio.sleep(1)
    raise SHARED


async def caught(node):
    try:
        await rt.call(node)
    except ValueError:
        return "caught"


def failures(caplog):
    """The lines of failures, without arguments and places; and forget them."""
    lines = [f"{each.levelname} {each.getMessage()}" for each in caplog.records if "FAILED" in each.getMessage()]
    caplog.clear()
    return [re.sub(r"\(\d+\)(?= FAILED)|, line \d+ of \S+$", "", line) for line in lines]


async def test_each_call_that_raises_one_exception_is_warned_of(caplog):
    @rt.function_node
    async def handles():
        return [await caught(one), await caught(other), await caught(one)]

    async with rt.Session(logging_setting="REGULAR"):
        await rt.call(handles)
    assert failures(caplog) == [f"WARNING {name} FAILED ValueError: shared" for name in ("one", "other", "one")]


async def test_a_caller_names_the_call_below_that_raised_last(caplog):
    @rt.function_node
    async def retries():
        await caught(one)
        await rt.call(other)

    async with rt.Session(logging_setting="REGULAR"):
        assert await caught(retries) == "caught"
    assert failures(caplog)[2:] == ["INFO retries FAILED ValueError (raised by other)"]


async def test_an_exception_that_a_call_has_returned_is_explained_once(caplog):
    """Once, also if it is raised by the caller of the call that has returned it."""

    @rt.function_node
    async def collects():
        return await rt.call_batch(raises, [1])

    @rt.function_node
    async def raises(_):
        raise SHARED

    @rt.function_node
    async def top():
        raise (await rt.call(collects))[0]

    async with rt.Session(logging_setting="REGULAR"):
        assert await caught(top) == "caught"
    lines = ["WARNING raises FAILED ValueError: shared", "INFO top FAILED ValueError (raised by raises)"]
    assert failures(caplog) == lines


async def test_calls_at_once_that_raise_one_exception_are_warned_of(caplog):
    async with rt.Session(logging_setting="REGULAR"), anyio.create_task_group() as group:
        group.start_soon(caught, waits)
        group.start_soon(caught, one)
    assert failures(caplog) == ["WARNING one FAILED ValueError: shared", "WARNING waits FAILED ValueError: shared"]


# ---- sessions in calls

inner = rt.Flow("inner", one, save_state=False)


@rt.function_node
async def runs_a_flow():
    await rt.call(inner)


@rt.function_node
def runs_a_flow_in_a_thread():
    inner.invoke()


@rt.function_node
async def opens_a_session():
    async with rt.Session(save_state=False):
        await rt.call(one)


@pytest.mark.parametrize("node", [runs_a_flow, runs_a_flow_in_a_thread, opens_a_session], ids=lambda node: node.name)
@pytest.mark.parametrize("depth", [1, 2])
async def test_a_failure_of_an_inner_session_is_explained_once(node, depth, caplog, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "REGULAR")
    outer = rt.Flow("middle", node, save_state=False) if depth == 2 else node
    async with rt.Session(save_state=False):
        assert await caught(outer) == "caught"
    lines = failures(caplog)
    assert lines[0] == "WARNING one FAILED ValueError: shared"
    assert len(lines) > depth
    assert all(line.startswith("INFO ") and line.endswith("FAILED ValueError (raised by one)") for line in lines[1:])


async def test_a_failure_that_no_inner_session_logs_is_explained(caplog):
    silent = rt.Flow("silent", one, save_state=False, logging_setting="NONE")

    @rt.function_node
    async def runs():
        await rt.call(silent)

    async with rt.Session(save_state=False, logging_setting="REGULAR"):
        assert await caught(runs) == "caught"
    assert failures(caplog) == [
        "WARNING silent FAILED ValueError: shared",
        "INFO runs FAILED ValueError (raised by silent)",
    ]
