"""The sources of options, and the configuration that results from them.

Strongest first: the argument; ``rt.set_config``; the environment (``RAILTRACKS_TIMEOUT``, ...); the configuration file
(``railtracks.toml``, or ``[tool.railtracks]`` of the nearest ``pyproject.toml``); the default. A value is validated in
the same way whatever its source.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import is_
from pathlib import Path
from typing import Any, Unpack

import attrs

from railtracks._concurrency._after_fork import after_fork
from railtracks._context_variable import current
from railtracks._options import PLACES, ExecutorConfig, SessionOptions
from railtracks._test_hooks import harness_options, harness_overrides
from railtracks._wording import expected_value
from railtracks.exceptions import ConfigError

_FIELDS: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(ExecutorConfig)}
_global: dict[str, Any] = {}
_lock = threading.Lock()
_VALIDATORS: dict[str, Callable[[Any], Any]] = {name: field.metadata["validate"] for name, field in _FIELDS.items()}


_PARSED_IN_FILES = [name for name, field in _FIELDS.items() if field.metadata["is_parsed_in_files"]]
_ARGUMENTS = ("context", "name", "payload_callback")
"""What ``Session``, ``@session`` and ``Flow`` take beside options."""


_OFTEN_MEANT = {
    "log_level": "logging_setting",
    "loglevel": "logging_setting",
    "level": "logging_setting",
    "verbose": "logging_setting",
    "verbosity": "logging_setting",
    "log_path": "log_file",
    "run_id": "run_identifier",
    "fail_fast": "end_on_error",
    "max_workers": "max_threads",
    "workers": "max_threads",
    "time_limit": "timeout",
    "deadline": "timeout",
    "trace": "tracing",
    "otel": "tracing",
    "opentelemetry": "tracing",
}
"""What other libraries call an option of ours that has another name here, by which it would not be found."""


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
    show = _FIELDS[name].metadata["show"]
    return ConfigError(f"{source}: {show(value)} is not allowed for {name}; expected {expected_value(expected, value)}")


def _unknown_option(name: str, source: str) -> ConfigError:
    from difflib import get_close_matches  # here, because only this error needs it

    known = [*_VALIDATORS, *_ARGUMENTS] if source == "argument" else [*_VALIDATORS]
    close = [_OFTEN_MEANT[name]] if name in _OFTEN_MEANT else get_close_matches(name, known, n=1)
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


_PREFIX = "RAILTRACKS_"
_KNOWN_VARIABLES = {f"{_PREFIX}{name.upper()}" for name in _FIELDS} | {f"{_PREFIX}HOME"}
_OF_A_SERVICE = re.compile(r"(_|^)(PORT|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_\w+)$")
"""What the names of the variables end with that Kubernetes sets for a service."""
_accepted_keys: frozenset[Any] = frozenset()
"""Keys of ``_ENVIRON`` whose names were checked."""


def _check_variables() -> None:
    """Check that no variable has a name that is ours but for its spelling.

    Other names with our prefix may be anybody's: for a service called railtracks-backend Kubernetes sets
    ``RAILTRACKS_BACKEND_PORT``.

    Raises:
        ConfigError: one has. The text says what it may have been meant to be.
    """
    global _accepted_keys
    keys = frozenset(_ENVIRON.copy())
    for variable in os.environ:
        if variable.startswith(_PREFIX) and variable not in _KNOWN_VARIABLES and (close := _resembled(variable)):
            raise ConfigError(
                f"environment variable {variable}: there is no such variable; did you mean {close}? Rename or unset it"
            )
        if variable in _KNOWN_VARIABLES and variable not in _VARIABLES and variable != f"{_PREFIX}HOME":
            raise ConfigError(
                f"environment variable {variable}: text cannot express this option; pass it as an argument, or to "
                f"rt.set_config"
            )
    _accepted_keys = keys


def _resembled(variable: str) -> str | None:
    """Return the variable of ours that a name resembles, or begins; None if there is none."""
    from difflib import get_close_matches  # here, because few environments have such a name

    name = variable.removeprefix(_PREFIX)
    if _OF_A_SERVICE.search(name):
        return None
    known = {each.removeprefix(_PREFIX): each for each in sorted(_KNOWN_VARIABLES)}
    close = get_close_matches(name, known, n=1, cutoff=0.7) or [each for each in known if each.startswith(f"{name}_")]
    return known[_OFTEN_MEANT.get(name.lower(), close[0]).upper()] if close else None


def environment_options() -> dict[str, Any]:
    """Return the options that ``RAILTRACKS_*`` variables set; an empty variable counts as not set.

    Raises:
        ConfigError: a value is not allowed, or the name of a variable is misspelt.
    """
    if not _accepted_keys.issuperset(_ENVIRON):
        _check_variables()
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
    table, source = _own_table(table, path)
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: expected a table of options, not {table!r}")
    parsed = [name for name in _PARSED_IN_FILES if isinstance(table.get(name), str)]
    return validate_options({**table, **{name: _parse_text(name, table[name], source) for name in parsed}}, source)


def _own_table(table: dict[str, Any], path: Path) -> tuple[Any, str]:
    """Return the options in a configuration file, with the name of the place where they are written.

    Raises:
        ConfigError: they are in a table of another name, and would be ignored.
    """
    if path.name == "railtracks.toml":
        for name, label in (("railtracks", "railtracks"), ("tool", "tool.railtracks")):
            if isinstance(table.get(name), dict):
                raise ConfigError(f"{path}: write the options without a table in this file; remove the line [{label}]")
        return table, str(path)
    tool = table.get("tool", {})
    own = tool.get("railtracks") if isinstance(tool, dict) else tool
    if own is None:
        if (misspelt := _misspelt_table(table, tool)) is not None:
            raise ConfigError(f"{path}: did you mean [tool.railtracks], not [{misspelt}]? Rename or remove it")
        own = {}
    return own, f"{path} [tool.railtracks]"


def _misspelt_table(table: dict[str, Any], tool: dict[str, Any]) -> str | None:
    """Return the name of a table of pyproject.toml that was probably meant to be ours; None if there is none."""
    if "railtracks" in table:
        return "railtracks"
    alike = [name for name in tool if name.lower().startswith("rail")]
    if not alike:
        return None
    from difflib import get_close_matches  # here, as few files have such a table

    close = get_close_matches("railtracks", alike, n=1, cutoff=0.85)
    return f"tool.{close[0]}" if close else None


_files: dict[str, dict[str, Any]] = {}


def parse_option(name: str, text: str, source: str) -> Any:
    """Return the value of an option that a text expresses.

    Args:
        name: The option.
        text: The text, as it would stand in an environment variable.
        source: Where it came from, for the error.

    Raises:
        ConfigError: The value is not allowed.
    """
    return validate_options({name: _parse_text(name, text, source)}, source)[name]


def option_sources() -> dict[str, tuple[Any, str]]:
    """Return the value of each option that a session without arguments would have, and where it comes from.

    Raises:
        ConfigError: A value is not allowed, wherever it came from.
    """
    found = {name: (field.default, "default") for name, field in _FIELDS.items()}
    path = next(filter(Path.is_file, _candidates(Path.cwd())), None)
    found |= {name: (value, str(path)) for name, value in file_options().items()}
    found |= {name: (value, f"{_PREFIX}{name.upper()}") for name, value in environment_options().items()}
    return found | {name: (value, "rt.set_config") for name, value in _global.items()}


def source_of(name: str, value: Any) -> str:
    """Return where the value of an option of a session came from, for people.

    Raises:
        ConfigError: A source that was changed since has a value that is not allowed.
    """
    known, source = option_sources()[name]
    return source if known == value else f"the argument {name} of the session"


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
    overrides = harness_overrides.get()
    harness = harness_options.get()
    sources = (file_options(), environment_options(), _global, harness, overrides, *options, *options.values())
    known, config = _latest  # read once: another thread may replace it
    if len(sources) != len(known) or not all(map(is_, sources, known)):
        merged = {key: value for source in sources[:4] for key, value in source.items()}
        config = ExecutorConfig(**{**merged, **validate_options(options), **overrides})
        _latest = sources, config
    return config


def check_place(config: ExecutorConfig) -> None:
    """Check that a session has the place that its option ``where`` names.

    Raises:
        ConfigError: It has none of that name. The text lists those that it has.
    """
    where = config.where
    if where is not None and where not in PLACES and where not in (config.executors or {}):
        raise unknown_place(source_of("where", where), where, config.executors or {})


def unknown_place(source: str, where: str, executors: Iterable[str]) -> ConfigError:
    """Return the error of a place that the session does not have.

    Args:
        source: What names it, for people.
        where: The place.
        executors: The names of the executors of the session.
    """
    from difflib import get_close_matches  # here, because only this error needs it

    known = [*executors, *PLACES]
    close = get_close_matches(where, known, n=1, cutoff=0.7)
    question = f"did you mean {close[0]!r}? The session has" if close else "the session has"
    return ConfigError(
        f"{source}: there is no place {where!r}; {question} {', '.join(map(repr, known))}; "
        f"an executor gets a name by executors={{{where!r}: ...}}"
    )


def is_configured(option: str) -> bool:
    """Return whether the file, the environment or ``set_config`` has a value for an option."""
    return any(option in source for source in (file_options(), environment_options(), _global))


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
