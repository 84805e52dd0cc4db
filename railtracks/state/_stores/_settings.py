"""The store that a setting stands for, and the identifiers of runs in it."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from railtracks._config import resolve_config, validate_options
from railtracks._identifiers import explain_invalid_identifier
from railtracks.exceptions import ConfigError, RunNotFoundError
from railtracks.state._stores._files import FileStore
from railtracks.state._stores._protocols import Store

if TYPE_CHECKING:
    from railtracks.state._stores._postgres import PostgresStore
    from railtracks.state._stores._sqlite import SQLiteStore


@lru_cache(maxsize=16)
def _sqlite_store(path: str) -> SQLiteStore:
    from railtracks.state._stores._sqlite import SQLiteStore  # here, as most programs use files

    return SQLiteStore(path)  # one for all sessions of this process, as opening it takes longer than writing a run


@lru_cache(maxsize=16)
def _postgres_store(conninfo: str) -> PostgresStore:
    from railtracks.state._stores._postgres import PostgresStore  # here, as above

    return PostgresStore(conninfo)


def resolve_store(setting: Store | str | None) -> Store:
    """Return the store that a value of the option ``store`` stands for.

    Args:
        setting: A store, or its text, such as "sqlite:runs.db". None for the configured store or, if there is none,
            files in the default folder.

    Raises:
        ConfigError: It is not a store.
    """
    return store_of(validate_options({"store": setting}, "argument").get("store") or resolve_config({}).store)


def store_of(value: Any) -> Store:
    """Return the store that a valid value of the option ``store`` stands for; None: files in the default folder."""
    if value is None:
        return FileStore()
    if not isinstance(value, str):
        return cast("Store", value)
    kind, _, path = value.partition(":")
    if kind in ("postgresql", "postgres"):
        return _postgres_store(value)
    return FileStore(path) if kind == "file" else _sqlite_store(os.path.abspath(path))


def check_identifier(identifier: object) -> None:
    """Raise ConfigError unless an identifier may name a run, and so cannot lead out of the store's folder."""
    problem = explain_invalid_identifier(identifier) if isinstance(identifier, str) else "it is not a text"
    if problem is not None:
        raise ConfigError(
            f"{identifier!r} is not allowed as the identifier of a run: {problem}; "
            f"use letters, digits, '.', '_' and '-', such as 'my-unique-run'"
        )


def no_such_run(run_identifier: str, store: Store) -> RunNotFoundError:
    """Return the error that there is no such run in a store."""
    known = [run.identifier for run in store.list()]
    others = f"the latest are {', '.join(known[-3:])}" if known else "there are none"
    is_default = isinstance(store, FileStore) and store.folder == FileStore().folder
    elsewhere = ". If it is in another store, pass that as store=" if is_default else ""
    return RunNotFoundError(f"there is no run {run_identifier!r} at {store.where(run_identifier)}; {others}{elsewhere}")
