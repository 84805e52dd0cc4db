"""Programs to run from the command line, and the command line itself, in this process."""

import itertools
import sys

import pytest

from railtracks.cli._app import run_command_line

PROGRAM = '''
"""A program with flows."""

import signal
from dataclasses import dataclass

import anyio

import railtracks as rt


@dataclass
class Point:
    x: int


@rt.function_node
async def shape() -> Point:
    return Point(1)


@rt.function_node
async def fetch(page: int) -> str:
    if page % 7 == 3:
        raise LookupError(f"no page {page}")
    return f"page {page}"


@rt.function_node
async def fetch_all(count: int, *, label: str = "x", strict: bool = False) -> list[str]:
    """Fetch some pages.

    Args:
        count: How many pages.
        label: What to call them.
        strict: Whether a missing page is an error.
    """
    pages = await rt.call_batch(fetch, range(count), return_exceptions=not strict)
    return [label, *map(str, pages)]


@rt.function_node
async def name_shops(shops: list[str], kinds: set[str] = frozenset(), *, town: str) -> str:
    return f"{town}: {shops} {sorted(kinds)}"


@rt.function_node
async def refuse(number: int) -> None:
    raise ValueError("refused" if number < 3 else f"refused {number}")


@rt.function_node
async def fail_alike(count: int) -> None:
    await rt.call_batch(refuse, range(count))


@rt.function_node
async def ask_twice() -> str:
    first = await rt.ask("Which colour?")
    return f"{first} and {await rt.ask('Which size?')}"


@rt.function_node
async def receive(topic: str) -> object:
    return await rt.receive(topic)


@rt.function_node
async def receive_both() -> list:
    return await rt.call_batch(receive, ["news", "weather"])


@rt.function_node
async def wait(timeout: float, resume: bool = False) -> None:
    await anyio.sleep(timeout)


@rt.function_node
async def leave() -> None:
    raise SystemExit(7)


@rt.function_node
async def leave_quietly() -> None:
    raise SystemExit


@rt.function_node
async def clash(timeout: int, session_timeout: int) -> str:
    return f"{timeout} {session_timeout} \\ud800"


@rt.function_node
async def loose(first: "NoSuchType", **others) -> str:
    return f"{first} {others}"


@rt.function_node
async def leak(api_key: str) -> None:
    raise ValueError(f"wrong key {api_key}")


@rt.function_node
async def interrupt() -> None:
    raise KeyboardInterrupt


@rt.function_node
async def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()


pages = rt.Flow("Pages", fetch_all)
asking = rt.Flow("Asking", ask_twice)
number = 7
'''
_numbers = itertools.count()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The name of a module with flows, in the working directory."""
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "NONE")
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"program_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    yield name
    for module in (name, f"moved_{name}"):
        sys.modules.pop(module, None)


@pytest.fixture
def command(capsys):
    """Run a command line; return its exit code, and what it printed to standard output and standard error."""

    def run(*words):
        code = run_command_line([*map(str, words)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def runs(command, program):
    """Three runs: one that completed, one that failed, one that is suspended."""
    command("run", f"{program}:pages", 12, "--run-identifier", "good")
    command("run", f"{program}:pages", 12, "--strict", "--run-identifier", "bad")
    command("run", f"{program}:asking", "--run-identifier", "waiting")
    return program
