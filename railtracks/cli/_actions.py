"""``railtracks resume``, ``answer``, ``cancel`` and ``prune``: what changes runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from railtracks import ExecutionInfo, Flow
from railtracks._exit_codes import ExitCode
from railtracks._options import store_option
from railtracks._wording import counted
from railtracks.cli._errors import MistakeError, advice_for_the_command_line, complain
from railtracks.cli._output import MAX_TEXT, came_for, parse_span, print_json, print_value, run_as_data
from railtracks.cli._run import finish, shown, with_options
from railtracks.cli._targets import find_flow, load_flow, load_object
from railtracks.state import Status, Store, cancel_run, load_run, prune, send
from railtracks.state._serialization._renaming import split_key
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._stores._messages import parse_value
from railtracks.state._stores._settings import resolve_store


def resume_run(
    identifier: str,
    target: str | None,
    answers: Sequence[str],
    allow_rerun: bool,
    store: Store | str | None,
    as_json: bool,
    progress: bool | None,
) -> int:
    """Go on with a run, and return the exit code. Of a run that has completed, print the result that is on record.

    Args:
        identifier: The run.
        target: The flow, as for ``railtracks run``; None: find it by what is on record.
        answers: Answers to its questions, each as ``ID=VALUE``.
        allow_rerun: Whether all of it may run again, if nothing that had completed can be used.
        store: The store that the run is in.
        as_json: Whether to print one JSON object.
        progress: Whether to show what runs; None: as configured, or if JSON is not printed.
    """
    info = load_run(identifier, store)
    if info.status is Status.COMPLETED and not info.interrupted:
        return _print_completed(info, target, store, as_json)
    flow = _flow_of(info, identifier) if target is None else load_flow(target)
    if allow_rerun:
        flow = with_options(flow, {"allow_rerun": True})
    if store is not None:
        flow = with_options(flow, {"store": store})
    if progress is not None:
        flow = with_options(flow, {"progress": progress})
    parsed = dict(map(_parse_answer, answers)) or None
    connection = shown(flow, as_json).connect()
    return finish(connection, lambda: connection.resume(identifier, answers=parsed), as_json)


def _print_completed(info: ExecutionInfo, target: str | None, store: Store | str | None, as_json: bool) -> int:
    """Say that a run has completed, print its result, and leave it alone: to run it again would replace its record."""
    run = info.session_id
    advice = f"see railtracks show {run}{store_option(store)}"
    complain(f"the run {run} has completed, and there is nothing to go on with; {advice}")
    if as_json:
        print_json({**run_as_data(info), "exit_code": int(ExitCode.COMPLETED)})
        return ExitCode.COMPLETED
    with suppress(MistakeError):  # without its flow, the result is plain data
        flow = _flow_of(info, run) if target is None else load_flow(target)
        info = load_run(run, resolve_store(store), flow=flow)
    result = next((record.result for record in info._root_calls()), None)
    if result is not None:
        print_value(result)
    return ExitCode.COMPLETED


def _flow_of(info: ExecutionInfo, identifier: str) -> Flow[..., Any]:
    """Return the flow of a run: one of its name in the module of its entry point, or the entry point as a flow."""
    top = next((record for record in info.records if record.parent is None), None)
    path = None if top is None or top.node is None else split_key(top.node)[0]
    module = None if path is None else path.rpartition(".")[0]
    advice = f"name it: railtracks resume {identifier} --flow app.py:flow"
    if info.flow_name is None:
        raise MistakeError(f"the run {identifier} was not made by a flow; {advice}")
    if (found := find_flow(module, info.flow_name)) is not None:
        return found
    if path is None or module is None:
        raise MistakeError(f"the flow {info.flow_name!r} of the run {identifier} cannot be found; {advice}")
    try:
        entry_point = load_object(f"{module}:{path.rpartition('.')[2]}")
    except MistakeError as exc:
        raise MistakeError(
            f"the flow {info.flow_name!r} of the run {identifier} cannot be found: {exc}; {advice}"
        ) from exc
    return Flow(info.flow_name, entry_point)


def _parse_answer(text: str) -> tuple[str, Any]:
    question, equals, value = text.partition("=")
    if not equals:
        raise MistakeError(f"--answer {text}: expected ID=VALUE")
    return question, parse_value(value)


def answer_question(identifier: str, question: str, value: str, store: Store | str | None) -> int:
    """Send the answer to a question of a run."""
    info = load_run(identifier, store)
    known = {each.id: each.text for each in info.questions}
    command = f"railtracks resume {identifier}{store_option(store)}"
    if question in came_for(info):
        raise MistakeError(f"the question {question} has its answer; to go on: {command}")
    if question not in known:
        listed = "; ".join(f"{each} ({shorten(text, MAX_TEXT)})" for each, text in known.items())
        raise MistakeError(
            f"the run {identifier} has no open question {question}; "
            + (f"open are {listed}" if known else "none is open")
        )
    send(identifier, question, parse_value(value), store)
    print(f"The answer is sent. If the run is not running: {command}")
    return 0


def cancel(identifier: str, store: Store | str | None) -> int:
    """Cancel a run."""
    cancel_run(identifier, store)
    print(f"The run {identifier} is cancelled, or will be within about a second if it is running.")
    return 0


def remove_runs(older_than: str | None, keep: int | None, pending: bool, store: Store | str | None) -> int:
    """Remove runs that are over."""
    if older_than is None and keep is None:
        raise MistakeError("prune without a limit would remove all runs; pass --older-than 30d, --keep 100, or both")
    seconds = None if older_than is None else parse_span(older_than)
    with advice_for_the_command_line():
        removed = prune(older_than=seconds, keep=keep, pending=pending, store=store)
    print(f"{counted(len(removed), 'run')} removed.")
    return 0
