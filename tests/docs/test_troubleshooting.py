"""Each message on docs/troubleshooting.md is what a program prints that makes the mistake."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
import trio

import railtracks as rt
from railtracks.testing import ScriptedModel, answer, simulate, tool_call

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
SECTIONS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL))
MISTAKES: dict[str, Callable[[], object]] = {}


class Log(logging.Handler):
    """The lines that have been logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


log = Log()


def prints(heading: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register a program that prints the text below a heading of the page: an exception, or lines of the log."""

    def register(program: Callable[[], object]) -> Callable[[], object]:
        MISTAKES[heading] = program
        return program

    return register


@rt.function_node
async def fetch(page: int = 1) -> str:
    return f"page {page}"


@rt.function_node
async def load() -> str:
    return await rt.call(fetch, 1)


@rt.function_node
async def fail_once() -> None:
    if not tries:
        tries.append(1)
        raise ConnectionError("the network is down")


tries: list[int] = []


def run(node: Any, *args: object, **options: Any) -> object:
    return rt.Flow("Load", node, **options).invoke(*args)


# ---- installing


@prints("module 'railtracks' has no attribute")
def other_package():
    return types.ModuleType("railtracks").Retry


@prints("the package cannot be imported")
def package_missing():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "anthropic", None)
        rt.llm.Anthropic("claude-sonnet-4-5", api_key="none")


@prints("there is no API key")
def key_missing():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        rt.llm.OpenAI("gpt-5-mini")


# ---- options


@prints("there is no option")
def unknown_option():
    rt.Flow("Load", load, tiemout=3)  # type: ignore[call-overload]


@prints("is not allowed for timeout")
def wrong_value():
    rt.Flow("Load", load, timeout="3 s")  # type: ignore[call-overload]


@prints("environment variable: there is no such variable")
def unknown_variable():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAILTRACKS_TIMOUT", "5")
        rt.Session()


# ---- calls


@prints("was called inside a running event loop")
def blocks_the_loop():
    async def main():
        rt.Flow("Load", load).invoke()

    asyncio.run(main())


@prints("must be called from async context")
def trio_on_asyncio():
    run(trio.sleep, 1, backend="asyncio")


@prints("no running event loop")
def asyncio_on_trio():
    run(asyncio.sleep, 1, backend="trio")


@prints("expected a function, not the coroutine of")
def called_too_early():
    async def main():
        coroutine = load()
        try:
            await rt.call(coroutine)  # type: ignore[call-overload]
        finally:
            coroutine.close()

    asyncio.run(main())


@prints("returned a coroutine, which was not awaited")
def await_forgotten():
    @rt.function_node
    async def both():
        return rt.call(fetch, 1)

    run(both)


@prints("unsupported operand type(s) for +: 'int' and 'ValueError'")
def exceptions_in_the_list():
    @rt.function_node
    async def half(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number

    @rt.function_node
    async def total() -> int:
        results: list[Any] = await rt.call_batch(half, [0, 1])
        return sum(results)

    run(total, logging_setting="NONE")


@prints("came after the call it belongs to had ended")
def task_not_awaited():
    @rt.function_node
    async def begin() -> asyncio.Task[str]:
        return asyncio.create_task(rt.call(fetch))

    async def main():
        async with rt.Session():
            await (await rt.call(begin))

    asyncio.run(main())


@prints("was called outside a session")
def outside():
    rt.context.get("user")


@prints("the context of the flow cannot be copied")
def context_not_copied():
    run(load, context={"lock": threading.Lock()})


@prints("needs a value in the context of the session")
def dependency_missing():
    @rt.function_node
    async def ages(db: dict[str, int] = rt.Depends("db")) -> int:
        return len(db)

    run(ages, logging_setting="NONE")


@prints("cannot be sent to or from a worker")
def not_pickled():
    @rt.function_node(where="process")
    def count(lock: object) -> int:
        return 1

    run(count, threading.Lock(), logging_setting="NONE")


@prints("its worker process was killed")
def worker_killed():
    @rt.function_node(where="process")
    def count(number: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return number

    run(count, 1, logging_setting="NONE")


@prints("opens a session of its own although another one is open")
def lost_context():
    with rt.Session():
        thread = threading.Thread(target=rt.call_sync, args=(fetch,))
        thread.start()
        thread.join()


@prints("was left in another task than it was entered in")
def left_elsewhere():
    async def main():
        session = rt.Session()
        await asyncio.create_task(session.__aenter__())
        await session.__aexit__(None, None, None)

    asyncio.run(main())


# ---- time


@prints("exceeded the timeout of 150 s")
def too_long():
    @rt.function_node
    async def fetch() -> None:
        await anyio.sleep(1000)

    run(fetch, timeout=0.01, save_state=False, logging_setting="NONE")


@prints("exceeded its timeout")
def node_too_long():
    @rt.function_node(timeout=0.01)
    async def recommend() -> None:
        await anyio.sleep(1000)

    run(recommend, save_state=False, logging_setting="NONE")


@prints("has blocked the event loop for")
def blocks():
    @rt.function_node
    async def parse() -> None:
        patience = time.monotonic() + 30
        while not log.records and time.monotonic() < patience:
            time.sleep(0.01)

    run(parse, slow_callback_seconds=0.01)


@prints("was cancelled, but its worker thread goes on")
def thread_goes_on():
    end = threading.Event()

    async def main():
        scope = anyio.CancelScope()

        @rt.function_node
        def read() -> None:
            anyio.from_thread.run_sync(scope.cancel)
            end.wait(30)

        async with rt.Session():
            with scope:
                await rt.call(read)
        end.set()

    asyncio.run(main())


@prints("which has max_depth=")
def too_deep():
    @rt.function_node
    async def dig(depth: int) -> int:
        return await rt.call(dig, depth + 1)

    run(dig, 1, max_depth=50, logging_setting="NONE")


@prints("fell behind by 2 events and was removed")
def slow_subscriber():
    async def main():
        taken = anyio.Event()

        async def show(event: rt.state.Event) -> None:
            await taken.wait()

        async with rt.Session() as session:
            done = (rt.state.CallSucceeded,)
            session.subscribe(show, name="progress", kinds=done, capacity=2, policy="fail")
            await rt.call_batch(fetch, range(5))
            taken.set()

    asyncio.run(main())


# ---- runs


@prints("there is no run")
def no_such_run():
    run(load, run_identifier="nightly")
    rt.Flow("Load", load).resume("monday")


@prints('there is a run, and this session has if_exists="fail"')
def run_exists():
    for _ in range(2):
        run(load, run_identifier="nightly", if_exists="fail")


@prints("is open in another session")
def in_use():
    with rt.Session(run_identifier="nightly"), rt.Session(run_identifier="nightly"):
        pass


@prints("was started with other arguments")
def other_arguments():
    for page in (1, 2):
        run(fetch, page, run_identifier="page", if_exists="resume")


@prints("none of it can be used")
def nothing_is_found():
    run(load, run_identifier="nightly")
    rt.Flow("Load", fetch, logging_setting="NONE").resume("nightly", 1)


@prints("was cancelled by rt.state.cancel_run")
def cancelled_run():
    flow = rt.Flow("Load", fail_once, run_identifier="nightly", if_exists="resume", logging_setting="NONE")
    with contextlib.suppress(ConnectionError):
        flow.invoke()
    rt.state.cancel_run("nightly")
    flow.invoke()


@prints("is suspended, and waits for the answer to")
def suspended():
    @rt.function_node
    async def ship() -> str:
        return await rt.ask("Ship it?")

    run(ship, run_identifier="order-1")


@prints("was called in a session without an ask_callback")
def nobody_to_ask():
    @rt.function_node
    async def ship() -> str:
        return await rt.ask("Ship it?")

    async def main():
        async with rt.Session(logging_setting="NONE"):
            await rt.call(ship)

    asyncio.run(main())


@prints("already exists, overwriting")
def overwritten():
    for _ in range(2):
        run(load, run_identifier="nightly")


@prints("The earlier run had not completed; it is kept as")
def kept():
    with contextlib.suppress(ConnectionError):
        run(fail_once, run_identifier="nightly", logging_setting="NONE")
    run(fail_once, run_identifier="nightly")


@prints("completed call was not used")
def not_used():
    started = []

    @rt.function_node
    async def pay(order: str, key: str) -> str:
        return order

    @rt.function_node
    async def ship() -> str:
        started.append(1)
        await rt.call(pay, "A1", f"key {len(started)}")  # as uuid4() gives another one each time
        if len(started) == 1:
            raise ConnectionError("the network is down")
        return "shipped"

    with contextlib.suppress(ConnectionError):
        run(ship, run_identifier="order-1", logging_setting="NONE")
    run(ship, run_identifier="order-1", if_exists="resume")


@prints("could not be saved")
def not_saved():
    Path("runs").touch()
    run(load, store="file:runs")


# ---- agents and tests


def agent(answers: list[Any], **options: Any) -> Any:
    return rt.agent_node("Weather", llm=ScriptedModel(answers), **options)


@rt.function_node
def forecast(city: str) -> str:
    """Forecast the weather."""
    return citty  # type: ignore[name-defined]  # noqa: F821


@prints("the agent has no model")
def model_missing():
    run(rt.agent_node("Weather"), "Do I need a coat?", logging_setting="NONE")


@prints("raised what looks like a mistake in its code")
def mistake_in_a_tool():
    run(agent([tool_call("forecast", city="Oslo"), "I cannot say."], tool_nodes=[forecast]), "Do I need a coat?")


@prints("gave no valid answer")
def invalid_answer():
    answers = ["In Oslo and Bergen.", "Oslo and Bergen, as I said."]
    run(agent(answers, output_schema=list[str], repairs=1), "Where does it rain?", logging_setting="NONE")


@prints("as many as max_requests=")
def too_many_requests():
    answers = [tool_call("forecast", city="Oslo")] * 3
    run(agent(answers, tool_nodes=[forecast], max_requests=2), "Do I need a coat?", logging_setting="NONE")


@prints("was cut off after")
def cut_off():
    run(agent([answer("Take a", finish_reason="length")]), "Do I need a coat?", logging_setting="NONE")


@prints("virtual time needs its own event loop")
def simulated_in_a_loop():
    async def main():
        simulate(load)

    asyncio.run(main())


# ---- the tests


def printed(program: Callable[[], object]) -> Iterator[str]:
    """Run a program, and yield what Python and the log print of it: the exception, or else warnings and errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            program()
        except Exception as exc:
            yield from "".join(traceback.format_exception_only(exc)).splitlines()
            return
    for each in caught:
        if each.category is RuntimeWarning:
            yield f"RuntimeWarning: {each.message}"
    for record in log.records:
        yield f"{record.name:<12}: {record.levelname:<8} - {record.getMessage()}"


def plain(line: str) -> str:
    """Return a line without what differs from one run to another: times, places and random names."""
    line = line.replace(os.getcwd(), "/srv/shop").replace(Path(__file__).name, "shop.py")
    line = line.replace("import of anthropic halted; None in sys.modules", "No module named 'anthropic'")
    line = re.sub(r"(?<=The options are timeout, end_on_error, ).*", "...", line)
    line = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "RANDOM", line)
    line = re.sub(r"\bprocess \d+\b", "process N", line)
    line = re.sub(r"\bline \d+\b", "line N", re.sub(r"[+]?\d+(\.\d+)? +s\b", "TIME", line))
    return line.rstrip()


@pytest.fixture(autouse=True)
def empty_log(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_BACKEND", "asyncio")
    tries.clear()
    log.records.clear()
    logging.getLogger("RT").addHandler(log)
    yield
    logging.getLogger("RT").removeHandler(log)


SLOW = {"there is no API key", "its worker process was killed"}
"""They import an SDK, or wait for a process, which takes seconds."""
HEADINGS = [pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else []) for each in MISTAKES]


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_message_is_printed_as_the_page_shows_it(heading):
    box = SECTIONS[heading].partition("```text\n")[2].partition("```")[0]
    shown = re.sub(r"\n  (?=\S)", " ", box)  # long lines are broken there
    assert [plain(line) for line in printed(MISTAKES[heading])] == [*map(plain, shown.splitlines())] != []


def test_each_message_of_the_page_is_printed_by_a_program():
    assert list(SECTIONS) == list(MISTAKES)
