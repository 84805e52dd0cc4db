"""Resources that calls share are all closed, whatever closing one of them raises."""

from __future__ import annotations

import asyncio
import functools

import anyio
import pytest

from railtracks._logging import SessionLog
from railtracks.execution._resources import CLOSE_DEADLINE, Resources


class OddError(BaseException):
    pass


def resources(*errors):
    """Resources of which each raises one of the errors when it is closed; those that were closed."""
    made = Resources(SessionLog("QUIET", None, "s", lambda: 0.0))
    closed = []

    async def close(error):
        closed.append(error)
        await anyio.lowlevel.checkpoint()
        if isinstance(error, BaseException):
            raise error

    for number, error in enumerate(errors):
        made.get(number, functools.partial(str if isinstance(error, str) else lambda it: it, error), close)
    return made, closed


def warnings(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("error", [ValueError("no"), OddError("no"), pytest.fail.Exception("no")], ids=repr)
async def test_failure_to_close_is_logged_and_the_others_are_closed(error, caplog):
    made, closed = resources("first", error, "last")
    await made.close()
    assert closed == ["last", error, "first"]
    assert warnings(caplog) == [f"{error!r} was not closed: {error!r}"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_ctrl_c_goes_on_when_the_others_are_closed(error, caplog):
    made, closed = resources("first", error, ValueError("no"))
    with pytest.raises(type(error)) as caught:
        await made.close()
    assert caught.value is error
    assert closed[-1] == "first"
    assert len(warnings(caplog)) == 1


async def test_cancellation_that_a_client_raises_itself_is_a_failure(backend, caplog):
    if backend == "trio":
        pytest.skip("no code can make a cancellation of trio")
    made, closed = resources("first", asyncio.CancelledError())
    await made.close()
    assert closed[-1] == "first"
    assert len(warnings(caplog)) == 1


async def test_resource_that_never_closes_is_left_at_its_deadline(caplog):
    made, closed = resources("first")
    made.get("endless", lambda: "endless", lambda _: anyio.sleep_forever())
    before = anyio.current_time()
    await made.close()
    assert anyio.current_time() - before == CLOSE_DEADLINE
    assert closed == ["first"]
    assert warnings(caplog) == ["'endless' was not closed: TimeoutError()"]
