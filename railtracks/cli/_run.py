"""``railtracks run`` and ``railtracks resume``: run a flow, and say what came of it."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from railtracks import Flow, RunSuspended, Session
from railtracks._config import is_configured
from railtracks._exit_codes import ExitCode
from railtracks._flow import FlowConnection
from railtracks._options import store_option
from railtracks._progress._display import display
from railtracks.cli._arguments import parameters_of, usage_of
from railtracks.cli._errors import complain, discard_output, exit_code_of, for_the_command_line
from railtracks.cli._options import free_name, option_parameters, split_options
from railtracks.cli._output import (
    answer_line,
    print_json,
    print_value,
    run_as_data,
    show_tree,
    user_traceback,
)
from railtracks.exceptions import ConfigError, RTError
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import innermost

_RESUME = "resume"
_JSON = "json"


def run_flow(flow: Flow[..., Any], tokens: Sequence[str], target: str, parse: Callable[..., Any]) -> int:
    """Run a flow with arguments from the command line, and return the exit code.

    Args:
        flow: The flow.
        tokens: The rest of the command line.
        target: What the user has called the flow.
        parse: Parses the tokens by an app; see ``_app.py``.
    """
    command, names = _command(flow)
    name = f"railtracks run {target}"
    usage = f"Usage: {name} {usage_of(parameters_of(flow.entry_point))}\n"
    app = App(name=name, usage=usage, help=_help_of(flow), help_format="plaintext", version_flags=[])
    app.default(command)
    bound: inspect.BoundArguments | None = parse(app, tokens)
    if bound is None:  # it has printed its help
        return ExitCode.COMPLETED
    given = dict(bound.arguments)
    as_json, resumes = (given.pop(free_name(name, names), False) for name in (_JSON, _RESUME))
    options = split_options(given, names)
    if resumes:
        options["if_exists"] = "resume"
        if "run_identifier" not in {*options, *flow._options}:
            raise ConfigError("--resume needs the name of the run: pass --run-identifier my-unique-run")
    args, kwargs = _arguments(flow.entry_point, {name: given[name] for name in names if name in given})
    connection = shown(with_options(flow, options), as_json).connect()
    return finish(connection, lambda: connection.invoke(*args, **kwargs), as_json)


def with_options(flow: Flow[..., Any], options: dict[str, Any]) -> Flow[..., Any]:
    """Return a flow with some options of its sessions replaced."""
    changed = copy.copy(flow)
    changed._options = {**flow._options, **options}  # type: ignore[typeddict-item]
    return changed


def shown(flow: Flow[..., Any], as_json: bool) -> Flow[..., Any]:
    """Return a flow that shows what it does while it runs, unless it is set whether it does, or JSON is printed."""
    if as_json or flow._options.get("progress") is not None or is_configured("progress"):
        return flow
    return with_options(flow, {"progress": True})


def finish(connection: FlowConnection[..., Any], invoke: Callable[[], Any], as_json: bool) -> int:
    """Run a flow to its end, print its result to standard output and its calls to standard error.

    Args:
        connection: The connection that runs it.
        invoke: Runs it.
        as_json: Whether to print one JSON object instead.

    Returns:
        The exit code.
    """
    result, error = None, None
    with display.no_summaries():  # its tree is printed
        try:
            result = invoke()
        except (Exception, KeyboardInterrupt, SystemExit) as exc:
            error = exc
    code = ExitCode.COMPLETED if error is None else exit_code_of(error)
    session = connection._latest_session
    if error is not None and (session is None or not session.info.records):  # it did not begin
        raise error
    assert session is not None
    try:
        _show_end(session, result, error, code, as_json)
    except BrokenPipeError:  # what reads the output, such as `head`, has gone
        discard_output()
    return code


def _show_end(session: Session, result: object, error: BaseException | None, code: int, as_json: bool) -> None:
    if as_json:
        print_json({**run_as_data(session.info), "exit_code": int(code)})
        return
    if result is not None:
        print_value(result)
    sys.stdout.flush()
    show_tree(session.info, sys.stderr)
    if error is not None:
        _explain(error, session)
    sys.stderr.flush()


def _explain(error: BaseException, session: Session) -> None:
    """Say why a run has not completed, and how to go on with it."""
    identifier, config = session.identifier, session.executor_config
    if isinstance(error, RunSuspended):
        for question in error.questions:
            complain(f"the run waits for an answer: {answer_line(identifier, question, config.store)}")
    elif isinstance(error, KeyboardInterrupt):
        complain("interrupted")
    elif not isinstance(error, SystemExit):
        text = user_traceback(error, session.info._redactor)
        print(for_the_command_line(text) if isinstance(error, RTError) else text, end="", file=sys.stderr)
    elif error.code is not None and not isinstance(error.code, int):
        print(error.code, file=sys.stderr)
    if config.save_state:
        complain(f"to go on with this run: railtracks resume {identifier}{store_option(config.store)}")


def _command(flow: Flow[..., Any]) -> tuple[Callable[..., None], list[str]]:
    """Return a function with the parameters of a flow and the options of a session, and the names of the first."""
    parameters = parameters_of(flow.entry_point)
    names = [each.name for each in parameters]
    own = [
        _flag(free_name(_RESUME, names), "Go on with the run of --run-identifier if there is one."),
        _flag(free_name(_JSON, names), "Print one JSON object to standard output instead of the result."),
    ]
    every = [*parameters, *own, *option_parameters(names, {"progress": "unless --json is given"})]

    def command(*args: Any, **kwargs: Any) -> None: ...

    command.__signature__ = inspect.Signature(sorted(every, key=lambda each: each.kind))  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in every}
    command.__doc__ = inspect.getdoc(innermost(flow.entry_point.func))
    return command, names


def _flag(name: str, text: str) -> inspect.Parameter:
    shown = Annotated[bool, Parameter(name=f"--{name.replace('_', '-')}", help=text, negative="")]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=shown)


def _arguments(node: FunctionNode[..., Any], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    bound = inspect.BoundArguments(inspect.signature(node.func), given)
    return bound.args, bound.kwargs


def _help_of(flow: Flow[..., Any]) -> str:
    text = inspect.getdoc(innermost(flow.entry_point.func)) or ""
    return text.partition("\n\n")[0] or f"Run the flow {flow.name!r}."
