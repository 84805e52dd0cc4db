"""``railtracks run`` in a real pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import sys
import time
from typing import Any

import pyte
import pytest

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal"), pytest.mark.either_backend]

PROGRAM = """
import anyio, getpass, logging, os, subprocess, sys
import railtracks as rt

logging.basicConfig(level=logging.WARNING, format="%(message)s")  # a handler that is made before


@rt.function_node
async def fetch(page: int) -> int:
    if page % 7 == 3:
        raise LookupError(f"no [page] {page}")
    if page > 40:
        await anyio.to_thread.run_sync(sys.stdin.readline)  # the test goes on
    return page


@rt.function_node
async def fetch_all(count: int) -> str:
    await rt.call_batch(fetch, range(count), limit=1)
    print("printed")
    return "the result"


@rt.function_node
async def ask_twice() -> str:
    return f"{await rt.ask('Colour?')} {await rt.ask('Size?')}"


@rt.function_node
async def wait() -> None:
    await anyio.sleep_forever()


@rt.function_node
async def write_otherwise() -> None:
    await rt.call(press_enter)
    subprocess.run(["echo", "of a subprocess"], check=True)
    await anyio.run_process(["echo", "of another"], stdout=None)
    os.write(1, b"of the file\\n")
    sys.stdout.buffer.write(b"of the buffer\\n")
    sys.stdout.buffer.flush()
    if not (child := os.fork()):
        print("of a child", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("not ", end="", flush=True)
    await rt.call(press_enter)
    print("finished")
    logging.getLogger("mine").warning("of a log")
    await rt.call(press_enter)


@rt.function_node
def press_enter() -> None:
    sys.stdin.readline()


@rt.function_node
def prompt() -> str:
    return f"{input('Your name? ')}, {getpass.getpass('Password: ')}"


asking = rt.Flow("Asking", ask_twice, ask_callback=input)
"""
SESSIONS = """
import os, signal, sys
import anyio
import railtracks as rt

rt.set_config(save_state=False, logging_setting="NONE", progress=True)

@rt.function_node
def press_enter() -> None:
    sys.stdin.readline()

@rt.function_node
async def fail() -> None:
    await rt.call(press_enter)
    raise LookupError

async def main():
    for number in range(int(sys.argv[1])):
        async with rt.Session(name=f"number {number}"):
            await rt.call(press_enter)
    try:
        async with rt.Session(name="failing"):
            await rt.call(fail)
    except LookupError:
        print("failed")

anyio.run(main, backend=sys.argv[2])
"""
PATIENCE = 30.0


class Terminal:
    """A program in a pseudo-terminal, and its screen. The terminal shows what is typed if it ``echoes``."""

    def __init__(
        self, *words: str, columns: int = 80, rows: int = 24, echoes: bool = False, **environment: str
    ) -> None:
        import fcntl
        import pty
        import termios

        self.pid, self.file = pty.fork()
        if not self.pid:
            os.environ.update({"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **environment})
            mode = termios.tcgetattr(0)
            mode[3] = mode[3] | termios.ECHO if echoes else mode[3] & ~termios.ECHO
            termios.tcsetattr(0, termios.TCSANOW, mode)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(sys.executable, [sys.executable, *(words if words[0] == "-c" else ("-m", "railtracks", *words))])
        self.columns = columns
        self.output = b""
        self.screen: Any = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream: Any = pyte.ByteStream(self.screen)
        self.code: int | None = None

    def read(self) -> bool:
        """Show what the program has written next; return False at its end."""
        ready, _, _ = select.select([self.file], [], [], PATIENCE)
        assert ready, self.lines
        try:
            data = os.read(self.file, 65_536)
        except OSError:  # on Linux, at the end
            data = b""
        self.output += data
        self._stream.feed(data)
        return bool(data)

    def wait_for(self, pattern: str) -> str:
        """Wait until a line of the screen matches, and return it."""
        until = time.monotonic() + PATIENCE
        while not (found := [line for line in self.lines if re.search(pattern, line)]):
            assert self.read(), self.lines
            assert time.monotonic() < until, self.lines
        return found[-1]

    def wait_ended(self) -> list[str]:
        """Wait for the end of the program. Return the lines of the screen, and those that were scrolled away."""
        while self.read():
            pass
        os.close(self.file)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert self.screen.margins is None
        return self.lines

    def resize(self, columns: int, rows: int) -> None:
        import fcntl
        import termios

        self.columns = columns
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    @property
    def lines(self) -> list[str]:
        above = ["".join(row[column].data for column in range(self.columns)) for row in self.screen.history.top]
        return [line.rstrip() for line in (*above, *self.screen.display) if line.strip()]


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return "program.py"


def test_run_shows_a_tree_while_it_runs_and_at_the_end(program):
    terminal = Terminal("run", f"{program}:fetch_all", "43", "--run-identifier", "pages")
    terminal.wait_for(r"^─*━+─+  fetch: 41 of 43 \(95 %\), 6 failed  .*at most 1 at once$")
    terminal.wait_for(r"^      └─ fetch\(41\)  [\d.]+ m?s$")
    shown = terminal.lines
    assert "no [page] 38" in shown[5]  # in the line of the log
    start = next(number for number, line in enumerate(shown) if line.startswith("flow fetch_all, session pages  Open"))
    assert re.fullmatch(r"flow fetch_all, session pages  Open  [\d.]+ m?s  43 calls, 6 failed, 2 open", shown[start])
    assert [re.sub(r"  [\d.]+ m?s$", "", line) for line in shown[start + 1 : -1]] == [
        "└─ fetch_all(43)",
        "   └─ fetch × 42: 35 ok, 6 failed, 1 running",
        "      └─ fetch(41)",
    ]
    terminal.type("\n\n")
    lines = terminal.wait_ended()
    assert terminal.code == 0
    text = "\n".join(lines)
    assert text.count("flow fetch_all, session pages") == 1
    assert "  Open  " not in text
    assert "RT progress" not in text
    assert "━" not in text
    assert lines.index("printed") < lines.index("the result") < len(lines) - 1
    assert "   └─ fetch × 43: 37 ok, 6 failed, " in text


def test_questions_are_not_drawn_over(program):
    terminal = Terminal("run", f"{program}:asking", echoes=True)
    terminal.wait_for(r"^Colour\?$")
    terminal.type("red\n")
    terminal.wait_for(r"^Size\?$")
    terminal.type("XL\n")
    lines = terminal.wait_ended()
    assert terminal.code == 0
    assert "Colour? red" in lines
    assert "Size? XL" in lines
    assert "red XL" in lines


def test_prompts_of_others_are_not_drawn_over(program):
    terminal = Terminal("run", f"{program}:prompt", echoes=True)
    terminal.wait_for(r"^Your name\?$")
    terminal.wait_for(r"^└─ prompt\(\)  [3-9]\d\d ms")  # it was drawn again
    terminal.type("Ada\n")
    terminal.wait_for(r"^Password:$")
    shown = terminal.wait_for(r"^└─ prompt\(\)")
    while terminal.wait_for(r"^└─ prompt\(\)") == shown:
        terminal.read()
    terminal.type("secret\n")
    lines = terminal.wait_ended()
    assert terminal.code == 0
    at = lines.index("Your name? Ada")
    assert lines[at : at + 3] == ["Your name? Ada", "Password:", "Ada, secret"]


@pytest.mark.parametrize("rows", [8, 10, 24])
def test_whatever_others_write_stays(program, rows):
    terminal = Terminal("run", f"{program}:write_otherwise", "--logging-setting", "NONE", rows=rows)
    terminal.wait_for(r"press_enter\(\)|^flow write")
    terminal.type("\n")
    terminal.wait_for("^not$")
    terminal.wait_for(r"^flow write_otherwise, .*3 calls")
    terminal.type("\n")
    terminal.wait_for("^of a log$")
    terminal.wait_for(r"^flow write_otherwise, .*4 calls")
    terminal.type("\n")
    lines = terminal.wait_ended()
    written = [
        "of a subprocess",
        "of another",
        "of the file",
        "of the buffer",
        "of a child",
        "not finished",
        "of a log",
    ]
    assert lines[: len(written)] == written
    assert lines[len(written)].startswith("flow write_otherwise, ")
    assert "Completed" in lines[len(written)]
    assert len(lines) == len(written) + 5


def test_sessions_one_after_another_leave_a_line_each(backend):
    terminal = Terminal("-c", SESSIONS, "3", backend)
    for name in ("number 0", "number 1", "number 2", "failing"):
        terminal.wait_for(rf"^session .*{name}\)?  Open")
        terminal.wait_for("─ press_enter")
        terminal.type("\n")
    lines = terminal.wait_ended()
    names = [re.sub(r"^RT progress: session (.* \()?(.*?)\)?  .*", r"\2", line) for line in lines]
    assert names == ["number 0", "number 1", "number 2", "failing", "failed"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_restores_a_terminal_of_any_program(number, backend):
    terminal = Terminal("-c", SESSIONS, "1", backend)
    terminal.wait_for(r"^session .*\(number 0\)  Open")
    assert terminal.screen.margins is not None
    os.kill(terminal.pid, number)
    if number == signal.SIGINT:
        terminal.type("\n\n\n")  # the threads of the nodes end
    lines = terminal.wait_ended()
    assert not [line for line in lines if "  Open  " in line]
    if number == signal.SIGTERM:
        assert (terminal.code, lines) == (-number, [])


def test_a_new_size_is_followed(program):
    terminal = Terminal("run", f"{program}:wait", "--logging-setting", "NONE")
    terminal.wait_for(r"^└─ wait\(\)")
    terminal.resize(60, 30)
    while terminal.screen.margins != (0, 27):
        assert terminal.read(), terminal.lines
    os.kill(terminal.pid, signal.SIGINT)
    lines = terminal.wait_ended()
    assert len([line for line in lines if line.startswith("flow wait")]) == 1


def test_a_second_program_in_a_terminal_writes_lines():
    inner = """
import anyio, railtracks as rt
from railtracks._progress import _display
_display.PLAIN = 0.01
@rt.function_node
async def nap(): await anyio.sleep(0.5)
rt.Flow("Inner", nap, progress=True, save_state=False, logging_setting="NONE").invoke()
"""
    outer = f"""
import subprocess, sys
import railtracks as rt
@rt.function_node
def nest():
    sys.stdin.readline()
    subprocess.run([sys.executable, "-c", {inner!r}], check=True)
rt.Flow("Outer", nest, progress=True, save_state=False, logging_setting="NONE").invoke()
"""
    terminal = Terminal("-c", outer)
    terminal.wait_for("^flow Outer")
    terminal.type("\n")
    lines = terminal.wait_ended()
    assert re.match(r"RT progress: flow Inner, .*: 1 call, 1 open in ", lines[0])
    ends = [line for line in lines if "  Completed  " in line]
    assert [line[:24] for line in ends] == ["RT progress: flow Inner,", "RT progress: flow Outer,"]


TINY = [pytest.param(*size, marks=pytest.mark.slow) for size in [(12, 2), (1, 1)]]


@pytest.mark.parametrize(("columns", "rows"), [(20, 24), (80, 8), (80, 4), *TINY])
def test_small_terminals_are_not_overrun(program, columns, rows):
    terminal = Terminal("run", f"{program}:fetch_all", "42", "--logging-setting", "NONE", columns=columns, rows=rows)
    if rows >= 8:
        terminal.wait_for("^flow")
    terminal.type("\n")
    lines = terminal.wait_ended()
    assert terminal.code == 0
    assert "  Open" not in "\n".join(lines)
    above = "".join(lines).partition("printed")[0]
    assert above == ""
    assert (b"\x1b7" in terminal.output) is (rows >= 8)


@pytest.mark.parametrize(
    ("words", "environment"),
    [(["--no-progress"], {}), (["--json"], {}), ([], {"RAILTRACKS_PROGRESS": "0"}), ([], {"TERM": "dumb"})],
    ids=["--no-progress", "--json", "RAILTRACKS_PROGRESS", "TERM"],
)
def test_nothing_is_drawn_where_it_is_not_wanted(program, words, environment):
    terminal = Terminal("run", f"{program}:fetch_all", "42", *words, "--logging-setting", "NONE", **environment)
    terminal.type("\n")
    terminal.wait_ended()
    assert terminal.code == 0
    assert b"\x1b7" not in terminal.output
    assert b"running" not in terminal.output


def test_no_color_has_lines_without_colours(program):
    terminal = Terminal("run", f"{program}:wait", "--logging-setting", "NONE", NO_COLOR="1")
    terminal.wait_for(r"^└─ wait\(\)")
    assert not re.search(rb"\x1b\[[1-9]\d*(;\d+)*m", terminal.output)
    os.kill(terminal.pid, signal.SIGINT)
    terminal.wait_ended()
    assert terminal.code == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(program, number):
    terminal = Terminal("run", f"{program}:wait", "--logging-setting", "NONE")
    terminal.wait_for(r"^└─ wait\(\)")
    os.kill(terminal.pid, number)
    lines = terminal.wait_ended()
    assert terminal.code == 128 + number
    assert not [line for line in lines if "  Open  " in line]
    assert len([line for line in lines if "wait()" in line]) == 1
    assert b"\x1b[?25l" not in terminal.output  # the cursor is never hidden


def test_resume_shows_it_too(program):
    terminal = Terminal("run", f"{program}:wait", "--run-identifier", "again", "--logging-setting", "NONE")
    terminal.wait_for(r"^└─ wait\(\)")
    os.kill(terminal.pid, signal.SIGINT)
    terminal.wait_ended()
    terminal = Terminal("resume", "again", "--flow", f"{program}:wait")
    terminal.wait_for(r"^flow wait, session again  Open")
    terminal.wait_for(r"^└─ wait\(\)")
    os.kill(terminal.pid, signal.SIGINT)
    terminal.wait_ended()
    assert terminal.code == 130
