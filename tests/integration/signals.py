"""Programs that get real signals at any moment: ``python -m tests.integration.signals --runs 300``.

Each run is a process. Half of the moments are spread evenly over its whole life, the others come just after it has
noted something: that it enters, that a node begins or cleans up, that it delivers, saves, or leaves. One process in
ten is a new interpreter, so that imports are interrupted too; the others are forked from one that has imported all.
Another kind of run is interrupted before the n-th line of the library that the main thread runs: that is found again.

A process that has not ended a minute after its last signal is asked where it stands, and killed. One that has ended
must have done so within a few seconds, in which the time that it waited for a processor does not count: the machine may
be busy.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import attrs

import railtracks as rt
from tests.integration.checks import Ended, problems, read_notes, resume_problems, stored
from tests.integration.programs import FORMS

KINDS = {"once": [signal.SIGINT], "twice": [signal.SIGINT, signal.SIGINT], "term": [signal.SIGTERM], "line": []}
"""What is sent; with "line", the process itself sends one SIGINT before a certain line of the library."""
BACKENDS = ["asyncio", "trio"]
NEVER = 10**9
"""The number of a line that no program comes to."""
PATIENCE = 60.0
"""Seconds after the last signal at which a process counts as standing still."""


@attrs.frozen
class Moment:
    """The moment ``delay`` seconds after the ``count``-th note of a kind; or, without one, after the beginning."""

    delay: float
    mark: str = ""
    count: int = 1


@attrs.frozen
class Case:
    """One run of a program: its form, and the signals that it gets."""

    form: str
    backend: str
    kind: str
    number: int
    part: float
    """How far in the life of the process, or in the lines that it runs, the signal comes: from 0 to 1."""

    @property
    def variant(self) -> str:
        """The way in which the program is run: "warm", "new" (a new interpreter) or "lines" (they are counted)."""
        return "lines" if self.kind == "line" else "new" if self.number % 10 == 9 else "warm"

    @property
    def label(self) -> str:
        return f"{self.form}-{self.backend}-{self.kind}-{self.number}"

    def moment(self, dice: random.Random, undisturbed: Ended) -> Moment:
        """Draw the moment of the first signal, given how the program went undisturbed."""
        if self.number % 2 or self.variant == "new":
            return Moment(self.part * undisturbed.life * 1.02)
        kinds = [note.kind for note in undisturbed.notes if note.kind != "out"]
        mark = dice.choice(sorted(set(kinds)))
        return Moment(dice.choice([0, dice.uniform(0, 0.002), dice.uniform(0, 0.02)]), mark,
                      dice.randint(1, kinds.count(mark)))  # fmt: skip


def cases(form: str, backend: str, kind: str, count: int) -> Iterator[Case]:
    """Yield that many runs of one program with one kind of signal."""
    dice = random.Random(f"{form} {backend} {kind}")
    parts = [(i + dice.random()) / count for i in range(count)]
    dice.shuffle(parts)
    for number, part in enumerate(parts):
        yield Case(form, backend, kind, number, part)


@attrs.frozen
class Finding:
    """A run, how it ended, and what is wrong about it."""

    case: Case
    moment: Moment | int
    """The moment, or the number of the line."""
    ended: Ended
    problems: list[str]
    folder: Path


class Server:
    """A warm process that forks the programs, and sends them signals. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._fifo = folder / "pipe"
        os.mkfifo(self._fifo)
        self._pipe = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        root = str(Path(rt.__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.integration.interrupted", "serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True, start_new_session=True,
            env={"PYTHONPATH": root, "PATH": ""},
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_info):
        self._process.communicate()
        os.close(self._pipe)

    def _ask(self, line: str) -> int:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def run(
        self, folder: Path, program: str, backend: str, attempt: int = 0, variant: str = "warm",
        moment: Moment | int | None = None, signals: Iterable[signal.Signals] = (), gap: float = 0.0,
    ) -> Ended:  # fmt: skip
        """Run a program in a folder, send it the signals from the moment on, and wait for its end."""
        line = (moment if isinstance(moment, int) else NEVER) if variant == "lines" else 0
        order = {"form": program, "backend": backend, "folder": str(folder), "attempt": attempt,
                 "pipe": str(self._fifo), "exec": variant == "new", "line": line}  # fmt: skip
        began = time.monotonic()
        pid = self._ask(json.dumps(order))
        handle = os.pidfd_open(pid)
        sent: list[float] = []
        try:
            if not isinstance(moment, Moment) or self._wait_for(moment, began, handle):
                for each in signals:
                    if sent:
                        time.sleep(gap)
                    sent.append(time.monotonic())
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, each)
            seconds = self._wait_for_end(pid, handle)
        finally:
            os.close(handle)
        status = self._ask("wait")
        errors = (folder / f"errors.{attempt}").read_text() if (folder / f"errors.{attempt}").exists() else ""
        notes = read_notes(folder / f"notes.{attempt}")
        sent += [note.at for note in notes if note.kind == "interrupt"]
        return Ended(status, began, seconds, sent, notes, errors)

    def _wait_for(self, moment: Moment, began: float, handle: int) -> bool:
        """Return whether the moment came before the process ended."""
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if moment.mark:
            poll.register(self._pipe, select.POLLIN)
            count = moment.count
            while count > 0:
                events = dict(poll.poll())
                if self._pipe in events:
                    text = self._read()
                    count -= text.count(f" {moment.mark} ") + text.count(f" {moment.mark}\n")
                if handle in events:
                    return False
            poll.unregister(self._pipe)
            began = time.monotonic()
        while (left := began + moment.delay - time.monotonic()) > 0:
            if left > 0.004:
                if poll.poll(1000 * (left - 0.002)):
                    return False
            else:
                time.sleep(left)
        return True

    def _read(self) -> str:
        try:
            return os.read(self._pipe, 65536).decode()
        except BlockingIOError:
            return ""

    def _wait_for_end(self, pid: int, handle: int) -> float | None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        began, waited = time.monotonic(), _seconds_in_queue(pid)
        ended = bool(poll.poll(1000 * PATIENCE))
        seconds = time.monotonic() - began - (_seconds_in_queue(pid) - waited)
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGUSR1)
            poll.poll(5000)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.poll()
        while self._read():
            pass
        return seconds if ended else None


