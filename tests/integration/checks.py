"""What must hold after a program was interrupted, judged from its notes, its files, and how it ended.

| signal | how the process ends | what is stored |
|---|---|---|
| SIGINT | ``KeyboardInterrupt``, status -SIGINT, within seconds | the document; no lock, journal, temporary file |
| SIGINT twice | the same | the document, or the whole journal; no lock, no temporary file |
| SIGTERM | killed, status -SIGTERM, without any cleanup | the whole journal, which can be resumed |
| SIGTERM in a form that owns the main thread | as after SIGINT, but status 143 | the document |

After SIGTERM the file of the lock stays, as that of a process that was killed: nothing holds it.
In all three, a call whose result its caller has seen is on record as completed, and every record is true.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import attrs

import railtracks as rt
from railtracks._concurrency._termination import EXIT_STATUS
from railtracks.exceptions import StateError
from railtracks.state import CallRecord, Reason, Status
from tests.integration.programs import RESULT, RUN

LIMIT = 3.0
"""Seconds from the last signal to the end of the process."""

SLACK = 0.002
"""Seconds that a signal may come before a note of the program and be handled after it."""

NOISE = ("Exception ignored", "Task was destroyed", "never retrieved", "never awaited", "Unhandled", "Warning")


_SWALLOWED = re.compile(
    r"^Exception ignored in: <.*\n(?:Traceback.*\n)?(?:(?:  .*)?\n)*KeyboardInterrupt: \n", re.MULTILINE
)
"""An interrupt that Python raised in a finalizer or a callback of a weak reference, from where none can come out."""

_NOT_AWAITED = re.compile(
    r"^(?:Exception ignored in: <coroutine .*\n)?(?:Traceback.*\n(?:  .*\n)*)?"
    r"(?:.*: )?RuntimeWarning: coroutine .* was never awaited\n(?:  .*\n)*",
    re.MULTILINE,
)
"""An interrupt between two bytecodes: a coroutine was made, and is not awaited any more. Nothing can prevent it."""

_OF_ASYNCIO = "    task = self._loop.create_task(coro, context=context)\n"
"""An interrupt while ``asyncio.run`` makes its main task: it may be raised although the task is going to run."""

_STOPPING_THREADS = re.compile(r"anyio/_backends/_asyncio.py\", line \d+, in stop\n")
"""An interrupt when all is over, and anyio stops its threads: the interpreter waits for the one that it missed."""

_BEFORE_EXIT = re.compile(r'_life.py", line \d+, in __exit__\n    def __exit__\(')
"""An interrupt before the first line of the function that leaves a plain ``with``: Python does not leave it then."""

_IMPORT_LOCK = "Exception ignored in: <function _get_module_lock.<locals>.cb"
"""An interrupt while Python has the lock of all imports, which it keeps then: no other thread can import anything."""

_IN_TRIO = re.compile(r'trio/_core/_run.py", line \d+, in init\n')
"""An interrupt in the first task of trio, which ends last: trio reports it as an error of its own."""

_OF_IMPORTS = "Error calling __set_name__"
"""An interrupt within the making of a class, which Python wraps before 3.12."""


@attrs.frozen
class Note:
    """A line of the notes: when, which event, and of which call or item."""

    at: float
    kind: str
    rest: str


@attrs.define
class Ended:
    """How one process ended.

    Attributes:
        status: The exit status, as ``subprocess`` has it.
        began: When it was started.
        seconds: From the last signal (or the beginning) to the end, without those in which its main thread waited for a
            processor; None if it stood still and was killed.
        sent: When the signals were sent.
        notes: What it noted.
        errors: What it wrote to standard error.
    """

    status: int
    began: float
    seconds: float | None
    sent: list[float]
    notes: list[Note]
    errors: str

    def noted(self, kind: str) -> list[str]:
        """Return what all notes of one kind were about."""
        return [note.rest for note in self.notes if note.kind == kind]

    @property
    def life(self) -> float:
        """The seconds from its start to the end of its program."""
        return next(note.at for note in self.notes if note.kind == "out") - self.began

    def where(self) -> str:
        """Return the line that was interrupted, or the kind of the last note before the first signal."""
        if lines := self.noted("interrupt"):
            return lines[0]
        if not self.sent:
            return "the end"
        before = [note.kind for note in self.notes if note.at < self.sent[0]]
        return before[-1] if before else "starting"


def read_notes(path: Path) -> list[Note]:
    """Read the notes of a process, which may have been killed while it wrote the last of them."""
    lines = path.read_text().splitlines() if path.exists() else []
    parts = [line.partition(" ") for line in lines]
    return [Note(float(at), *rest.partition(" ")[::2]) for at, _, rest in parts]


def key(record: CallRecord) -> str:
    """Return a call as the notes name it."""
    return " ".join(map(str, (record.name, *record.args)))


def stored(folder: Path) -> rt.ExecutionInfo | None:
    """Load the run; None if there is none, or if it was killed before it wrote anything."""
    store = rt.state.FileStore(folder / ".railtracks")
    content = store.read(RUN)
    if content is None or (content.document is None and content.journal == b""):
        return None
    return rt.state.load_run(RUN, store)


def problems(kind: str, ended: Ended, folder: Path) -> list[str]:
    """Return what is wrong after ``kind``: "once", "twice", "term", or "line", which is one SIGINT too."""
    kind = "once" if kind == "line" else kind
    if ended.seconds is None:
        is_ours = _IMPORT_LOCK not in ended.errors and not _STOPPING_THREADS.search(ended.errors)
        return ["it stands still"] if is_ours else []
    if _OF_ASYNCIO in ended.errors or _BEFORE_EXIT.search(ended.errors):
        return []
    found = [] if ended.seconds < LIMIT else [f"it took {ended.seconds:.1f} s"]
    found += _outcome_problems(kind, ended)
    try:
        info = stored(folder)
    except StateError as exc:
        return [*found, f"what is stored cannot be read: {exc}"]
    if info is None:
        lost = {f"{note.kind} {note.rest}" for note in ended.notes if note.kind in ("got", "begin")}
        return [*found, *_file_problems(kind, ended, folder), *(["nothing is stored"] if lost else [])]
    return found + _file_problems(kind, ended, folder) + _record_problems(kind, ended, info)


def _outcome_problems(kind: str, ended: Ended) -> list[str]:
    found = [f"{noise!r} is printed" for noise in _noise(ended)]
    if kind == "term":
        if ended.status not in (-signal.SIGTERM, 0, EXIT_STATUS):
            found.append(f"the exit status is {ended.status}")
        return found
    if _SWALLOWED.search(ended.errors) or not ended.noted("start"):  # some of the interpreter's own imports print more
        return found
    outs = [note for note in ended.notes if note.kind == "out"]
    late = bool(outs) and (not ended.sent or ended.sent[0] > outs[0].at - SLACK)
    if late:  # it may still come out of the program's own last lines, or of the interpreter's
        return found
    if not outs:
        # The second one may come while the program notes the first, or while the interpreter shuts down.
        plain = _last_line(ended) in ("KeyboardInterrupt", "lost sys.stderr")
        if not plain and ended.noted("importing") and _OF_IMPORTS not in ended.errors:
            found.append(f"nothing came out, the last line is {_last_line(ended)!r}")
    elif outs[0].rest.startswith("CancelledError") and not ended.noted("locking"):
        pass  # `asyncio.run` forgets one that comes between the two lines that prepare for it
    elif _IN_TRIO.search(ended.errors) and ended.noted("payload"):
        pass  # the session was over
    elif not outs[0].rest.startswith("KeyboardInterrupt"):
        found.append(f"{_without_numbers(outs[0].rest)} came out")
    elif ended.status != -signal.SIGINT:
        found.append(f"the exit status is {ended.status}")
    if ended.noted("left"):
        found.append("threads of sessions are left")
    return found


def _noise(ended: Ended) -> list[str]:
    """Return what may not be printed. What a signal before or after the session makes others print is theirs."""
    over = [note.at for note in ended.notes if note.kind in ("payload-end", "out")]
    if not ended.noted("locking") or (over and any(at > over[0] - SLACK for at in ended.sent)):
        return []
    text = _NOT_AWAITED.sub("", _SWALLOWED.sub("", ended.errors))
    return [noise for noise in NOISE if noise in text]


def _last_line(ended: Ended) -> str:
    return _without_numbers((ended.errors.splitlines() or [""])[-1])


def _without_numbers(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "N", text)[:120]


def _file_problems(kind: str, ended: Ended, folder: Path) -> list[str]:
    names = os.listdir(folder / ".railtracks") if (folder / ".railtracks").exists() else []
    if kind == "term":
        is_lost = ended.status == EXIT_STATUS and ended.noted("begin") and f"{RUN}.json" not in names
        return ["no document is saved"] if is_lost else []
    lost = [re.sub("[0-9a-f]{8}", "*", name) for name in names if name.endswith((".lock", ".tmp"))]
    found = [f"a file is left: {name}" for name in lost]
    entered = any(note.kind in ("entered", "begin") for note in ended.notes)
    if f"{RUN}.journal" in names and (kind == "once" or f"{RUN}.json" in names):
        found.append("a journal is left")
    if entered and kind == "once" and f"{RUN}.json" not in names:
        found.append("no document is saved")
    return found


def _record_problems(kind: str, ended: Ended, info: rt.ExecutionInfo) -> list[str]:
    found = []
    if info.damage is not None:
        found.append(f"the journal is damaged: {_without_numbers(info.damage)}")
    noted = {each: ended.noted(each) for each in ("begin", "end", "clean", "got")}
    records = {key(record): record for record in info.records}
    found += [f"{name.split()[0]} began twice" for name, count in Counter(noted["begin"]).items() if count > 1]
    if len(records) != len(info.records):
        found.append("a call is on record twice")
    for name in noted["begin"]:
        if name not in records:
            found.append(f"{name.split()[0]} ran and is not on record")
    for name in noted["got"]:
        status = records[name].status if name in records else None
        if status is not Status.COMPLETED:
            found.append(f"{name.split()[0]} returned to its caller and is {status}")
    document = info.end_time is not None
    for name, record in records.items():
        found += _problems_of(record, name, noted, kind, document)
    outs = [note.at for note in ended.notes if note.kind == "out"]
    if outs and not ended.noted("left"):
        late = [note for note in ended.notes if note.at > outs[0] and note.kind in ("begin", "end", "clean", "got")]
        for name in {note.rest for note in late}:
            if name not in records or not records[name].abandoned:
                found.append(f"{name.split()[0]} ran on after the session")
    return found


def _problems_of(record: CallRecord, name: str, noted: dict[str, list[str]], kind: str, is_document: bool) -> list[str]:
    found: list[str] = []
    label = record.name
    match record.status:
        case Status.COMPLETED:
            if name not in noted["end"]:
                found.append(f"{label} is Completed and did not end")
        case Status.OPEN:
            if is_document:
                found.append(f"{label} is Open in the document")
            elif record.reason is not Reason.PROCESS_DIED:
                found.append(f"{label} is Open, with the reason {record.reason}")
        case Status.FAILED:
            if "KeyboardInterrupt" not in repr(record.exception):
                found.append(f"{label} is Failed: {_without_numbers(repr(record.exception))}")
        case Status.CANCELLED:
            if record.reason in (Reason.TIMEOUT, Reason.END_ON_ERROR):
                found.append(f"{label} is Cancelled, with the reason {record.reason}")
    begun = name in noted["begin"] and name not in noted["end"] and label == "leaf"
    if begun and kind == "once" and name not in noted["clean"]:
        found.append(f"{label} began, and was left without its cleanup")
    return found


def resume_problems(before: rt.ExecutionInfo | None, second: Ended, folder: Path) -> list[str]:
    """Return what is wrong after the run was resumed, or started again if nothing was stored."""
    found = []
    if second.status != 0 or second.noted("out") != [f"result {RESULT}"]:
        found.append(f"resumed: {_without_numbers(' '.join(second.noted('out')))}, status {second.status}")
    completed = {key(record) for record in before.records if record.status is Status.COMPLETED} if before else set()
    again = completed & set(second.noted("begin"))
    found += [f"resumed: {name.split()[0]} had completed and ran again" for name in again]
    found += [f"resumed: a file is left: {path.suffix}" for path in (folder / ".railtracks").glob("*.lock")]
    return found
