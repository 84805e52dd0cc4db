"""The options of a session, each with its default, its validator, and its parser for text.

To add an option:

1. Add a field to :class:`ExecutorConfig`: ``_option(default, validator, parser)``, and a docstring below it.
2. Add the same name to :class:`SessionOptions`, with the type that users pass. Type checkers need this second list;
   ``test_the_options_are_named_once`` compares the two.
3. Add a row to ``docs/configuration.md``, and values to the tables of ``tests/test_config.py``.

``Session``, ``@session``, ``Flow``, ``set_config``, the environment and the configuration file then take it.
``Session.global_config_precedence`` does not: it has the arguments of the first release, in their order.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypedDict

import attrs

from railtracks._identifiers import explain_invalid_identifier
from railtracks._logging import Level, level_number
from railtracks._policies import (
    NO_POLICIES,
    Cache,
    Limit,
    Policies,
    Retry,
    validate_cache,
    validate_limit,
    validate_retries,
    validate_timeout,
    validate_where,
)

BroadcastCallback = Callable[[Any], None] | Callable[[Any], Awaitable[None]]
AskCallback = Callable[[str], Any]
BACKENDS = ("asyncio", "trio")
PLACES = ("task", "thread", "caller", "process")
"""Where a node can run in any session; an executor of the session is another place."""
DURABILITIES = ("exit", "async", "sync")
ON_WRITE_ERROR = ("continue", "stop")
IF_EXISTS = ("replace", "resume", "fail")
CODE_CHANGES = ("warn", "rerun", "ignore")
TRACE_VALUES = "values"
"""The value of ``tracing`` with which spans get arguments and results."""


class SessionOptions(TypedDict, total=False):
    """The options that ``Session``, ``@session``, ``Flow`` and ``set_config`` take; None means "not given".

    The fields of :class:`ExecutorConfig` have their defaults and explain them.
    """

    timeout: float | None
    end_on_error: bool | None
    logging_setting: Level | None
    log_file: str | os.PathLike[str] | None
    broadcast_callback: BroadcastCallback | None
    run_identifier: str | None
    prompt_injection: bool | None
    save_state: bool | None
    ask_callback: AskCallback | None
    durability: Literal["exit", "async", "sync"] | None
    store: Any
    backend: Literal["asyncio", "trio"] | None
    max_threads: int | None
    if_exists: Literal["replace", "resume", "fail"] | None
    code_changes: Literal["warn", "rerun", "ignore"] | None
    allow_rerun: bool | None
    suspend: bool | None
    max_value_bytes: int | None
    on_write_error: Literal["continue", "stop"] | None
    slow_callback_seconds: float | None
    tracing: bool | Literal["values"] | None
    progress: bool | None
    node_timeout: float | None
    retries: int | Retry | None
    limit: float | Limit | None
    cache: bool | Cache | None
    where: str | None
    max_concurrency: int | None
    max_calls: int | None
    max_depth: int | None
    budget: float | None
    executors: Mapping[str, Any] | None
    default_llm: Any


# ---- validators: each returns the value in the type of its field, or raises ValueError that says what it expects


def _validate_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False")
    return value


def _validate_count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number above 0")
    return int(value)


def _validate_level(value: Any) -> str:
    level_number(value)
    return str(value).upper()


def _validate_path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("a path, as a string or pathlib.Path")
    return path


def _validate_callback(value: Any) -> BroadcastCallback:
    if not callable(value):
        raise ValueError("a function of one argument, sync or async")
    return value  # type: ignore[no-any-return]


def _validate_identifier(value: Any) -> str:
    allowed = "a file name of letters, digits, '.', '_' and '-', such as 'my-unique-run'"
    if not isinstance(value, str):
        raise ValueError(allowed)
    if problem := explain_invalid_identifier(value):
        raise ValueError(f"{allowed}; {problem}")
    return value


def _validate_choice(*allowed: str) -> Callable[[Any], str]:
    def validate(value: Any) -> str:
        if value not in allowed:
            raise ValueError(" or ".join(map(repr, allowed)))
        return str(value)

    return validate


def _validate_executors(value: Any) -> Mapping[str, Any]:
    allowed = "a mapping of names to executors, such as {'pool': ProcessPoolExecutor(4)}"
    if not isinstance(value, Mapping):
        raise ValueError(allowed)
    for name, executor in value.items():
        if not isinstance(name, str) or explain_invalid_identifier(name):
            raise ValueError(f"{allowed}; a name of letters, digits, '.', '_' and '-'")
        if name in PLACES:
            raise ValueError(f"{allowed}, under other names than {', '.join(map(repr, PLACES))}")
        if not callable(executor) and not callable(getattr(executor, "submit", None)):
            raise ValueError(f"{allowed}: with a method submit(), or a function that makes one")
    return dict(value)


def _validate_tracing(value: Any) -> bool | str:
    if isinstance(value, bool) or value == TRACE_VALUES:
        return value  # type: ignore[no-any-return]
    raise ValueError("True, False or 'values'")


def _validate_store(value: Any) -> Any:
    if isinstance(value, str):
        kind, _, path = value.partition(":")
        if kind in ("file", "sqlite") and path and "\0" not in path:
            return value
        if kind in ("postgresql", "postgres") and path.startswith("//") and "\0" not in path:
            return value
    else:
        from railtracks.state._stores._protocols import is_store  # here, as few programs have a store of their own

        if is_store(value):
            return value
    raise ValueError(
        "'file:FOLDER', 'sqlite:FILE', 'postgresql://HOST/DATABASE', or a store such as rt.state.SQLiteStore('runs.db')"
    )


def shown_store(text: str) -> str:
    """Return the text of a store for people: without the password that the address of a database may have."""
    address, mark, query = text.partition("?")
    before, at, host = address.rpartition("@")
    begin = before.find("//") + 2 if "//" in before else before.find(":") + 1
    user, colon, _ = before[begin:].partition(":")
    hidden = "***" if colon else ""
    parameters = (each if "password" not in each else f"{each.partition('=')[0]}=***" for each in query.split("&"))
    return f"{before[:begin]}{user}{colon}{hidden}{at}{host}{mark}{'&'.join(parameters)}"


def store_option(store: object) -> str:
    """Return what follows a command for a run in a store that a text names, for a shell; "" for any other store.

    The password that the address of a database may have is not shown.
    """
    if not isinstance(store, str):
        return ""
    import shlex  # here, as few programs need it

    return f" --store {shlex.quote(shown_store(store))}"


def _validate_model(value: Any) -> Any:
    is_made = not isinstance(value, type) and isinstance(getattr(value, "name", None), str)
    if not is_made or not all(callable(getattr(value, part, None)) for part in ("complete", "stream")):
        raise ValueError("a model, such as rt.llm.OpenAI('gpt-5'), or an object with all that rt.llm.Model lists")
    return value


def _show_model(value: Any) -> str:
    """Return a model for people: not its own repr, which may show a key."""
    if isinstance(value, str | int | float | type | NotSent):
        return repr(value)
    name = getattr(value, "name", "")
    return f"<{type(value).__name__} {name}>" if name else f"<{type(value).__name__}>"


@attrs.frozen
class NotSent:
    """Stands for a model in a worker that could not be sent there.

    Args:
        reason: Why not.
    """

    reason: str


def _show_store(value: Any) -> str:
    is_database = isinstance(value, str) and value.startswith("postgres")
    return repr(shown_store(value) if is_database else value)


# ---- parsers: each turns text into a value, which is validated after that


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number of seconds above 0 ('inf' for no limit)") from None


def _parse_count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number above 0") from None


def parse_bool(text: str) -> bool:
    """Return what a text means as a yes or no, in upper or lower case.

    Raises:
        ValueError: It is none of the words for it, which the error lists.
    """
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("1, true, yes, on, 0, false, no or off")
    return words[text.strip().lower()]


def _parse_tracing(text: str) -> bool | str:
    try:
        return parse_bool(text)
    except ValueError as exc:
        if text.strip().lower() == TRACE_VALUES:
            return TRACE_VALUES
        raise ValueError(f"{TRACE_VALUES!r}, or {exc}") from None


def _parse_retries(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("how many times a call is tried again, such as 3") from None


def _parse_limit(text: str) -> int | float:
    return float(text) if text.strip().lower() == "inf" else _parse_count(text)


def _option(
    default: Any,
    validate: Callable[[Any], Any],
    parse: Callable[[str], Any] | None = str,
    is_parsed_in_files: bool = False,
    show: Callable[[Any], str] = repr,
) -> Any:
    """Return the field of an option.

    Args:
        default: Its default.
        validate: Its validator.
        parse: Its parser; None if text cannot express the option, so that the environment cannot set it.
        is_parsed_in_files: Whether it may be a text in a configuration file, too, and is parsed then.
        show: Returns a value for people, where it may hold a secret.
    """
    metadata = {"validate": validate, "parse": parse, "is_parsed_in_files": is_parsed_in_files, "show": show}
    return attrs.field(default=default, metadata=metadata, repr=show)


def _seconds(default: float) -> Any:
    """Return the field of an option in seconds; "inf" means no limit wherever it is written, as TOML's own inf does."""
    return _option(default, validate_timeout, _parse_number, is_parsed_in_files=True)


