"""The pytest plugin; pytest finds it by itself where Railtracks is installed.

Fixtures: ``rt_session``, ``virtual_clock``, ``simulated``, ``rt_backend``. An async test with one of the first two
runs in virtual time, on both backends. A test that fails shows the calls of its sessions, and
``--railtracks-leaks`` fails those that leave something behind.

``railtracks.testing`` is imported where it is used: pytest loads this module in each of its runs, also in those of
projects that only happen to have Railtracks installed, and it brings both event loops with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

from railtracks._config import BACKENDS

if TYPE_CHECKING:
    from railtracks import Session
    from railtracks.testing import Outcome, VirtualClock

FIXTURES = {"rt_session", "virtual_clock", "simulated"}  # the last cannot work in async code, and says so
SHOWN = 3
"""Sessions of a failed test that are shown: the latest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("railtracks")
    group.addoption(
        "--railtracks-leaks",
        action="store_true",
        help="fail each test that leaves a session, a task or a thread behind",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "railtracks(seed=None, **options): the options of rt_session, and the seed of the run it is in"
    )


# ---- fixtures


@pytest.fixture(scope="module", params=BACKENDS)  # not of function scope, so that Hypothesis lets it be used
def rt_backend(request: pytest.FixtureRequest) -> str:
    """The backend: "asyncio", and then "trio". Override it, with ``scope="module"``, to have one of them only."""
    return str(request.param)


@pytest.fixture
def virtual_clock(rt_backend: str) -> VirtualClock:  # noqa: ARG001 (so that there are both)
    """The clock of an async test, which runs on it: ``now``, ``hold()``, ``jump(seconds)``."""
    from railtracks.testing import VirtualClock

    return VirtualClock()


class _Later:
    """Stands for the session in other fixtures, which are set up before the event loop runs."""

    def __init__(self) -> None:
        self._session: Session | None = None  # while the test runs

    def __getattr__(self, name: str) -> Any:
        if self._session is None:
            raise pytest.UsageError("rt_session is open while the test runs, and not yet in its fixtures")
        return getattr(self._session, name)


@pytest.fixture
def rt_session(request: pytest.FixtureRequest, rt_backend: str) -> Session:  # noqa: ARG001 (the same)
    """A session that is open while the test runs, in virtual time; its options are those of the ``railtracks`` mark.

    It keeps its state in memory, and logs nothing, unless the mark says otherwise.
    """
    if not iscoroutinefunction(request.function):
        raise pytest.UsageError(
            f"{request.node.name} uses rt_session, which needs an event loop: write `async def`, or use `simulated`"
        )
    return _Later()  # type: ignore[return-value]  # it is opened in the event loop of the test


