"""The pytest plugin; pytest finds it by itself where Railtracks is installed.

Fixtures: ``rt_backend``, ``virtual_clock``, ``rt_session``, ``simulated``. An async test that uses one of them runs in
virtual time, on both backends. A test that fails shows the calls of its sessions, and ``--railtracks-leaks`` fails
those that leave something behind.

What it needs of Railtracks is imported where it is used: pytest loads this module in each of its runs, also in those
of projects that only happen to have Railtracks installed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from railtracks import Session
    from railtracks.testing import Outcome, VirtualClock

BACKENDS = ("asyncio", "trio")
FIXTURES = {"rt_session", "virtual_clock", "simulated"}
SHOWN = 3
"""Sessions of a failed test that are shown: the latest."""
THREAD_END = 0.2
"""Real seconds that a thread has to end after its test."""


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
    """The backend: "asyncio", and then "trio". Override it to have one of them only."""
    return str(request.param)


@pytest.fixture
def virtual_clock(rt_backend: str) -> VirtualClock:  # noqa: ARG001 (so that it is there for both)
    """The clock of the test: ``now``, ``hold()``, ``jump(seconds)``. An async test that uses it runs on it."""
    from railtracks.testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def rt_session(request: pytest.FixtureRequest, rt_backend: str) -> Session:  # noqa: ARG001 (the same)
    """A session that is open while the test runs, in virtual time; its options are those of the ``railtracks`` mark.

    It keeps its state in memory, and logs nothing, unless the mark says otherwise.
    """
    if not iscoroutinefunction(request.function):
        raise pytest.UsageError(
            f"{request.node.name} uses rt_session, which needs an event loop: write `async def`, or use `simulated`"
        )
    return None  # type: ignore[return-value]  # it is opened in the event loop of the test; see pytest_pyfunc_call


class Simulated:
    """What the fixture ``simulated`` gives: ``simulate`` on the backend of the test, and ``check``."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that uses one of the fixtures, in virtual time."""
    if not iscoroutinefunction(pyfuncitem.obj) or FIXTURES.isdisjoint(pyfuncitem.fixturenames):
        return None
    from railtracks.testing import VirtualClock, run

    arguments = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.obj).parameters}
    given: dict[str, Any] = pyfuncitem.funcargs
    clock: VirtualClock = given.get("virtual_clock") or VirtualClock()
    mark = pyfuncitem.get_closest_marker("railtracks")
    options = {} if mark is None else dict(mark.kwargs)
    seed = options.pop("seed", None)
    watch = _watch_of(pyfuncitem)
    body = partial(_in_session, pyfuncitem.obj, arguments, options, watch)
    run(body, backend=given["rt_backend"], seed=seed, clock=clock)
    return True


async def _in_session(
    test: Callable[..., Any], arguments: dict[str, Any], options: dict[str, Any], watch: Watch
) -> None:
    from anyio.lowlevel import checkpoint

    from railtracks import Session
    from railtracks.state import MemoryStore
    from railtracks.testing._whereabouts import described, tasks

    before = set(tasks())
    if "rt_session" in arguments:
        async with Session(**{"store": MemoryStore(), "logging_setting": "NONE", **options}) as session:
            await test(**{**arguments, "rt_session": session})
    else:
        await test(**arguments)
    for _ in range(3):
        await checkpoint()  # for callbacks of tasks that have ended
    watch.tasks += [described(coroutine) for task, coroutine in tasks().items() if task not in before]


# ---- what a test does


class Watch:
    """The sessions of one test, and what it leaves behind; an observer of all sessions that it opens."""

    sees_calls = False

    def __init__(self) -> None:
        self.latest: deque[Any] = deque(maxlen=SHOWN)
        self.open: dict[Any, None] = {}
        self.tasks: list[str] = []  # where those wait that were left when an event loop ended
        self.threads = set(threading.enumerate())

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

    def left(self) -> list[str]:
        """What is still there, by name."""
        from railtracks.testing._threads_seen import is_pooled

        found = [f"the session {session.identifier}" for session in self.open]
        found += [f"a task that waits in {place}" for place in self.tasks]
        deadline = time.monotonic() + THREAD_END
        for thread in set(threading.enumerate()) - self.threads:
            if not is_pooled(thread):
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():
                    found.append(f"the thread {thread.name}")
        return found


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

    from railtracks.testing._whereabouts import described

    cancel_all: Callable[[Any], None] = runners._cancel_all_tasks  # type: ignore[attr-defined]

    def tell(loop: Any) -> None:
        watch.tasks += sorted(described(task.get_coro()) for task in all_tasks(loop))
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
        coloured = item.config.get_terminal_writer().hasmarkup
        for session in watch.latest:
            if session.info.records:
                report.sections.append((f"railtracks session {session.identifier}", _picture(session.info, coloured)))
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
            console.print(_report.rich_call_tree(info))
        return capture.get()
    return _report.call_tree(info)
