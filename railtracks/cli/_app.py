"""The commands and their options. What they do is in the other modules."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter, validators

from railtracks import __version__
from railtracks._exit_codes import ExitCode
from railtracks.cli._errors import MistakeError, complain, discard_output, explain_usage
from railtracks.exceptions import ConfigError, RTError, RunNotFoundError
from railtracks.state import Store

app = App(
    name="railtracks",
    help="Run flows, and see, resume, answer and remove their runs.",
    help_format="plaintext",
    help_epilogue="Examples: railtracks run app.py:flow 30 --timeout 60; railtracks show RUN --failed.",
    version=__version__,
    default_parameter=Parameter(negative=""),
)
app.register_install_completion_command(help="Install the completion of commands for your shell.")
_SEEING, _CHANGING, _CHECKING = (Group.create_ordered(name) for name in ("Run and see", "Change", "Check"))

_NOT_NEGATIVE = validators.Number(gte=0)
Run = Annotated[str, Parameter(help="The identifier of a run, as `railtracks list` shows it.")]
_STORES = "file:FOLDER, sqlite:FILE, postgresql://USER@HOST/DATABASE"
StoreOption = Annotated[
    str | None,
    Parameter(
        name="--store",
        help=f"Where runs are kept: {_STORES}, or MODULE:NAME. Default: as configured.",
    ),
]
_OUTPUT = Parameter(help="The file; - for standard output. Default: a temporary one.", allow_leading_hyphen=True)
Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for machines.")]


@app.command(
    group=_SEEING,
    help_flags=[],
    version_flags=[],
    help_epilogue="Examples: railtracks run app.py:flow 30; railtracks run app:flow --help.",
)
def run(
    target: Annotated[str, Parameter(help="MODULE:NAME or PATH.py:NAME of a flow or a node.")],
    /,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True, help="Its arguments, and options of the session.")],
) -> int:
    """Run a flow or a node. `railtracks run TARGET --help` lists its arguments and the options of the session.

    The result goes to standard output, everything else to standard error. Exit codes: 0, 1 if it failed, 124 if it
    timed out, 130 at Ctrl-C, 75 if it waits for an answer or a message.
    """
    from railtracks.cli._run import run_flow
    from railtracks.cli._targets import load_flow

    if target in ("--help", "-h"):
        app.help_print(["run"])
        return 0
    return run_flow(load_flow(target), arguments, target, _parse)


@app.command(name="list", group=_SEEING)
def list_(
    *,
    flow: Annotated[str | None, Parameter(help="Only runs of the flow with this name.")] = None,
    unfinished: Annotated[bool, Parameter(help="Only runs that have not completed.")] = False,
    since: Annotated[str | None, Parameter(help="Only runs since then: 12h, 7d, or 2026-01-31.")] = None,
    limit: Annotated[int, Parameter(help="How many of the latest runs; 0 for all.", validator=_NOT_NEGATIVE)] = 50,
    store: StoreOption = None,
    json: Json = False,
) -> int:
    """List the runs, the latest first."""
    from railtracks.cli._runs import print_runs

    return print_runs(_store(store), flow, unfinished, since, limit, json)


@app.command(group=_SEEING)
def show(
    run: Run,
    *,
    failed: Annotated[bool, Parameter(help="Only what did not complete, and the tracebacks.")] = False,
    stats: Annotated[bool, Parameter(help="Numbers: per node, the critical path, memory.")] = False,
    max_calls: Annotated[int, Parameter(help="How many lines of calls; 0 for all.", validator=_NOT_NEGATIVE)] = 200,
    max_tracebacks: Annotated[
        int, Parameter(help="How many tracebacks with --failed; 0 for all.", validator=_NOT_NEGATIVE)
    ] = 3,
    arguments: Annotated[bool, Parameter(help="With the arguments of calls.", negative="--no-arguments")] = True,
    folds: Annotated[bool, Parameter(help="Many calls of one node on one line.", negative="--no-folds")] = True,
    store: StoreOption = None,
    json: Json = False,
) -> int:
    """Show the calls of a run as a tree."""
    from railtracks.cli._runs import print_run

    options = {"max_calls": max_calls or math.inf, "arguments": arguments, "folds": folds}
    return print_run(run, _store(store), failed, stats, json, max_tracebacks, options)


@app.command(group=_SEEING)
def view(
    run: Run,
    *,
    output: Annotated[Path | None, _OUTPUT] = None,
    log: Annotated[Path | None, Parameter(help="A log file of the run, whose lines the page shows by call.")] = None,
    open: Annotated[
        bool | None, Parameter(help="Open it in a browser. Default: only a temporary file.", negative="--no-open")
    ] = None,
    store: StoreOption = None,
) -> int:
    """Show a run as a page in the browser: one file with timeline, calls and failures, which works offline."""
    from railtracks.cli._view import view_run

    return view_run(run, output, log, open, _store(store))


@app.command(group=_SEEING)
def tail(run: Run, *, store: StoreOption = None) -> int:
    """Follow a run of another process: print each call as it ends."""
    from railtracks.cli._runs import follow_run

    return follow_run(run, _store(store))


@app.command(group=_SEEING)
def export(
    run: Run,
    *,
    format: Annotated[
        Literal["chrome-trace", "mermaid", "dot", "otlp", "json", "csv"],
        Parameter(
            help="chrome-trace opens in Perfetto, mermaid and dot are pictures of which node called which, otlp is for "
            "collectors of OpenTelemetry."
        ),
    ],
    output: Annotated[Path | None, Parameter(help="A file. Default: standard output.")] = None,
    store: StoreOption = None,
) -> int:
    """Write a run in the format of another program."""
    from railtracks.cli._export import export_run

    return export_run(run, format, output, _store(store))


@app.command(group=_SEEING)
def compare(run_a: Run, run_b: Run, *, store: StoreOption = None) -> int:
    """Compare two runs of a flow: what each node took, what failed in one of them only, where the time differs."""
    from railtracks.cli._runs import print_comparison

    return print_comparison(run_a, run_b, _store(store))


@app.command(group=_SEEING)
def ui(
    *,
    port: Annotated[
        int,
        Parameter(
            help="A port of this machine; 0 for any that is free.", validator=validators.Number(gte=0, lte=65535)
        ),
    ] = 0,
    browser: Annotated[bool, Parameter(name="--open", help="Open it in the browser.", negative="--no-open")] = True,
    store: StoreOption = None,
) -> int:
    """Show the runs in the browser, live: see, resume, answer, cancel and compare them. Ctrl-C ends it."""
    try:
        from railtracks.ui._server import serve
    except ModuleNotFoundError as exc:
        raise MistakeError(f"{exc}; install it with `pip install '.[ui]'` in a checkout of Railtracks") from None

    return serve(_store(store), store, port, browser)


@app.command(
    group=_SEEING,
    help_epilogue="Example: railtracks mcp app.py:flow tools.py:forecast --name weather.",
)
def mcp(
    target: Annotated[str, Parameter(help="MODULE:NAME or PATH.py:NAME of a flow, a node, or an rt.mcp.Server.")],
    /,
    *more: Annotated[str, Parameter(help="More of them.")],
    name: Annotated[str, Parameter(help="The name of the server, for clients.")] = "railtracks",
) -> int:
    """Serve flows and nodes as tools over standard input and output, by the Model Context Protocol."""
    from railtracks.cli._mcp import serve_tools

    return serve_tools([target, *more], name)


@app.command(group=_CHANGING)
def resume(
    run: Run,
    *,
    flow: Annotated[
        str | None, Parameter(help="MODULE:NAME or PATH.py:NAME. Default: found by what is on record.")
    ] = None,
    answer: Annotated[tuple[str, ...], Parameter(help="An answer to a question of the run: ID=VALUE.")] = (),
    allow_rerun: Annotated[
        bool, Parameter(help="Run all of it again if nothing that had completed can be used.")
    ] = False,
    store: StoreOption = None,
    json: Json = False,
    progress: Annotated[
        bool | None,
        Parameter(negative="--no-progress", help="Show what runs. Default: as configured, or else without --json."),
    ] = None,
) -> int:
    """Go on with a run. What had completed does not run again."""
    from railtracks.cli._actions import resume_run

    return resume_run(run, flow, answer, allow_rerun, _store(store), json, progress)


@app.command(group=_CHANGING)
def answer(
    run: Run,
    question: Annotated[str, Parameter(help="The id of the question, as `railtracks show RUN` prints it.")],
    value: Annotated[str, Parameter(help="The answer: JSON, or else text.", allow_leading_hyphen=True)],
    *,
    store: StoreOption = None,
) -> int:
    """Answer a question that a run waits for."""
    from railtracks.cli._actions import answer_question

    return answer_question(run, question, value, _store(store))


@app.command(group=_CHANGING)
def cancel(run: Run, *, store: StoreOption = None) -> int:
    """Cancel a run, in whatever process it runs."""
    from railtracks.cli._actions import cancel as cancel_run

    return cancel_run(run, _store(store))


@app.command(group=_CHANGING)
def prune(
    *,
    older_than: Annotated[
        str | None, Parameter(help="Only runs that were last written longer ago than this: 12h, 30d.")
    ] = None,
    keep: Annotated[int | None, Parameter(help="Keep this many of the latest runs.")] = None,
    pending: Annotated[bool, Parameter(help="Also runs that are to go on, such as suspended ones.")] = False,
    store: StoreOption = None,
) -> int:
    """Remove runs that are over, and cached results that have expired or, with --older-than, are older."""
    from railtracks.cli._actions import remove_runs

    return remove_runs(older_than, keep, pending, _store(store))


@app.command(group=_CHECKING)
def config(*, json: Json = False) -> int:
    """Show each option of a session, its value, and where that comes from."""
    from railtracks.cli._doctor import print_config

    return print_config(json)


@app.command(group=_CHECKING)
def doctor(*, store: StoreOption = None) -> int:
    """Check what is installed, whether the store can be written to, and which backends work."""
    from railtracks.cli._doctor import examine

    return examine(_store(store))


def _store(text: str | None) -> Store | str | None:
    """Return the store that a text names."""
    if text is None or text.startswith(("file:", "sqlite:", "postgresql:", "postgres:")):
        return text
    from railtracks.cli._targets import load_object
    from railtracks.state._stores._protocols import is_store

    found = load_object(text)
    if not is_store(found):
        raise MistakeError(f"--store {text}: {found!r} is not a store; use {_STORES} or MODULE:NAME")
    return found  # type: ignore[no-any-return]


def _parse(command: App, tokens: Sequence[str]) -> Any:
    """Return the arguments of the only command of an app; None if it has printed its help instead.

    Raises:
        CycloptsError: They cannot be understood.
    """
    found, bound, _ = command.parse_args(tokens, print_error=False, exit_on_error=False)
    if found != command.default_command:
        found(*bound.args, **bound.kwargs)
        return None
    return bound


def run_command_line(tokens: Sequence[str]) -> int:
    """Run a command, and return its exit code. What is the user's mistake is one line, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal cannot show
    try:
        return _guarded(lambda: app(tokens, print_error=False, exit_on_error=False, result_action="return_value"))
    finally:
        try:
            if sys.stdout is not None:  # it is closed
                sys.stdout.flush()
        except BrokenPipeError:
            discard_output()


def _guarded(command: Callable[[], Any]) -> int:
    try:
        return int(command() or 0)
    except CycloptsError as exc:
        complain(explain_usage(exc))
        return ExitCode.USAGE
    except (MistakeError, ConfigError, RunNotFoundError) as exc:
        complain(exc)
        return ExitCode.USAGE
    except (RTError, OSError) as exc:
        if isinstance(exc, BrokenPipeError):  # what reads the output, such as `head`, has seen enough
            discard_output()
            return ExitCode.COMPLETED
        complain(exc)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