class Simulated:
    """What the fixture ``simulated`` gives: ``simulate`` on the backend of the test, and ``check``."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __repr__(self) -> str:  # Hypothesis shows it
        return f"<simulated on {self.backend}>"

    def __call__(self, target: Any, /, *args: Any, **options: Any) -> Outcome:
        """Run a flow or node once, as ``railtracks.testing.simulate`` does, and ``check`` the outcome.

        Raises: Violation, and what ``simulate`` raises.
        """
        from railtracks.testing import check, simulate

        outcome = simulate(target, *args, backend=self.backend, **options)
        check(outcome)
        return outcome


@pytest.fixture(scope="module")
def simulated(rt_backend: str) -> Callable[..., Outcome]:
    """``simulate`` and ``check``, on both backends: ``outcome = simulated(flow, *args, seed=0, faults=[...])``."""
    return Simulated(rt_backend)


def _options_of(item: pytest.Item) -> tuple[int | None, dict[str, Any]]:
    """The seed and the session options of a test's mark."""
    mark = item.get_closest_marker("railtracks")
    options = {} if mark is None else dict(mark.kwargs)
    return options.pop("seed", None), options


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that uses one of the fixtures, in virtual time: for pytest it is a plain function then."""
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
    from railtracks.execution._groups import first_leaf
    from railtracks.testing import run

    given: dict[str, Any] = item.funcargs
    seed, options = _options_of(item)
    body = partial(test, **arguments)
    if "rt_session" in item.fixturenames:
        body = partial(_in_session, test, arguments, options, given["rt_session"])
    try:
        run(_watched, body, _watch_of(item), backend=given["rt_backend"], seed=seed, clock=given.get("virtual_clock"))
    except BaseExceptionGroup as group:
        # pytest should see these as they are, also from within a task group.
        ends, _ = group.split((pytest.exit.Exception, KeyboardInterrupt, SystemExit))
        if ends is None:
            raise
        raise first_leaf(ends) from group


async def _in_session(
    test: Callable[..., Any], arguments: dict[str, Any], options: dict[str, Any], later: _Later
) -> None:
    from railtracks import Session
    from railtracks._config import scoped
    from railtracks.state import MemoryStore

    scoped.set({"store": MemoryStore(), "logging_setting": "NONE"})  # for those that nodes open, too
    async with Session(**options) as session:
        later._session = session
        await test(**{key: session if key == "rt_session" else value for key, value in arguments.items()})


async def _watched(test: Callable[[], Awaitable[None]], watch: Watch) -> None:
    from railtracks.testing._whereabouts import tasks, tasks_left

    before = set(tasks())
    await test()
    watch.tell(await tasks_left(before))


# ---- what a test does


class Watch:
    """The sessions of one test, and what it leaves behind; an observer of all sessions that it opens."""

    sees_calls = False

    def __init__(self) -> None:
        self.latest: deque[Any] = deque(maxlen=4 * SHOWN)  # some may have no calls
        self.open: dict[Any, None] = {}
        self.tasks: dict[Any, str] = {}  # those that were left when an event loop ended, and where they wait
        self.threads: set[threading.Thread] = set(threading.enumerate())

    def opened(self, session: Any) -> None:
        self.latest.append(session)
        self.open[session] = None

    def closed(self, session: Any) -> None:
        self.open.pop(session, None)

    def happened(self, event: Any) -> None:
        raise AssertionError("sees_calls is False")

    def refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        raise AssertionError("sees_calls is False")

    def changed(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        raise AssertionError("sees_calls is False")

    def tell(self, tasks: dict[Any, Any]) -> None:
        """These tasks, with their coroutines, are left."""
        from railtracks.testing._whereabouts import described

        self.tasks.update({task: described(coroutine) for task, coroutine in tasks.items() if task not in self.tasks})

    def left(self) -> list[str]:
        """What is still there, by name."""
        from railtracks.testing._threads_seen import threads_left

        found = [f"the session {session.identifier}" for session in self.open]
        found += [f"a task that waits in {place}" for place in sorted(self.tasks.values())]
        return found + threads_left(self.threads)


_WATCH = pytest.StashKey[Watch]()


def _watch_of(item: pytest.Item) -> Watch:
    return item.stash[_WATCH]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    import attrs

    from railtracks._ids import sources

    watch = item.stash[_WATCH] = Watch()
    token = sources.set(attrs.evolve(sources.get(), observer=watch))
    try:
        if item.config.getoption("--railtracks-leaks"):
            with _tasks_told(watch):
                yield
        else:
            yield
    finally:
        sources.reset(token)


@contextmanager
def _tasks_told(watch: Watch) -> Iterator[None]:
    """An event loop of asyncio cancels, when it ends, what is left; say what that was."""
    from asyncio import all_tasks, runners

    cancel_all: Callable[[Any], None] = runners._cancel_all_tasks  # type: ignore[attr-defined]

    def tell(loop: Any) -> None:
        watch.tell({task: task.get_coro() for task in all_tasks(loop)})
        cancel_all(loop)

    runners._cancel_all_tasks = tell  # type: ignore[attr-defined]
    try:
        yield
    finally:
        runners._cancel_all_tasks = cancel_all  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    watch = item.stash.get(_WATCH, None)
    if watch is None:
        return
    del item.stash[_WATCH]
    if item.config.getoption("--railtracks-leaks") and (left := watch.left()):
        pytest.fail(f"{item.name} left behind: {', '.join(left)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    watch = item.stash.get(_WATCH, None)
    if report.failed and call.when == "call" and watch is not None:
        error = None if call.excinfo is None else call.excinfo.value
        infos = [session.info for session in watch.latest]
        if type(error).__module__ == "railtracks.testing.invariants":  # a Violation: that run, and no other
            infos = [error.outcome.info]  # type: ignore[union-attr]
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        coloured = reporter is not None and reporter.hasmarkup
        for info in [info for info in infos if info.records][-SHOWN:]:
            report.sections.append((f"railtracks session {info.session_id}", _picture(info, coloured)))
    return report


def _picture(info: Any, coloured: bool) -> str:
    """The tree of calls; by rich, if it is there and the terminal has colours."""
    from railtracks.testing import _report

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
