"""The options of a session: declared once, merged once.

Strongest first: the argument; ``rt.set_config``; the environment (``RAILTRACKS_TIMEOUT``, ...); the
configuration file (``railtracks.toml``, or ``[tool.railtracks]`` of the nearest ``pyproject.toml``); the default.
Every value is checked by the one validator of its option, whichever way it came.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

import attrs

from railtracks._context_variable import current
from railtracks._options import ExecutorConfig, SessionOptions
from railtracks._test_hooks import harness_options
from railtracks.exceptions import ConfigError

_FIELDS: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(ExecutorConfig)}
_global: dict[str, Any] = {}
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
    merged = {**file_options(), **environment_options(), **_global, **harness_options.get(), **checked(options)}
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
