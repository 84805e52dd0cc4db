"""The sources of options, and the configuration that results from them.

Strongest first: the argument; ``rt.set_config``; the environment (``RAILTRACKS_TIMEOUT``, ...); the configuration file
(``railtracks.toml``, or ``[tool.railtracks]`` of the nearest ``pyproject.toml``); the default. A value is validated in
the same way whatever its source.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from pathlib import Path
from typing import Any, Unpack

import attrs

from railtracks._concurrency._after_fork import after_fork
from railtracks._context_variable import current
from railtracks._options import ExecutorConfig, SessionOptions
from railtracks._test_hooks import harness_options
from railtracks.exceptions import ConfigError

_FIELDS: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(ExecutorConfig)}
_global: dict[str, Any] = {}
_lock = threading.Lock()
_VALIDATORS: dict[str, Callable[[Any], Any]] = {name: field.metadata["validate"] for name, field in _FIELDS.items()}


def validate_options(options: Mapping[str, Any], source: str = "argument") -> dict[str, Any]:
    """Return the options that are given (not None), in the types of their fields.

    Raises:
        ConfigError: a name is unknown or a value is not allowed. The text says where it came from and what is expected.
    """
    valid = {}
    for name, value in options.items():
        if name not in _VALIDATORS:
            raise _unknown_option(name, source)
        if value is not None:
            try:
                valid[name] = _VALIDATORS[name](value)
            except ValueError as exc:
                raise _wrong_value(name, value, source, exc) from None
    return valid


def _wrong_value(name: str, value: Any, source: str, expected: ValueError) -> ConfigError:
    return ConfigError(f"{source}: {value!r} is not allowed for {name}; expected {expected}")


def _unknown_option(name: str, source: str) -> ConfigError:
    from difflib import get_close_matches  # here, because only this error needs it

    close = get_close_matches(name, _VALIDATORS, n=1)
    suggestion = f"did you mean {close[0]!r}? The options are" if close else "the options are"
    return ConfigError(f"{source}: there is no option {name!r}; {suggestion} {', '.join(_VALIDATORS)}")


def _parse_text(name: str, text: str, source: str) -> Any:
    try:
        return _FIELDS[name].metadata["parse"](text)
    except ValueError as exc:
        raise _wrong_value(name, text, source, exc) from None


_VARIABLES = {f"RAILTRACKS_{name.upper()}": name for name, field in _FIELDS.items() if field.metadata["parse"]}
# The dictionary behind os.environ, and our variables as its keys. One look-up there costs a twentieth of a look-up of
# each variable in os.environ, and every session does it. An interpreter without that dictionary uses os.environ.
_ENVIRON: Any = getattr(os.environ, "_data", os.environ)
_NO_OPTIONS: dict[str, Any] = {}
_ENVIRON_KEYS = [os.environ.encodekey(name) if _ENVIRON is not os.environ else name for name in _VARIABLES]


def environment_options() -> dict[str, Any]:
    """Return the options that ``RAILTRACKS_*`` variables set; an empty variable counts as not set."""
    if _ENVIRON.keys().isdisjoint(_ENVIRON_KEYS):
        return _NO_OPTIONS
    found = {}
    for variable, name in _VARIABLES.items():
        if text := os.environ.get(variable):
            source = f"environment variable {variable}"
            found.update(validate_options({name: _parse_text(name, text, source)}, source))
    return found


def _candidates(folder: Path) -> Iterator[Path]:
    for parent in (folder, *folder.parents):
        yield parent / "railtracks.toml"
        yield parent / "pyproject.toml"


def _read_file(folder: Path) -> dict[str, Any]:
    """Return the options in the nearest configuration file at or above ``folder``."""
    path = next(filter(Path.is_file, _candidates(folder)), None)
    if path is None:
        return {}
    import tomllib  # here, because most processes have no such file

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: the configuration file cannot be read ({exc}); correct or remove it") from exc
    source = str(path)
    if path.name == "pyproject.toml":
        tool = table.get("tool", {})
        table, source = tool.get("railtracks", {}) if isinstance(tool, dict) else tool, f"{path} [tool.railtracks]"
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: expected a table of options, not {table!r}")
    if isinstance(table.get("timeout"), str):  # "inf", as in the environment; TOML's own inf is fine too
        table = {**table, "timeout": _parse_text("timeout", table["timeout"], source)}
    return validate_options(table, source)


_files: dict[str, dict[str, Any]] = {}


def file_options() -> dict[str, Any]:
    """Return the options in the configuration file, which is read once per process and working directory."""
    try:
        folder = os.getcwd()
    except OSError:  # it was removed, and no file can be found from there
        return {}
    found = _files.get(folder)
    if found is None:
        found = _files[folder] = _read_file(Path(folder))
    return found


_latest: tuple[tuple[Any, ...], ExecutorConfig] = (), ExecutorConfig()
"""The latest sources of options and their configuration, which is frozen: thousands of sessions may have the same."""


def resolve_config(options: Mapping[str, Any]) -> ExecutorConfig:
    """Return the configuration of a session with these arguments, given all other sources of options.

    Raises:
        ConfigError: an option is unknown or a value is not allowed, wherever it came from.
    """
    global _latest
    # By identity, as callbacks and stores may be equal and yet not the same object.
    sources = (file_options(), environment_options(), _global, harness_options.get(), *options, *options.values())
    known, config = _latest  # read once: another thread may replace it
    if len(sources) != len(known) or not all(map(is_, sources, known)):
        merged = {key: value for source in sources[:4] for key, value in source.items()}
        config = ExecutorConfig(**merged | validate_options(options))
        _latest = sources, config
    return config


def set_config(**options: Unpack[SessionOptions]) -> None:
    """Set options for all sessions that are constructed from now on in this process, in all its threads and tasks.

    Open sessions keep their options. If the calling code is in one, a RuntimeWarning says so.

    Args:
        **options: Any of :class:`SessionOptions`. None undoes an earlier setting.

    Raises:
        ConfigError: an option is unknown, or a value is not allowed. Nothing is changed then.
    """
    valid = validate_options(options, "rt.set_config")
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


@after_fork
def _reset() -> None:
    global _lock
    _lock = threading.Lock()
