"""The options of a session: each is declared once, with its default, its check, and how text becomes a value."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypedDict

import attrs

from railtracks._identifiers import explain_invalid_identifier
from railtracks._logging import Level, level_number

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
    if problem := explain_invalid_identifier(value):
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
    """The settled options of a session. Frozen; made by :func:`resolve_config`, never by hand."""

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
