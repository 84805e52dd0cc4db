"""What a reader of a tutorial does: save its files, type its commands, and compare what they print."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.docs.test_documents import ROOT
from tests.ecosystem.test_recipes import environment, run

_FILE = re.compile(r"`(\w+\.\w+)`[^`]*(?:`pytest`)?:\n\n```(?:python|html)\n(.*?)```", re.DOTALL)


class Tutorial:
    """A page of ``docs`` whose boxes are files and commands.

    Args:
        name: The name of its file.

    Attributes:
        text: What stands on it.
        files: Its files in order, each as its name and its text; one that changes stands there several times.
        console: The lines of each box of commands and their output.
    """

    def __init__(self, name: str) -> None:
        self.text = (ROOT / "docs" / name).read_text("utf-8")
        self.files: list[tuple[str, str]] = _FILE.findall(self.text)
        self.console = [
            block.strip().splitlines() for block in re.findall(r"```console\n(.*?)```", self.text, re.DOTALL)
        ]

    def shown(self, command: str) -> list[list[str]]:
        """Return what the page shows for a command, one list for each time that it stands there."""
        found = []
        for block in self.console:
            for place, line in enumerate(block):
                if line == f"$ {command}":
                    after = block[place + 1 :]
                    end = next((n for n, each in enumerate(after) if each.startswith("$ ")), len(after))
                    found.append(after[:end])
        return found

    def save(self, folder: Path, *names: str) -> None:
        """Save files of the page, or all of them, as they stand there first."""
        for name, text in reversed(self.files):
            if not names or name in names:
                (folder / name).write_text(text, "utf-8")


def railtracks(folder: Path, *arguments: str) -> list[str]:
    """Return the lines that the command prints."""
    return run(folder, "-m", "railtracks", *arguments).splitlines()


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program until the end of the block, and kill it then."""
    command = [sys.executable, "-u", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], line: str) -> list[str]:
    """Return what a program prints, up to this line."""
    assert process.stdout is not None
    printed = []
    for each in process.stdout:
        printed.append(each.rstrip("\n"))
        if printed[-1] == line:
            break
    return printed


def without_numbers(text: str) -> str:
    """Return a text with ``0`` for each number and duration, and single spaces, as these differ between runs."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.]+(?: (?:ms|µs|s|min)\b)?", "0", text))
