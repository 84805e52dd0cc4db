"""The pytest plugin, which is active wherever Railtracks is installed.

Fixtures: ``rt_session``, ``virtual_clock``, ``simulated``, ``rt_backend``. An async test that uses one of the first two
runs in virtual time, on both backends. The report of a failed test shows the calls of its sessions, and
``--railtracks-leaks`` fails tests that leave something behind.

``railtracks.testing`` is imported where it is used, because it imports both event loops, and pytest loads this module
in each of its runs, even in projects that only happen to have Railtracks installed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from railtracks._test_probe import BACKENDS
from railtracks.pytest_plugin._leaks import LeakDetector, report_cancelled_tasks
from railtracks.pytest_plugin._orders import ATTRIBUTE as ORDERS
from railtracks.pytest_plugin._orders import OrderCounter, write_summary
from railtracks.pytest_plugin._virtual_tests import (
    FIXTURES,
    FixtureProxy,
    VirtualTest,
    forget_fixture,
    note_fixture,
    run_test,
    virtual_test_of,
)

if TYPE_CHECKING:
    from railtracks import Session
    from railtracks.testing import Outcome, VirtualClock

_ENDINGS = (pytest.fail.Exception, pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
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
        "markers",
        "railtracks(seed=None, world='real', start=None, schedule=None, **options): "
        "the options of rt_session, and of the test's run and its clock",
    )


# ---- fixtures


@pytest.fixture(scope="module", params=BACKENDS)  # module scope, because Hypothesis rejects fixtures of function scope
def rt_backend(request: pytest.FixtureRequest) -> str:
    """Return the backend: "asyncio", then "trio". To have only one, override it with ``scope="module"``."""
    return str(request.param)


@pytest.fixture(scope="module")
def virtual_clock(rt_backend: str) -> VirtualClock:  # noqa: ARG001 (it makes the test run on both)
    """Return the clock that an async test runs on: ``now``, ``hold()``, ``jump(seconds)``."""
    return FixtureProxy("virtual_clock", _clock_class)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def rt_session(rt_backend: str) -> Session:  # noqa: ARG001 (it makes the test run on both)
    """Return a session that is open while the test runs, in virtual time, with the options of the ``railtracks`` mark.

    It keeps its state in memory and logs nothing, unless the mark says otherwise. Each test has its own, and so does
    each example of Hypothesis.
    """
    return FixtureProxy("rt_session", _session_class)  # type: ignore[return-value]  # the session is opened in the event loop of the test


def _session_class() -> type[Session]:
    from railtracks import Session

    return Session


def _clock_class() -> type[VirtualClock]:
    from railtracks.testing import VirtualClock

    return VirtualClock


class Simulated:
    """The value of the fixture ``simulated``: ``simulate`` on the backend of the test, and ``check``."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __repr__(self) -> str:  # Hypothesis shows it
        return f"<simulated on {self.backend}>"

    def __call__(
        self,
        target: Any,
        /,
        *args: Any,
        raises: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        allow_unused_faults: bool = False,
        **options: Any,
    ) -> Outcome:
        """Run a flow or node once, as ``railtracks.testing.simulate`` does, and ``check`` the outcome.

        Args:
            target: A flow, or anything that ``rt.call`` takes.
            *args: Its arguments.
            raises: The class, or classes, of the exception that must leave the run; it is in the outcome then. Ctrl-C
                always leaves it.
            allow_unused_faults: Whether faults may be left over because no such call was made.
            **options: Other arguments of ``simulate``, except ``backend``, which is that of the test.

        Returns:
            The outcome.

        Raises:
            Violation: an invariant does not hold.
            Failed: the test fails, as nothing that ``raises`` names has left the run, or a fault was never used.
            BaseException: what has left the run, as the same object, unless ``raises`` names it. What
                ``pytest.fail``, ``skip``, ``xfail`` and ``exit`` raise comes out first. After ``faults.Kill`` nothing
                is raised: the process that would see it has died.
            ConfigError: ``raises`` is not allowed; or as ``simulate``, and other errors of that.
        """
        from railtracks.testing import check
        from railtracks.testing._arguments import as_exception_types
        from railtracks.testing._simulation._injection import ProcessKilled
        from railtracks.testing._simulation._simulate import simulate_any

        kinds = as_exception_types("simulated", raises)
        keeps_exit = any(issubclass(SystemExit, kind) for kind in kinds)
        outcome = simulate_any(keeps_exit, target, *args, backend=self.backend, **options)
        exc = outcome.exception
        if exc is not None and (ending := _ending_in(exc)) is not None:
            raise ending
        check(outcome)
        if outcome.unused_faults and not allow_unused_faults:
            called = ", ".join(sorted({record.name for each in outcome.sessions for record in each.info.records}))
            pytest.fail(
                f"{', '.join(map(repr, outcome.unused_faults))} was never used; the run has called "
                f"{called or 'nothing'}. Correct it, or pass allow_unused_faults=True\n\n{outcome}"
            )
        if exc is None and raises is not None:
            pytest.fail(f"DID NOT RAISE {raises!r}: the run {outcome.end}\n\n{outcome}")
        if exc is not None and not isinstance(exc, (*kinds, ProcessKilled)):
            raise exc
        return outcome