def _seconds_in_queue(pid: int) -> float:
    """Return how long the main thread of a process, which may have ended, has waited for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # the kernel does not count
        return 0.0


def examine(server: Server, case: Case, model: Ended, folder: Path) -> Finding:
    """Run a case: interrupt the program, judge it, and resume it."""
    folder.mkdir(parents=True)
    dice = random.Random(case.label)
    if case.variant == "lines":
        moment: Moment | int = 1 + int(case.part * int(model.noted("lines")[0]))
    else:
        moment = case.moment(dice, model)
    gap = dice.choice([dice.uniform(0, 0.01), dice.uniform(0, 0.06)])
    ended = server.run(folder, case.form, case.backend, 0, case.variant, moment, KINDS[case.kind], gap)
    found = problems(case.kind, ended, folder)
    if not found and (case.kind in ("twice", "term") or case.number % 4 == 0):
        before = stored(folder)
        again = server.run(folder, "flow" if before is None else "resume", case.backend, 1)
        found += resume_problems(before, again, folder)
    return Finding(case, moment, ended, found, folder)


def undisturbed(server: Server, todo: Iterable[Case], folder: Path) -> dict[tuple[str, str, str], Ended]:
    """Return how the programs go undisturbed, by form, backend and variant."""
    found = {}
    for form, backend, variant in sorted({(case.form, case.backend, case.variant) for case in todo}):
        place = folder / f"{form}-{backend}-{variant}"
        place.mkdir(parents=True)
        ended = server.run(place, form, backend, variant=variant)
        assert (ended.status, ended.errors) == (0, ""), ended
        found[form, backend, variant] = ended
    return found


def examine_all(todo: Iterable[Case], folder: Path, workers: int = 0) -> Iterator[Finding]:
    """Run all cases in a few processes at once, and yield them as they end. The folders of good ones are removed."""
    todo = list(todo)
    waiting: SimpleQueue[Case] = SimpleQueue()
    done: SimpleQueue[Finding | BaseException] = SimpleQueue()
    for case in todo:
        waiting.put(case)
    with Server(folder / "server") as server:
        models = undisturbed(server, todo, folder / "undisturbed")

    def work(server: Server) -> None:
        try:
            while True:
                try:
                    case = waiting.get_nowait()
                except Empty:
                    return
                done.put(examine(server, case, models[case.form, case.backend, case.variant], folder / case.label))
        except BaseException as exc:
            done.put(exc)

    with contextlib.ExitStack() as stack:
        for number in range(workers or 3 * (os.cpu_count() or 1)):
            server = stack.enter_context(Server(folder / f"server-{number}"))
            threading.Thread(target=work, args=(server,), daemon=True).start()
        for _ in todo:
            finding = done.get()
            if isinstance(finding, BaseException):
                raise finding
            if not finding.problems:
                shutil.rmtree(finding.folder)
            yield finding


def main() -> int:
    """Run what the command line asks for, and print what is wrong, most often first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="of each form, on each backend, with each signal")
    parser.add_argument("--forms", nargs="+", default=list(FORMS))
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--folder", type=Path, help="where the folders of runs that went wrong are kept")
    arguments: Any = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    todo = [
        case
        for form, backend, kind in itertools.product(arguments.forms, arguments.backends, arguments.kinds)
        for case in cases(form, backend, kind, arguments.runs)
    ]
    random.Random(1).shuffle(todo)
    found: dict[str, Counter[str]] = {}
    examples: dict[str, list[str]] = {}
    phases: Counter[str] = Counter()
    longest = 0.0
    for finding in examine_all(todo, folder):
        case, where = finding.case, finding.ended.where()
        phases[where if case.kind != "line" else "a line"] += 1
        longest = max(longest, finding.ended.seconds or 0.0)
        if finding.problems:
            print(case.label, where, finding.moment, finding.problems, flush=True)
        for problem in set(finding.problems):
            found.setdefault(problem, Counter())[f"{case.form}-{case.backend}-{case.kind}"] += 1
            examples.setdefault(problem, []).append(f"{case.label} {where}")
    print(f"{len(todo)} runs, the longest end {longest:.2f} s; interrupted after: {dict(phases.most_common())}")
    for problem, counts in sorted(found.items(), key=lambda item: -item[1].total()):
        print(f"{counts.total():5} {problem}: {dict(counts)}\n      {examples[problem][:5]}")
    print(f"see {folder}" if found else "nothing is wrong")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
