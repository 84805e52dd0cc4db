"""The options of a session: declared once, merged once.

Strongest first: the argument; ``rt.set_config``; the environment (``RAILTRACKS_TIMEOUT``, ...); the
configuration file (``railtracks.toml``, or ``[tool.railtracks]`` of the nearest ``pyproject.toml``); the default.
Every value is checked by the one validator of its option, whichever way it came.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypedDict, Unpack

import attrs

from railtracks._ids import identifier_problem
from railtracks._logging import Level, level_number
from railtracks._scope import current
from railtracks.exceptions import ConfigError

BroadcastCallback = Callable[[Any], None] | Callable[[Any], Awaitable[None]]
AskCallback = Callable[[str], Any]
BACKENDS = ("asyncio", "trio")
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
DURABILITIES = ("exit", "async", "sync")
STORE_METHODS = (
    "lock", "is_locked", "open", "move_journal", "exists", "modified", "save", "read", "list", "remove", "sweep",
    "where",
)  # fmt: skip


class SessionOptions(TypedDict, total=False):
    """The options that ``Session``, ``@session``, ``Flow`` and ``set_config`` take; None means "not given".

    Their meaning and defaults stand at the fields of :class:`ExecutorConfig`.
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


def _timeout(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**62:
        return float(value)
    if value == math.inf:
        return math.inf
    raise ValueError("a number of seconds above 0 and below 2**62 (math.inf for no limit)")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False")
    return value


def _level(value: Any) -> str:
    level_number(value)
    return str(value).upper()


def _path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("a path, as text or pathlib.Path")
    return path


def _callback(value: Any) -> BroadcastCallback:
    if not callable(value):
        raise ValueError("a function of one argument, sync or async")
    return value  # type: ignore[no-any-return]


def _identifier(value: Any) -> str:
    allowed = "a file name of letters, digits, '.', '_' and '-', such as 'my-unique-run'"
    if not isinstance(value, str):
        raise ValueError(allowed)
    if problem := identifier_problem(value):
        raise ValueError(f"{allowed}; {problem}")
    return value


def _backend(value: Any) -> str:
    if value not in BACKENDS:
        raise ValueError(" or ".join(map(repr, BACKENDS)))
    return str(value)


def _durability(value: Any) -> str:
    if value not in DURABILITIES:
        raise ValueError(" or ".join(map(repr, DURABILITIES)))
    return str(value)


def _store(value: Any) -> Any:
    if isinstance(value, str):
        kind, _, path = value.partition(":")
        if kind in ("file", "sqlite") and path and "\0" not in path:
            return value
    elif not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in STORE_METHODS):
        return value
    raise ValueError("'file:FOLDER', 'sqlite:FILE', or a store such as rt.state.SQLiteStore('runs.db')")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number of seconds above 0 ('inf' for no limit)") from None


def _truth(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("1, true, yes, on, 0, false, no or off")
    return words[text.strip().lower()]


def _option(default: Any, check: Callable[[Any], Any], parse: Callable[[str], Any] | None = str) -> Any:
    """An option: its default, its check (ValueError says what is allowed), how text becomes it (None: never)."""
    return attrs.field(default=default, metadata={"check": check, "parse": parse})


@attrs.frozen(kw_only=True)
class ExecutorConfig:
    """The settled options of a session. Frozen; made by :func:`merge`, never by hand."""

    timeout: float = _option(150.0, _timeout, _number)
    """Seconds that each top-level call may take; ``math.inf`` for no limit."""

    end_on_error: bool = _option(False, _flag, _truth)
    """True: the first node that fails cancels all other calls of the session."""

    logging_setting: str = _option("REGULAR", _level)
    """VERBOSE, REGULAR, QUIET or NONE, or a standard level name: which of its log records the session makes."""

    log_file: str | None = _option(None, _path)
    """A file that the session's log records are appended to; None for none."""

    broadcast_callback: BroadcastCallback | None = _option(None, _callback, None)  # noqa: RUF009 (a field, not a default)
    """Called with each item that is broadcast; sync or async."""

    run_identifier: str | None = _option(None, _identifier)
    """The identifier of the session and the name of its state file; None for a random one."""

    prompt_injection: bool = _option(True, _flag, _truth)
    """Fill ``{name}`` in the system and user messages of agents from the context."""

    save_state: bool = _option(True, _flag, _truth)
    """Save what happens to ``.railtracks/<identifier>.json``, by way of a journal while the session runs."""

    ask_callback: AskCallback | None = _option(None, _callback, None)  # noqa: RUF009 (a field, not a default)
    """Answers the questions of ``rt.ask``: called with the question, returns the answer. Sync ones run in a worker
    thread; ``input`` asks in the terminal. None: there is nobody to ask."""

    durability: str = _option("async", _durability)
    """What a killed process may lose. "sync": nothing that a call has returned. "async": each record is handed to the
    operating system at once, and to the disk every 50 ms. "exit": everything; the state is saved when the session
    ends."""

    store: Any = _option(None, _store)  # noqa: RUF009 (a field, not a default)
    """Where: ``rt.state.FileStore``, ``SQLiteStore``, or "file:FOLDER" or "sqlite:FILE"; None for files in
    ``.railtracks``, or in ``RAILTRACKS_HOME``."""

    backend: str = _option("asyncio", _backend)
    """The event loop of the synchronous forms: "asyncio" or "trio"."""


_FIELDS: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(ExecutorConfig)}
_global: dict[str, Any] = {}
scoped: ContextVar[Mapping[str, Any]] = ContextVar("railtracks_options", default=NO_OPTIONS)
"""Options that a test harness gives to all sessions that it runs, as if they were arguments, unless these are given."""
_lock = threading.Lock()