def _ending_in(exc: BaseException) -> BaseException | None:
    """Return the exception by which pytest ends a test or all of them, if this is one, or a group with one."""
    from railtracks._test_probe import leaves_of

    return next((leaf for leaf in leaves_of(exc) if isinstance(leaf, _ENDINGS)), None)


@pytest.fixture(scope="module")
def simulated(rt_backend: str) -> Callable[..., Outcome]:
    """Return ``simulate`` and ``check`` in one function.

    Use it as in ``outcome = simulated(flow, *args, seed=0, faults=[...])``.
    """
    return Simulated(rt_backend)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Note the fixtures with which a test cannot run in virtual time."""
    note_fixture(fixturedef, request)
    return (yield)


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Forget the fixtures that were torn down."""
    forget_fixture(fixturedef, request)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that uses one of the fixtures in virtual time, as a plain function of pytest."""
    virtual = pyfuncitem.stash.get(_VIRTUAL, None)
    if virtual is None:
        return (yield)

    def run_virtually(**arguments: Any) -> None:
        pyfuncitem.stash[_HAS_RUN] = True
        run_test(pyfuncitem, virtual.function, pyfuncitem.stash[_DETECTOR], arguments)

    run_virtually.__name__ = virtual.function.__name__  # Hypothesis shows it
    replaced = getattr(virtual.owner, virtual.attribute)  # by another plugin, most likely
    setattr(virtual.owner, virtual.attribute, run_virtually)
    try:
        return (yield)
    finally:
        setattr(virtual.owner, virtual.attribute, replaced)


# ---- the sessions of a test, and what it leaves behind

_DETECTOR = pytest.StashKey[LeakDetector]()
_VIRTUAL = pytest.StashKey[VirtualTest]()
_HAS_RUN = pytest.StashKey[bool]()
_ORDERS = pytest.StashKey[OrderCounter]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Observe the sessions that the test opens, and with ``--railtracks-leaks`` the tasks that it leaves."""
    import attrs

    from railtracks._test_hooks import runtime_hooks

    detector = item.stash[_DETECTOR] = LeakDetector()
    virtual = virtual_test_of(item)  # before other plugins replace its function
    if virtual is not None:
        item.stash[_VIRTUAL] = virtual
    token = runtime_hooks.set(attrs.evolve(runtime_hooks.get(), observer=detector))
    try:
        leaks = report_cancelled_tasks(detector) if item.config.getoption("--railtracks-leaks") else nullcontext()
        with leaks, item.stash.setdefault(_ORDERS, OrderCounter()).noting():
            yield
    finally:
        runtime_hooks.reset(token)
        if virtual is not None:  # pytest-trio leaves its own in a test of Hypothesis, which has other parameters too
            setattr(virtual.owner, virtual.attribute, virtual.function)
    if virtual is not None and not item.stash.get(_HAS_RUN, False):
        pytest.fail(
            f"{item.name} was not run in virtual time, although it uses {_fixtures_of(item)}: the plugin "
            f"{type(item).__module__.partition('.')[0]} has run it in its own way; take its mark, or its automatic "
            f"mode, from this test",
            pytrace=False,
        )


def _fixtures_of(item: pytest.Item) -> str:
    return " and ".join(sorted(FIXTURES.intersection(getattr(item, "fixturenames", ()))))


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
    if call.when == "call" and _ORDERS in item.stash:
        setattr(report, ORDERS, item.stash[_ORDERS].counts())
        del item.stash[_ORDERS]
    detector = item.stash.get(_DETECTOR, None)
    if report.failed and call.when == "call" and detector is not None:
        error = None if call.excinfo is None else call.excinfo.value
        infos = [session.info for session in detector.latest]
        if type(error).__module__ == "railtracks.testing.invariants":  # a Violation: show the run that it is about
            infos = [error.outcome.info]  # type: ignore[union-attr]
        elif detector.outcome is not None:
            report.sections.append(("railtracks story of the last run", _story_of(detector.outcome)))
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        coloured = reporter is not None and reporter.hasmarkup
        for info in [info for info in infos if info.records][-SHOWN:]:
            try:
                shown = _render_calls(info, coloured)
            except Exception as exc:  # the report of the test is what counts
                shown = f"the calls cannot be shown: {exc!r}"
            report.sections.append((f"railtracks session {info.session_id}", shown))
    return report


def _story_of(outcome: Any) -> str:
    """Return the last events of a run, and how to repeat it."""
    from railtracks.testing._simulation._outcome import earlier_stories
    from railtracks.testing._simulation._report import latest_events

    story = f"{earlier_stories(outcome)}{latest_events(outcome.trace, outcome.calls)}"
    return f"{story}\n\nthe run {outcome.end_after}; to see it again:\n  {outcome.code}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write how many orders of tasks the tests have tried."""
    write_summary(terminalreporter)


def _render_calls(info: Any, coloured: bool) -> str:
    """Return the tree of calls, in colours if the terminal has them and ``rich`` is installed."""
    if not coloured:
        return str(info)
    try:
        from rich.console import Console
    except ImportError:
        return str(info)
    console = Console(force_terminal=True, width=120)
    with console.capture() as capture:
        console.print(info, soft_wrap=True)
    return capture.get()
