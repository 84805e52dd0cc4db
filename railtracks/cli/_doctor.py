"""``railtracks config`` and ``railtracks doctor``: what is set, and what works here."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

from railtracks import Flow, __version__, function_node
from railtracks._config import option_sources
from railtracks._exit_codes import ExitCode
from railtracks._options import BACKENDS
from railtracks._wording import counted
from railtracks.cli._output import print_json, print_table
from railtracks.state import FileStore, MemoryStore, Store, list_runs
from railtracks.state._stores._settings import resolve_store

_CORE = ("anyio", "trio", "attrs", "cattrs", "docstring-parser")
_EXTRAS = {
    "cli": "cyclopts", "rich": "rich", "ui": "starlette", "otel": "opentelemetry-api", "testing": "hypothesis",
    "openai": "openai", "anthropic": "anthropic", "any-llm": "any-llm-sdk", "postgres": "psycopg",
}  # fmt: skip
"""The extras, each with the package by which it is known to be installed."""
_LEAST_SPACE = 2**30


def print_config(as_json: bool) -> int:
    """Print each option with its value and where that comes from."""
    sources = option_sources()
    if as_json:
        print_json({name: {"value": _plain(value), "source": source} for name, (value, source) in sources.items()})
    else:
        rows = [(name, str(value), source) for name, (value, source) in sources.items()]
        print_table(("OPTION", "VALUE", "FROM"), rows, left=(0, 1, 2))
    return 0


def _plain(value: object) -> object:
    is_plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value))
    return value if is_plain else str(value)


def examine(store: Store | str | None) -> int:
    """Print what is installed and what works, and return the exit code: 1 if something does not work."""
    checks: dict[str, Callable[[], str]] = {
        "railtracks": lambda: f"{__version__} at {Path(__file__).parents[1]}",
        "Python": lambda: f"{platform.python_version()} ({platform.python_implementation()}) at {sys.executable}",
        "packages": lambda: ", ".join(f"{name} {version(name)}" for name in _CORE),
        "extras": lambda: ", ".join(_extras()),
        "configuration": _configuration,
        "store": lambda: _store(store),
        **{f"backend {backend}": partial(_run_on, backend) for backend in BACKENDS},
    }
    is_well = True
    for title, check in checks.items():
        try:
            print(f"ok       {title}: {check()}")
        except Exception as exc:  # whatever is wrong is what is asked for
            is_well = False
            print(f"PROBLEM  {title}: {exc}")
    return ExitCode.COMPLETED if is_well else ExitCode.FAILED


def _extras() -> Iterator[str]:
    for extra, package in _EXTRAS.items():
        try:
            yield f"{extra} ({package} {version(package)})"
        except PackageNotFoundError:
            yield f"{extra} (not installed)"


def _configuration() -> str:
    changed = {name: source for name, (_, source) in option_sources().items() if source != "default"}
    return ", ".join(f"{name} from {source}" for name, source in changed.items()) or "defaults"


def _store(setting: Store | str | None) -> str:
    """Return what is known of a store. Raise if it cannot be written to."""
    store = resolve_store(setting)
    runs = counted(len(list_runs(store)), "run")
    if not isinstance(store, FileStore):
        return f"{type(store).__name__}, {runs}"
    folder = Path(store.folder).absolute()
    existing = next(each for each in (folder, *folder.parents) if each.is_dir())
    with tempfile.TemporaryFile(dir=existing):  # raises if nothing can be written there
        free = shutil.disk_usage(existing).free
    if free < _LEAST_SPACE:
        raise OSError(f"{folder}: only {free / 2**20:,.0f} MiB are free")
    return f"files in {folder}, {runs}, writable, {free / 2**30:,.0f} GiB free"


@function_node(name="check")
async def _check() -> str:
    return "works"


def _run_on(backend: Any) -> str:
    flow = Flow("doctor", _check, backend=backend, store=MemoryStore(), logging_setting="NONE", timeout=10)
    return flow.invoke()