_CHECKS: dict[str, Callable[[Any], Any]] = {name: field.metadata["check"] for name, field in _FIELDS.items()}


def checked(options: Mapping[str, Any], source: str = "argument") -> dict[str, Any]:
    """The options that are given (not None), as the types of their fields.

    Raises:
        ConfigError: a name is unknown or a value is not allowed; names the source, the value, and what is allowed.
    """
    valid = {}
    for name, value in options.items():
        if name not in _CHECKS:
            raise ConfigError(f"{source}: there is no option {name!r}; the options are {', '.join(_CHECKS)}")
        if value is not None:
            try:
                valid[name] = _CHECKS[name](value)
            except ValueError as exc:
                raise ConfigError(f"{source}: {value!r} is not allowed for {name}; give {exc}") from None
    return valid


def _from_text(name: str, text: str, source: str) -> Any:
    try:
        return _FIELDS[name].metadata["parse"](text)
    except ValueError as exc:
        raise ConfigError(f"{source}: {text!r} is not allowed for {name}; give {exc}") from None


_VARIABLES = {f"RAILTRACKS_{name.upper()}": name for name, field in _FIELDS.items() if field.metadata["parse"]}
# The dictionary behind os.environ, and our variables as its keys: one look there costs a twentieth of one in
# os.environ for each, and every session looks. Where an interpreter has none, os.environ itself serves.
_ENVIRON: Any = getattr(os.environ, "_data", os.environ)
_ENVIRON_KEYS = [os.environ.encodekey(name) if _ENVIRON is not os.environ else name for name in _VARIABLES]


def environment_options() -> dict[str, Any]:
    """What the ``RAILTRACKS_*`` variables say; an empty variable counts as not set."""
    if _ENVIRON.keys().isdisjoint(_ENVIRON_KEYS):
        return {}
    found = {}
    for variable, name in _VARIABLES.items():
        if text := os.environ.get(variable):
            value = _from_text(name, text, f"environment variable {variable}")
            found.update(checked({name: value}, f"environment variable {variable}"))
    return found


def _candidates(folder: Path) -> Iterator[Path]:
    for parent in (folder, *folder.parents):
        yield parent / "railtracks.toml"
        yield parent / "pyproject.toml"


def _read_file(folder: Path) -> dict[str, Any]:
    """The options in the nearest configuration file at or above ``folder``."""
    path = next(filter(Path.is_file, _candidates(folder)), None)
    if path is None:
        return {}
    import tomllib  # here, because most processes have no such file

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: the configuration file cannot be read ({exc}); mend or remove it") from exc
    source = str(path)
    if path.name == "pyproject.toml":
        tool = table.get("tool", {})
        table, source = tool.get("railtracks", {}) if isinstance(tool, dict) else tool, f"{path} [tool.railtracks]"
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: {table!r} is not allowed; give a table of options")
    if isinstance(table.get("timeout"), str):  # "inf", as in the environment; TOML's own inf is fine too
        table = {**table, "timeout": _from_text("timeout", table["timeout"], source)}
    return checked(table, source)


_files: dict[str, dict[str, Any]] = {}


def file_options() -> dict[str, Any]:
    """What the configuration file says. Read once per process and working directory."""
    try:
        folder = os.getcwd()
    except OSError:  # it was removed; there is no file to find from here
        return {}
    found = _files.get(folder)
    if found is None:
        found = _files[folder] = _read_file(Path(folder))
    return found


_latest: tuple[dict[str, Any], ExecutorConfig] = {}, ExecutorConfig()
"""The latest merge: sessions are opened by the thousand with the same options, and the result is frozen."""


def merge(options: Mapping[str, Any]) -> ExecutorConfig:
    """The one place where options from all sources become the configuration of a session.

    Raises:
        ConfigError: an option is unknown or a value is not allowed, wherever it came from.
    """
    global _latest
    merged = {**file_options(), **environment_options(), **_global, **scoped.get(), **checked(options)}
    known, config = _latest  # read once: another thread may put its own there
    get, got = merged.get, known.get  # the values of these may be equal and yet not the same
    same = get("broadcast_callback") is got("broadcast_callback") and get("ask_callback") is got("ask_callback")
    if merged != known or not same or get("store") is not got("store"):
        config = ExecutorConfig(**merged)
        _latest = merged, config
    return config


def set_config(**options: Unpack[SessionOptions]) -> None:
    """Set options for all sessions that are constructed from now on, in this process: all its threads and tasks.

    Args:
        **options: Any of :class:`SessionOptions`. None takes an earlier setting back.

    Sessions that are open keep what they have; a RuntimeWarning says so if one is open here.

    Raises:
        ConfigError: an option is unknown, or a value is not allowed; then nothing is changed.
    """
    valid = checked(options, "rt.set_config")
    if current.get() is not None:
        warnings.warn(
            "rt.set_config() was called inside an open session, which keeps its own options; "
            "call it before the session is constructed",
            RuntimeWarning,
            stacklevel=2,
        )
    global _global
    with _lock:  # for writers; readers see the mapping before or after, never between
        _global = {name: value for name, value in _global.items() if name not in options} | valid