@attrs.frozen(kw_only=True)
class ExecutorConfig:
    """The configuration of a session: all its options, settled. Made by :func:`resolve_config`, never by hand."""

    timeout: float = _seconds(150.0)
    """The limit for each top-level call, in seconds; ``math.inf`` for no limit."""

    end_on_error: bool = _option(False, _validate_bool, parse_bool)
    """Whether the first node that fails cancels all other calls of the session."""

    logging_setting: str = _option("REGULAR", _validate_level)
    """Which log records the session makes: VERBOSE, REGULAR, QUIET or NONE, or a standard level name."""

    log_file: str | None = _option(None, _validate_path)
    """The file that the session's log records are appended to, or None."""

    broadcast_callback: BroadcastCallback | None = _option(None, _validate_callback, None)  # noqa: RUF009 (a field, not a default)
    """A function, sync or async, that is called with each item that is broadcast."""

    run_identifier: str | None = _option(None, _validate_identifier)
    """The identifier of the session, and the name of its state file; None for a random one."""

    prompt_injection: bool = _option(True, _validate_bool, parse_bool)
    """Whether ``{name}`` in the system and user messages of agents is filled from the context."""

    save_state: bool = _option(True, _validate_bool, parse_bool)
    """Whether the session is saved to ``.railtracks/<identifier>.json``, and to a journal while it runs."""

    ask_callback: AskCallback | None = _option(None, _validate_callback, None)  # noqa: RUF009 (a field, not a default)
    """The function that answers ``rt.ask``: called with the question, it returns the answer. A sync one runs in a
    worker thread; ``input`` asks in the terminal. None: ``rt.ask`` raises."""

    durability: str = _option("async", _validate_choice(*DURABILITIES))
    """What a killed process may lose. "sync": nothing that a call has returned. "async": each record is passed to the
    operating system at once, and to the disk every 50 ms. "exit": everything; the state is saved when the session
    ends."""

    store: Any = _option(None, _validate_store, show=_show_store)  # noqa: RUF009 (a field, not a default)
    """Where runs are saved: a store such as ``rt.state.SQLiteStore``, or "file:FOLDER", "sqlite:FILE" or
    "postgresql://USER@HOST/DATABASE". None: files in ``.railtracks``, or in ``RAILTRACKS_HOME``."""

    backend: str = _option("asyncio", _validate_choice(*BACKENDS))
    """The backend of the synchronous forms: "asyncio" or "trio"."""

    max_threads: int = _option(40, _validate_count, _parse_count)
    """How many worker threads run sync nodes at once. One that waits in ``rt.call_sync`` does not count, and neither
    does one that a cancelled call left behind."""

    if_exists: str = _option("replace", _validate_choice(*IF_EXISTS))
    """What a session does if there is a run with its ``run_identifier``. "replace": it begins from the start and takes
    the place of that run, which is kept under another identifier unless it had completed. "resume": it goes on with
    that run. "fail": entering raises RunExistsError."""

    code_changes: str = _option("warn", _validate_choice(*CODE_CHANGES))
    """What a session that resumes a run does about recorded results of functions whose code has changed since. "warn":
    it uses them, and warns once. "rerun": it runs such calls again. "ignore": it uses them."""

    allow_rerun: bool = _option(False, _validate_bool, parse_bool)
    """Whether a session that resumes a run may do all of it again if it finds nothing of what had completed. Otherwise
    its first call raises StateError then."""

    suspend: bool | None = _option(None, _validate_bool, parse_bool)
    """Whether the run is suspended when nothing in it can go on without an answer or a message. False: it waits. None:
    the runs of flows are suspended, and sessions that the program opens itself wait."""

    max_value_bytes: int = _option(64 * 2**20, _validate_count, _parse_count)
    """The number of bytes on record up to which the arguments of a call, its result, and a value in the context are
    recorded whole. A larger one is cut, and a call with it runs again when the run is resumed."""

    on_write_error: str = _option("continue", _validate_choice(*ON_WRITE_ERROR))
    """What a session does if its calls cannot be recorded, because the disk is full, for example. "continue": it goes
    on without a record, logs an error, and begins to record again when that is possible. "stop": its calls are
    cancelled, and it raises StateError."""

    slow_callback_seconds: float = _seconds(1.0)
    """How long code of a node may block the event loop, in seconds, before a warning says so; ``math.inf`` for no
    warnings. An event loop is checked four times in that time, so what takes up to a quarter longer may be missed."""

    tracing: bool | str = _option(False, _validate_tracing, _parse_tracing)
    """Whether the session makes spans of OpenTelemetry, one for itself and one for each call. "values": they get the
    arguments and the results of the calls as well, shortened and without secrets."""

    progress: bool = _option(False, _validate_bool, parse_bool)
    """Whether standard error shows what the session does while it runs: a tree in a terminal, a line now and then
    elsewhere."""

    node_timeout: float | None = _option(None, validate_timeout, _parse_number, is_parsed_in_files=True)
    """How long a call of a node without a ``timeout`` of its own may take, in seconds, before it fails with
    ``NodeTimeOutError``; None or ``math.inf`` for no limit."""

    retries: Retry | None = _option(None, validate_retries, _parse_retries)  # noqa: RUF009 (a field, not a default)
    """How often a call of a node without ``retries`` of its own is tried again when it fails: a number, or an
    ``rt.Retry``."""

    limit: float | Limit | None = _option(None, validate_limit, _parse_limit)  # noqa: RUF009 (a field, not a default)
    """How many calls of each node without a ``limit`` of its own run at once: a number, or an ``rt.Limit`` that all
    these nodes share."""

    cache: Cache | bool | None = _option(None, validate_cache, parse_bool)  # noqa: RUF009 (a field, not a default)
    """Whether results of nodes without a ``cache`` of their own are used again for equal calls: True, False, or an
    ``rt.Cache``."""

    where: str | None = _option(None, validate_where)
    """Where sync nodes without a ``where`` of their own run; see ``rt.function_node``."""

    max_concurrency: int | None = _option(None, _validate_count, _parse_count)
    """How many calls run at once; others wait. A call that waits for calls which it has made does not count. None for
    no limit."""

    max_calls: int | None = _option(None, _validate_count, _parse_count)
    """How many calls the session may make in all; a call beyond that raises ``LimitExceededError``. None for no
    limit."""

    max_depth: int | None = _option(None, _validate_count, _parse_count)
    """How deep calls may be nested; a top-level call has depth 1, and a call that would be deeper raises
    ``LimitExceededError``. None for no limit."""

    budget: float | None = _option(None, validate_timeout, _parse_number, is_parsed_in_files=True)
    """How many seconds all calls of the session together may take, from the first one on. After that they are
    cancelled, and top-level calls raise ``LimitExceededError``. None or ``math.inf`` for no limit."""

    executors: Mapping[str, Any] | None = _option(None, _validate_executors, None)
    """Executors as ``concurrent.futures`` has them, or functions that make them, by the name that nodes run in them by:
    ``where="name"``. What a function makes belongs to the session, which shuts it down at its end."""

    default_llm: Any = _option(None, _validate_model, None, show=_show_model)  # noqa: RUF009 (a field, not a default)
    """The model of agents that have none of their own; see ``rt.llm.Model``."""

    @property
    def policies(self) -> Policies | None:
        """The policies of nodes that declare none of their own; None if there are none."""
        given = Policies(
            timeout=self.node_timeout, retries=self.retries, limit=self.limit, cache=self.cache, where=self.where
        )
        return None if given == NO_POLICIES else given
