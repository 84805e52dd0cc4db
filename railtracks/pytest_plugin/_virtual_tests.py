"""Async tests in virtual time: which tests these are, and how each is run, whatever other plugins make of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, signature
from typing import Any, NamedTuple

import pytest

from railtracks.pytest_plugin._leaks import LeakDetector

FIXTURES = {"rt_session", "virtual_clock", "simulated"}  # `simulated` cannot work in async code, and says so


OPTIONS_OF_RUN = ("seed", "world", "start", "schedule")
"""The arguments of the mark ``railtracks`` that are those of ``railtracks.testing.run``."""
OPTIONS_OF_CLOCK = ("max_steps", "max_total_steps", "patience")
"""Those that are arguments of its ``VirtualClock``."""
_OF_ANYIO = pytest.StashKey[set[pytest.FixtureDef[Any]]]()
"""The async fixtures that anyio's plugin has set up."""


class FixtureProxy:
    """Stands for the session or the clock of a test in other fixtures, which are set up before the event loop runs.

    Args:
        name: The name of the fixture.
        kind: Returns the class of its value.
    """

    def __init__(self, name: str, kind: Callable[[], type]) -> None:
        self._name = name
        self._kind = kind
        self.value: Any = None  # while a test runs

    def __getattr__(self, attribute: str) -> Any:
        if self.value is None:
            if not hasattr(self._kind(), attribute):  # as others ask of any value
                raise AttributeError(attribute)
            raise pytest.UsageError(
                f"{self._name} is open only while the test runs; use it in the test, not in fixtures"
            )
        return getattr(self.value, attribute)

    def __repr__(self) -> str:  # Hypothesis shows it
        return f"<{self._name}>"


class VirtualTest(NamedTuple):
    """An async test that uses one of the fixtures."""

    owner: Any
    """The item of pytest, or what Hypothesis knows of the test."""
    attribute: str
    """The attribute of ``owner`` that has the function; other plugins replace it."""
    function: Callable[..., Any]


def virtual_test_of(item: pytest.Item) -> VirtualTest | None:
    """Return the test, before other plugins have replaced its function; None if it does not run in virtual time.

    Raises:
        UsageError: It uses ``rt_session``, or has the argument ``virtual_clock``, and is not async.
    """
    if not isinstance(item, pytest.Function) or FIXTURES.isdisjoint(item.fixturenames):
        return None
    given = getattr(item.obj, "hypothesis", None)
    for owner, attribute in ((item, "obj"), (given, "inner_test")):
        function = getattr(owner, attribute, None)
        if iscoroutinefunction(function):
            return VirtualTest(owner, attribute, function)
    asked = "rt_session" if "rt_session" in item.fixturenames else "virtual_clock"
    if asked == "rt_session" or asked in signature(item.obj).parameters:  # another fixture may use the clock, or a mark
        raise pytest.UsageError(
            f"{item.name} uses {asked}, which needs an event loop; write `async def`, or use `simulated`"
        )
    return None


def run_test(
    item: pytest.Function, test: Callable[..., Any], detector: LeakDetector, arguments: dict[str, Any]
) -> None:
    """Run a test once, in virtual time; with Hypothesis, one of its examples.

    Args:
        item: The item of pytest.
        test: Its async function.
        detector: What notes the tasks that it leaves.
        arguments: The values of its fixtures, and those that Hypothesis has drawn.
    """
    from railtracks._test_probe import leaves_of
    from railtracks.testing import VirtualClock, run

    _check_fixtures(item, arguments)
    of_run, of_clock, options = _options_of(item)
    clock = VirtualClock(**of_clock)
    if "virtual_clock" in item.fixturenames:
        arguments = {**arguments, **_replaced(item, arguments, "virtual_clock", clock)}
    body = partial(test, **arguments)
    if "rt_session" in item.fixturenames:
        body = partial(_in_session, item, test, arguments, options)
    try:
        run(  # which keeps sessions in memory: other tests have sessions of the same identifiers at the same time
            _detect_task_leaks, body, detector, backend=str(item.funcargs["rt_backend"]), clock=clock, **of_run
        )
    except BaseExceptionGroup as group:
        # pytest has to get these as they are, even if they were raised in a task group.
        ends, _ = group.split((pytest.exit.Exception, KeyboardInterrupt, SystemExit))
        if ends is None:
            raise
        raise next(leaves_of(ends)) from group
    finally:
        for value in item.funcargs.values():
            if isinstance(value, FixtureProxy):
                value.value = None


def note_fixture(fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Note an async fixture that anyio's plugin is about to set up: it keeps an event loop open from then on."""
    if "anyio_backend" in request.fixturenames and (
        iscoroutinefunction(fixture.func) or isasyncgenfunction(fixture.func)
    ):
        request.config.stash.setdefault(_OF_ANYIO, set()).add(fixture)


def forget_fixture(fixture: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Forget a fixture that was torn down."""
    request.config.stash.get(_OF_ANYIO, set()).discard(fixture)


def _check_fixtures(item: pytest.Function, arguments: dict[str, Any]) -> None:
    """Check that no plugin has an async fixture open in an event loop of its own.

    Raises:
        UsageError: One has, that of the test, or of its module or session.
    """
    for name, value in arguments.items():
        if type(value).__module__.partition(".")[0] == "pytest_trio":
            raise pytest.UsageError(
                f"{name} is an async fixture of pytest-trio, which the fixtures of Railtracks do not wait for; open it "
                f"in the test, with `async with`"
            )
    names = sorted(fixture.argname for fixture in item.config.stash.get(_OF_ANYIO, set()))
    if names:
        raise pytest.UsageError(
            f"{names[0]} is an async fixture, for which the plugin of anyio keeps an event loop open (anyio_mode=auto, "
            f"or the mark anyio), so that the fixtures of Railtracks can have none; open it in the test, with "
            f"`async with`"
        )


def _replaced(item: pytest.Function, arguments: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Give the proxy of a fixture its value, and return the argument of that name, if the test has it."""
    proxy = item.funcargs[name]
    if isinstance(proxy, FixtureProxy):  # or the user has overridden the fixture
        proxy.value = value
        return {name: value} if name in arguments else {}
    return {}


def _options_of(item: pytest.Item) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the options of the run, of its clock, and of the session, in a test's mark."""
    mark = item.get_closest_marker("railtracks")
    options = {} if mark is None else dict(mark.kwargs)
    of_run, of_clock = (
        {name: options.pop(name) for name in names if name in options} for names in (OPTIONS_OF_RUN, OPTIONS_OF_CLOCK)
    )
    return of_run, of_clock, options


async def _in_session(
    item: pytest.Function, test: Callable[..., Any], arguments: dict[str, Any], options: dict[str, Any]
) -> None:
    from railtracks import Session
    from railtracks._test_hooks import harness_options
    from railtracks.state import MemoryStore

    harness_options.set({"store": MemoryStore(), "logging_setting": "NONE"})  # also for sessions that nodes open
    async with Session(**options) as session:
        await test(**{**arguments, **_replaced(item, arguments, "rt_session", session)})


async def _detect_task_leaks(test: Callable[[], Awaitable[None]], detector: LeakDetector) -> None:
    from railtracks.testing._virtual_time._tasks import tasks, tasks_left

    before = set(tasks())
    await test()
    detector.add_tasks(await tasks_left(before))
