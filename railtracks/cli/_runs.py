"""``railtracks list``, ``show`` and ``tail``: the runs in a store."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from railtracks import ExecutionInfo
from railtracks._options import store_option
from railtracks._wording import counted
from railtracks.cli._output import (
    answer_line,
    came_for,
    parse_moment,
    print_json,
    print_table,
    run_as_data,
    show_tree,
    shown_age,
)
from railtracks.state import CallRecord, RunSummary, Status, Store, list_runs, load_run
from railtracks.state._comparison import compare
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._stores._runs import shown_state
from railtracks.state._stores._settings import resolve_store
from railtracks.state._views._failures import failures_of
from railtracks.state._views._folds import NOT_SHOWN
from railtracks.state._views._texts import (
    printable,
    shown_call,
    shown_error,
    shown_seconds,
    shown_status,
    traceback_of,
)
from railtracks.state._views._times import ran_seconds

_POLL = 0.5
"""How often a followed run is read again, in seconds."""
_ANNOUNCED_POLL = 5.0
"""The same where the store announces what is written, in case that an announcement was lost."""
_MAX_NAME = 40


def print_runs(
    store: Store | str | None, flow: str | None, unfinished: bool, since: str | None, limit: int, as_json: bool
) -> int:
    """Print the runs in a store, the latest first, and return the exit code."""
    moment = None if since is None else parse_moment(since)
    runs = list_runs(store, unfinished=unfinished, flow=flow, since=moment)[::-1]
    shown = runs[:limit] if limit else runs
    if as_json:
        print_json([run._asdict() for run in shown])
        return 0
    if not runs:
        print("There are no runs." if flow is None and since is None and not unfinished else "There are no such runs.")
        return 0
    now = time.time()
    rows = [_row(run, now) for run in shown]
    print_table(("RUN", "FLOW", "STATUS", "CALLS", "DURATION", "AGE"), rows, left=(0, 1, 2))
    if len(shown) < len(runs):
        print(f"… and {counted(len(runs) - len(shown), 'earlier run')}; --limit 0 shows all")
    return 0


def _row(run: RunSummary, now: float) -> tuple[str, ...]:
    seconds = "" if run.start_time is None or run.end_time is None else shown_seconds(run.end_time - run.start_time)
    return (
        run.identifier,
        shorten(run.flow_name or run.session_name or "", _MAX_NAME),
        shown_state(run),
        "" if run.calls is None else str(run.calls),
        seconds,
        shown_age(now - (run.modified if run.start_time is None else run.start_time)),
    )


def print_run(
    identifier: str,
    store: Store | str | None,
    failed: bool,
    stats: bool,
    as_json: bool,
    max_tracebacks: int,
    options: dict[str, Any],
) -> int:
    """Print one run: its calls as a tree, what failed, its numbers, or all of it as JSON."""
    info = load_run(identifier, store)
    if as_json:
        print_json({**run_as_data(info), "document": info.payload()})
        return 0
    if stats:
        print(info.summary())
        return 0
    show_tree(info, failed=failed, **options)
    lines = [*info._tree_lines(failed=failed, **options)]
    if failed and len(lines) == 1 and info.status is Status.COMPLETED:
        print("Nothing failed.")
    if any(line.text.endswith(NOT_SHOWN) for line in lines):
        only = " --failed" if failed else ""
        print(f"To see each of them: railtracks show {identifier}{only} --no-folds{store_option(store)}")
    if failed:
        _print_tracebacks(info, max_tracebacks)
    if info.end_time is None:
        is_running = resolve_store(store).is_locked(identifier)
        what = (
            "It is running: railtracks tail"
            if is_running
            else "Its process died before it had ended: railtracks resume"
        )
        print(f"{what} {identifier}{store_option(store)}")
    elif info.interrupted:
        print(f"Ctrl-C or SIGTERM ended it: railtracks resume {identifier}{store_option(store)}")
    _print_what_it_waits_for(info, store)
    if info.damage is not None:
        print(f"A part of the record is damaged: {info.damage}", file=sys.stderr)
    return 0


def _print_what_it_waits_for(info: ExecutionInfo, store: Store | str | None) -> None:
    """Print what a run waits for, and how to go on with one for which some of it has come."""
    identifier, came = info.session_id, came_for(info)
    for question in info.questions:
        print(f"It waits for an answer: {answer_line(identifier, question, store)}")
    if topics := [topic for topic in info.topics if topic not in came]:
        print(f"It waits for messages: {', '.join(topics)}")
    if came and info.end_time is not None:
        if info.questions or topics:
            what = "Something that it waits for has come"
        else:
            what = "It has its message" if set(came) & {*info.topics} else "It has its answer"
        print(f"{what}; to go on: railtracks resume {identifier}{store_option(store)}")


def print_comparison(first: str, second: str, store: Store | str | None) -> int:
    """Print how two runs differ."""
    print(compare(load_run(first, store), load_run(second, store)))
    return 0


def _print_tracebacks(info: ExecutionInfo, limit: int) -> None:
    """Print the tracebacks of the calls that failed, each once, and at most ``limit`` of them; 0 for all."""
    calls: dict[tuple[str, str], list[CallRecord]] = {}
    for record in failures_of(info.records):
        text = printable(traceback_of(record) or shown_error(record.exception, info._redactor)).rstrip()  # type: ignore[arg-type]
        calls.setdefault((record.name, text), []).append(record)
    groups = [*calls.items()]
    shown = groups[:limit] if limit else groups
    for (_, text), records in shown:
        number = f"  ({len(records)} calls)" if len(records) > 1 else ""
        print(f"\n{shown_call(records[0], info._redactor)}{number}\n{text}")
    if left := groups[len(shown) :]:
        failures = counted(sum(len(records) for _, records in left), "more failure")
        print(
            f"\n… and {failures}; --max-tracebacks 0 shows all, and railtracks export {info.session_id} --format csv "
            f"lists all calls with their errors, without tracebacks"
        )


def follow_run(identifier: str, store: Store | str | None) -> int:
    """Print each call of a run as it ends, until the run has ended.

    The run may be that of another process. It is read again and again, each time after at least ten times as long as
    that took. Ctrl-C ends this, and not the run.
    """
    followed = resolve_store(store)
    announced, unwatch = _watch(followed, identifier)
    shown: set[int] = set()
    try:
        while True:
            began = time.monotonic()
            announced.clear()
            is_running = followed.is_locked(identifier)  # asked first, so that nothing is missed that it does after
            info = load_run(identifier, followed)
            ended = [
                record for record in info.records if record.status is not Status.OPEN and record.index not in shown
            ]
            for record in sorted(ended, key=lambda each: each.ended_step or 0):
                print(_ended_line(record, info), flush=True)
            shown.update(record.index for record in ended)
            if not is_running:
                print(next(info._tree_lines(0)).text)
                return 0
            took = time.monotonic() - began
            if unwatch is None:
                time.sleep(max(_POLL, 10 * took))
            else:
                announced.wait(_ANNOUNCED_POLL)
                time.sleep(10 * took)
    finally:
        if unwatch is not None:
            unwatch()


def _watch(store: Store, identifier: str) -> tuple[threading.Event, Callable[[], object] | None]:
    """Return what is set when the store announces that a run was written, and what ends that; None if it does not."""
    announced = threading.Event()
    watch: Callable[[str, Callable[[], None]], Callable[[], object]] | None = getattr(store, "watch", None)
    return announced, None if watch is None else watch(identifier, announced.set)


def _ended_line(record: CallRecord, info: ExecutionInfo) -> str:
    ended = time.strftime("%H:%M:%S", time.localtime(record.ended or record.started))
    seconds = "" if record.ended is None else f"  {shown_seconds(ran_seconds(record))}"
    reason = "" if record.exception is None else f"  {shown_error(record.exception, info._redactor)}"
    return f"{ended}  {shown_call(record, info._redactor)}  {shown_status(record)}{seconds}{reason}"
