"""The pytest plugin, which is active wherever Railtracks is installed.

Fixtures: ``rt_session``, ``virtual_clock``, ``simulated``, ``rt_backend``. An async test that uses one of the first two
runs in virtual time, on both backends. The report of a failed test shows the calls of its sessions, and
``--railtracks-leaks`` fails tests that leave something behind.

``railtracks.testing`` is imported where it is used, because it imports both event loops, and pytest loads this module
in each of its runs, even in projects that only happen to have Railtracks installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import nullcontext
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

from railtracks._test_probe import BACKENDS
from railtracks.pytest_plugin._leaks import LeakDetector, report_cancelled_tasks

if TYPE_CHECKING:
    from railtracks import Session
    from railtracks.testing import Outcome, VirtualClock

FIXTURES = {"rt_session", "virtual_clock", "simulated"}  # `simulated` cannot work in async code, and says so
SHOWN = 3
"""How many sessions of a failed test are shown, the latest ones."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--railtracks-leaks``."""
    group = parser.getgroup("railtracks")
    group.addoption(
        "--railtracks-leaks",
        action="store_true",
        help="fail each test that leaves a session, a task or a thread behind",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark ``railtracks``."""
    config.addinivalue_line(
        "markers", "railtracks(seed=None, **options): the options of rt_session, and the seed of the test's run"
    )


# ---- fixtures


@pytest.fixture(scope="module", params=BACKENDS)  # module scope, because Hypothesis rejects fixtures of function scope
def rt_backend(request: pytest.FixtureRequest) -> str:
    """Return the backend: "asyncio", then "trio". To have only one, override it with ``scope="module"``."""
    return str(request.param)


@pytest.fixture
def virtual_clock(rt_backend: str) -> VirtualClock:  # noqa: ARG001 (it makes the test run on both)
    """Return the clock that an async test runs on: ``now``, ``hold()``, ``jump(seconds)``."""
    from railtracks.testing import VirtualClock

    return VirtualClock()


class _SessionProxy:
    """Stands for the session in other fixtures, which are set up before the event loop runs."""

    def __init__(self) -> None:
        self._session: Session | None = None  # while the test runs

    def __getattr__(self, name: str) -> Any:
        if self._session is None:
            raise pytest.UsageError("rt_session is open only while the test runs; use it in the test, not in fixtures")
        return getattr(self._session, name)


@pytest.fixture
def rt_session(request: pytest.FixtureRequest, rt_backend: str) -> Session:  # noqa: ARG001 (the same)
    """Return a session that is open while the test runs, in virtual time, with the options of the ``railtracks`` mark.

    It keeps its state in memory and logs nothing, unless the mark says otherwise.
    """
    if not iscoroutinefunction(request.function):
        raise pytest.UsageError(
            f"{request.node.name} uses rt_session, which needs an event loop; write `async def`, or use `simulated`"
        )
    return _SessionProxy()  # type: ignore[return-value]  # the session is opened in the event loop of the test


class Simulated:
    """The value of the fixture ``simulated``: ``simulate`` on the backend of the test, and ``check``."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __repr__(self) -> str:  # Hypothesis shows it
        return f"<simulated on {self.backend}>"

    def __call__(self, target: Any, /, *args: Any, **options: Any) -> Outcome:
        """Run a flow or node once, as ``railtracks.testing.simulate`` does, and ``check`` the outcome.

        Args:
            target: A flow, or anything that ``rt.call`` takes.
            *args: Its arguments.
            **options: Other arguments of ``simulate``, except ``backend``.

        Returns:
            The outcome.

        Raises:
            Violation: an invariant does not hold.
            Exception: as ``simulate``.
        """
        from railtracks.testing import check, simulate

        outcome = simulate(target, *args, backend=self.backend, **options)
        check(outcome)
        return outcome


@pytest.fixture(scope="module")
def simulated(rt_backend: str) -> Callable[..., Outcome]:
    """Return ``simulate`` and ``check`` in one function.

    Use it as in ``outcome = simulated(flow, *args, seed=0, faults=[...])``.
    """
    return Simulated(rt_backend)


def _options_of(item: pytest.Item) -> tuple[int | None, dict[str, Any]]:
    """Return the seed and the session options of a test's mark."""
    mark = item.get_closest_marker("railtracks")
    options = {} if mark is None else dict(mark.kwargs)
    return options.pop("seed", None), options


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that uses one of the fixtures in virtual time, as a plain function of pytest."""
    test = pyfuncitem.obj
    if not iscoroutinefunction(test) or FIXTURES.isdisjoint(pyfuncitem.fixturenames):
        return (yield)

    def run_virtually(**arguments: Any) -> None:
        _run(pyfuncitem, test, arguments)

    pyfuncitem.obj = run_virtually
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


def _run(item: pytest.Function, test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    from railtracks.testing import run
    from railtracks.testing._simulation._promise import leaves_of

    fixtures: dict[str, Any] = item.funcargs
    seed, options = _options_of(item)
    body = partial(test, **arguments)
    if "rt_session" in item.fixturenames:
        body = partial(_in_session, test, arguments, options, fixtures["rt_session"])
    try:
        run(
            _detect_task_leaks,
            body,
            item.stash[_DETECTOR],
            backend=fixtures["rt_backend"],
            seed=seed,
            clock=fixtures.get("virtual_clock"),
        )
    except BaseExceptionGroup as group:
        # pytest has to get these as they are, even if they were raised in a task group.
        ends, _ = group.split((pytest.exit.Exception, KeyboardInterrupt, SystemExit))
        if ends is None:
            raise
        raise next(leaves_of(ends)) from group


async def _in_session(
    test: Callable[..., Any], arguments: dict[str, Any], options: dict[str, Any], proxy: _SessionProxy
) -> None:
    from railtracks import Session
    from railtracks._test_hooks import harness_options
    from railtracks.state import MemoryStore

    harness_options.set({"store": MemoryStore(), "logging_setting": "NONE"})  # also for sessions that nodes open
    async with Session(**options) as session:
        proxy._session = session
        await test(**{key: session if key == "rt_session" else value for key, value in arguments.items()})


async def _detect_task_leaks(test: Callable[[], Awaitable[None]], detector: LeakDetector) -> None:
    from railtracks.testing._virtual_time._tasks import tasks, tasks_left

    before = set(tasks())
    await test()
    detector.add_tasks(await tasks_left(before))


# ---- the sessions of a test, and what it leaves behind

_DETECTOR = pytest.StashKey[LeakDetector]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Observe the sessions that the test opens, and with ``--railtracks-leaks`` the tasks that it leaves."""
    import attrs

    from railtracks._test_hooks import runtime_hooks

    detector = item.stash[_DETECTOR] = LeakDetector()
    token = runtime_hooks.set(attrs.evolve(runtime_hooks.get(), observer=detector))
    try:
        with report_cancelled_tasks(detector) if item.config.getoption("--railtracks-leaks") else nullcontext():
            yield
    finally:
        runtime_hooks.reset(token)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail the test, with ``--railtracks-leaks``, if something is left after its fixtures were torn down."""
    yield
    detector = item.stash.get(_DETECTOR, None)
    if detector is None:
        return
    del item.stash[_DETECTOR]
    if item.config.getoption("--railtracks-leaks") and (leaks := detector.leaks()):
        pytest.fail(f"{item.name} left behind: {', '.join(leaks)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the call trees of the latest sessions to the report of a failed test."""
    report = yield
    detector = item.stash.get(_DETECTOR, None)
    if report.failed and call.when == "call" and detector is not None:
        error = None if call.excinfo is None else call.excinfo.value
        infos = [session.info for session in detector.latest]
        if type(error).__module__ == "railtracks.testing.invariants":  # a Violation: show the run that it is about
            infos = [error.outcome.info]  # type: ignore[union-attr]
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        coloured = reporter is not None and reporter.hasmarkup
        for info in [info for info in infos if info.records][-SHOWN:]:
            report.sections.append((f"railtracks session {info.session_id}", _render_calls(info, coloured)))
    return report


def _render_calls(info: Any, coloured: bool) -> str:
    """Return the tree of calls, in colours if the terminal has them and ``rich`` is installed."""
    from railtracks.testing._simulation import _report

    if coloured:
        try:
            from rich.console import Console
        except ImportError:
            return _report.call_tree(info)
        console = Console(force_terminal=True, width=120)
        with console.capture() as capture:
            console.print(_report.rich_call_tree(info), soft_wrap=True)
        return capture.get()
    return _report.call_tree(info)
