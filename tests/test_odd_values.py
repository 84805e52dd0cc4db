"""Values whose own code raises go through calls as if nothing looked at them.

Not in virtual time: its event loop looks into the values that threads pass to it.
"""

import contextlib
import logging
import re

import anyio
import pytest

import railtracks as rt
from tests.odd import ERRORS, VALUES


def check_same(actual, expected):
    """Not with ``assert``, as pytest would show both."""
    if actual is not expected:
        pytest.fail("it is another object")


async def same(x):
    return x


async def by_name(*, token):
    return token


async def put(x):
    rt.context.put("x", x)
    return rt.context.get("x")


async def put_under(x):
    with contextlib.suppress(RuntimeError, TypeError):  # it has no hash, or not one that works
        hash(x)
        rt.context.put(x, 1)
        rt.context.delete(x)
    return x


def session(saves):
    store = rt.state.MemoryStore() if saves else None
    return rt.Session(save_state=saves, store=store, logging_setting="VERBOSE")  # which shows arguments, too


def check_record(opened, caplog):
    """The session can be shown and was saved, and nothing went wrong meanwhile."""
    assert opened.payload()["calls"] == len(opened.info.records)
    assert opened.info.tree().startswith("session ")
    warnings = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert [text for text in warnings if not re.match(r"(fail|pass_on)(\(.*\))? FAILED ", text)] == []


@pytest.mark.parametrize("saves", [False, True], ids=["not saved", "saved"])
@pytest.mark.parametrize("name", [*VALUES, *(f"error: {name}" for name in ERRORS)])
def test_value_whose_code_raises_passes_through_calls(name, saves, backend, caplog):
    value = ERRORS[name[7:]]() if name.startswith("error: ") else VALUES[name]()

    async def give():
        return value

    def give_in_thread():
        return value

    async def main():
        async with session(saves) as opened:
            check_same(await rt.call(same, value), value)
            check_same(await rt.call(by_name, token=value), value)
            check_same(await rt.call(give), value)
            check_same(await rt.call(give_in_thread), value)
            check_same(await rt.call(put, value), value)
            check_same(await rt.call(put_under, value), value)
            check_same((await rt.call_batch(same, [value]))[0], value)
        return opened

    check_record(anyio.run(main, backend=backend), caplog)


@pytest.mark.parametrize("saves", [False, True], ids=["not saved", "saved"])
@pytest.mark.parametrize("name", ERRORS)
def test_exception_whose_code_raises_reaches_the_caller(name, saves, backend, caplog):
    error = ERRORS[name]()

    async def fail():
        raise error

    async def pass_on():
        return await rt.call(fail)

    async def main():
        async with session(saves) as opened:
            for node in (fail, pass_on):
                caught = None
                try:
                    await rt.call(node)
                except BaseException as exc:
                    caught = exc
                check_same(caught, error)
        return opened

    opened = anyio.run(main, backend=backend)
    assert [record.status for record in opened.info.records] == [rt.state.Status.FAILED] * 3
    check_record(opened, caplog)


@pytest.mark.parametrize("exit_error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("saves", [False, True], ids=["not saved", "saved"])
def test_ctrl_c_in_a_repr_goes_on(exit_error, saves, backend):
    class Interrupted:
        is_first = True

        def __repr__(self):
            if Interrupted.is_first:
                Interrupted.is_first = False
                raise exit_error
            return "Interrupted()"

    async def main():
        async with session(saves):
            await rt.call(same, {"token": Interrupted()})

    with pytest.raises(exit_error):
        anyio.run(main, backend=backend)
