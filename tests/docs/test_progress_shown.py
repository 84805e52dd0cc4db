"""What docs/seeing.md shows of a program while it runs has the shape of what is drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from railtracks._progress import _display, _region
from tests.progress.helpers import Stream, assert_nothing_is_left

PAGE = Path(__file__).parents[2] / "docs/seeing.md"
ROW = re.compile(r"\x1b\[\d+(;\d+)?H")
ESCAPES = re.compile(r"\x1b(\[[0-9;]*[A-Za-z]|[78D])")


def section() -> str:
    return PAGE.read_text(encoding="utf-8").partition("## While it runs\n")[2].partition("\n## ")[0]


def program() -> str:
    return section().partition("```python\n")[2].partition("```")[0]


def samples() -> list[str]:
    """The picture in a terminal, and the lines elsewhere."""
    return re.findall(r"```text\n(.*?)```", section(), re.DOTALL)


def shape(text: str) -> list[str]:
    """Return the lines without what differs from one moment to another: durations, rates, counts of calls, bars."""
    text = re.sub(r"[\d.]+ (ms|µs|s)\b", "TIME", ESCAPES.sub("", ROW.sub("\n", text)))
    text = re.sub(r"[\d,.]+/(s|min)\b", "RATE", text)
    text = re.sub(r"━*─*━*(?=  fetch: )", "BAR", text)
    text = re.sub(
        r"\b\d+(?= (calls|ok|failed|running|open|of|%))|(?<=\()\d+(?= %)|(?<=fetch\()\d+|(?<=× )\d+", "N", text
    )
    return text.splitlines()


def run(stream: Stream, monkeypatch: Any, backend: str, first: str, then: str) -> None:
    """Run the program. From some calls on, they wait until a text was shown, and later another."""
    has_shown = [(150, then), (75, first)]
    calls = 0

    async def sleep(seconds: float) -> None:
        nonlocal calls
        calls += 1
        for number, text in has_shown:
            if calls > number:
                await anyio.to_thread.run_sync(stream.wait_for, text)
                return

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("RAILTRACKS_BACKEND", backend)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(anyio, "sleep", sleep)
    monkeypatch.setattr(_display, "PLAIN", 0.01)
    monkeypatch.setattr(_display, "terminal_size", lambda stream: (130, 30))
    monkeypatch.setattr(_region, "terminal_size", lambda stream: (130, 30))
    exec(compile(program(), "page.py", "exec"), {"__name__": "__main__"})
    assert_nothing_is_left(stream)


def contains(lines: list[str], block: list[str]) -> bool:
    return any(lines[start : start + len(block)] == block for start in range(len(lines)))


def test_the_picture_on_the_page_is_what_is_drawn(backend, monkeypatch):
    run(stream := Stream(), monkeypatch, backend, "at most 8 at once", " left")
    picture = shape(samples()[0])
    assert len(picture) == 7
    drawn = shape(stream.getvalue())
    assert contains(drawn, picture), drawn


def test_the_lines_on_the_page_are_what_is_written(backend, monkeypatch):
    run(stream := Stream(is_terminal=False), monkeypatch, backend, " calls, ", " failed, 9 open")
    written = [line for line in shape(stream.getvalue()) if line.startswith("RT progress")]
    between, end = shape(samples()[1])
    assert written[-1] == end
    assert between in [re.sub(r", RATE(, about TIME left)?$", "", line) for line in written], written


def test_the_counts_on_the_page_agree():
    counts = [int(number) for number in re.findall(r"\d+(?= (?:calls|ok|failed|running|open|of)\b)", samples()[0])]
    calls, failed, opened, ok, failed_too, running, ended, failed_again = counts
    assert calls == ok + failed + opened
    assert opened == running + 1
    assert failed == failed_too == failed_again
    assert ended == ok + failed
    assert f"fetch × {calls - 1}: " in samples()[0]
