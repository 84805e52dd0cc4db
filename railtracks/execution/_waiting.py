"""Where calls wait: the lines of user code that a call which takes too long is in.

This is for people, and for the moment at which a timeout fires, so it may examine every task of the event loop. A task
is a chain of frames, from its coroutine to the innermost one that is suspended. A frame in which the library runs a
call has the record of that call; the frames of user code after it, up to the frame of the next call, belong to the
call. The work of a sync node is in another thread; the frame that waits for it has that piece of work, and so has a
frame of the thread.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CoroutineType, FrameType, TracebackType
from typing import Any, TypeGuard

from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._kinds import traceback_of
from railtracks._concurrency._suspended import frame_of, is_user_module, suspended_parts
from railtracks._concurrency._thread_stacks import nothing_collected, thread_stacks
from railtracks.exceptions import RemoteTraceback
from railtracks.state import CallRecord, Status

_FRAME = re.compile(r'File "(.+)", line (\d+), in ')
MAX_SHOWN = 5
"""The greatest number of calls that are named."""
_Position = tuple[FrameType, int]
"""A frame, and the line in it that runs or waits."""


def waiting_calls(
    records: Sequence[CallRecord | None],
    root: int | None = None,
    cancelled: CallRecord | None = None,
    traceback: TracebackType | None = None,
    counts: Callable[[CallRecord], bool] | None = None,
) -> tuple[str, ...]:
    """Return where the innermost open calls of a session wait, such as ``fetch, line 12 of shop.py``.

    Call it in the thread of the event loop. Never raises.

    Args:
        records: The calls of the session, in the order of creation; None in place of those that were replayed.
        root: The index of the top-level call below which calls count; None for all calls.
        cancelled: The call that has just been cancelled, and so waits no more; None for none.
        traceback: From the running code to where it waited.
        counts: Whether an open call counts; None if all do.

    Returns:
        One text for each call, in the order of creation, but with those that have not run yet at the end, for at most
        ``MAX_SHOWN`` calls. A call that has not run yet says what it waits for: a limit, an equal call, or a worker.
        The text is the name of the node alone where the line is not known: the call has not begun, or it runs
        elsewhere.
    """
    below = (each for each in records[root or 0 :] if each is not None and (root is None or each.run == root))
    opened = [each for each in below if each.status is Status.OPEN and (counts is None or counts(each))]
    callers = {each.parent for each in opened}
    innermost = [each for each in opened if each.index not in callers]
    # Those that have begun come first: what waits for its turn mostly waits for them.
    innermost = sorted(innermost, key=lambda each: bool(_wait_of(each)))[:MAX_SHOWN]
    try:
        places = _places({id(each) for each in innermost if each is not cancelled})
        if cancelled is not None:
            places[id(cancelled)] = _place_of(traceback)
    except Exception:  # the frames of the application may hold anything
        places = {}
    return tuple(each.name + (_wait_of(each) or places.get(id(each), "")) for each in innermost)


def _wait_of(record: CallRecord) -> str:
    """Return what a call waits for before it runs, as in ", waiting for limit api"; "" if it does not."""
    waiting = None if record.policy is None else record.policy.waiting
    return "" if waiting is None else f", waiting for {waiting}"


def raised_at(exc: BaseException) -> str:
    """Return the innermost line of user code that an exception left, such as ", line 12 of shop.py"; "" if none."""
    return innermost_place(_positions(traceback_of(exc))) or _raised_in_worker(exc)


def _raised_in_worker(exc: BaseException) -> str:
    """Return the same for an exception that came from a worker, whose traceback is the text of its cause."""
    cause = BaseException.__dict__["__cause__"].__get__(exc)
    if type(cause) is not RemoteTraceback:
        return ""
    from railtracks.state._views._user_frames import without_library_frames  # here, as few programs need it

    frames = _FRAME.findall(without_library_frames(cause.text))
    return f", line {frames[-1][1]} of {os.path.basename(frames[-1][0])}" if frames else ""


def _positions(traceback: TracebackType | None) -> list[_Position]:
    found: list[_Position] = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _places(wanted: set[int]) -> dict[int, str]:
    """Return the places of calls, by the ``id`` of their records."""
    found: dict[int, str] = {}
    threads: list[list[FrameType]] | None = None
    for coroutine in _coroutines():
        call: int | None = None
        work: object = None
        inside: list[Any] = []
        for part in suspended_parts(coroutine):
            # `Coordinator.run`, with its `record`, and `run_in_thread`, with its `work`; reading locals takes long
            name = part.cr_code.co_name if type(part) is CoroutineType else ""
            if name in ("run", "run_in_thread") and _is_ours(frame := frame_of(part)):
                record = frame.f_locals.get("record")
                if name == "run_in_thread":
                    work = frame.f_locals.get("work")
                elif type(record) is CallRecord and record.status is Status.OPEN:
                    call, work, inside = id(record), None, []
            else:
                inside.append(part)
        if call is None or call not in wanted:
            continue
        frames = [frame for part in inside if (frame := frame_of(part)) is not None]
        positions = [(frame, frame.f_lineno) for frame in frames]
        if work is not None:
            threads = thread_stacks() if threads is None else threads
            positions += _positions_in_work(threads, work)
        found[call] = innermost_place(positions)
        if len(found) == len(wanted):
            break
    return found


def _place_of(traceback: TracebackType | None) -> str:
    """Return where the code waited that a cancellation has just left."""
    inside = _positions(traceback)
    work: object = None
    for frame, _ in inside:
        if frame.f_code.co_name == "run_in_thread" and module_of(frame).startswith("railtracks."):
            work = frame.f_locals.get("work")
    return innermost_place(inside if work is None else _positions_in_work(thread_stacks(), work))


def innermost_place(positions: Sequence[_Position]) -> str:
    """Return the innermost position in user code, or else in code that it has installed; "" if there is none."""
    installed: _Position | None = None
    for position in reversed(positions):  # mostly the first of them is it, and a failed call asks for it
        if is_user_module(module_of(position[0])):
            if "site-packages" not in position[0].f_code.co_filename:
                return _place(position)
            installed = installed or position
    return "" if installed is None else _place(installed)


def _place(position: _Position) -> str:
    frame, line = position
    return f", line {line} of {os.path.basename(frame.f_code.co_filename)}"


def _is_ours(frame: FrameType | None) -> TypeGuard[FrameType]:
    return frame is not None and module_of(frame).startswith("railtracks.")


def module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _coroutines() -> Iterator[Any]:
    """Yield the coroutines of the tasks of the running event loop."""
    library = running_library()
    if library == "asyncio":
        for task in sys.modules["asyncio"].all_tasks():
            yield task.get_coro()
    elif library == "trio":
        root = sys.modules["trio"].lowlevel.current_root_task()
        tasks = [] if root is None else [root]
        while tasks:
            task = tasks.pop()
            yield task.coro
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _positions_in_work(stacks: list[list[FrameType]], work: object) -> list[_Position]:
    """Return the positions in the frames in which a thread runs a piece of work, the outermost first."""
    with nothing_collected():
        for stack in stacks:
            for count, frame in reversed([*enumerate(stack)]):
                if module_of(frame) == "railtracks._concurrency._work_item" and frame.f_locals.get("self") is work:
                    return [(each, each.f_lineno) for each in reversed(stack[:count])]
    return []
