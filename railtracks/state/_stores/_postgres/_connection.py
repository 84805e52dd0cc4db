"""A connection of a process to PostgreSQL, which its threads take turns to use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from railtracks.state._stores._postgres import _tables
from railtracks.state._stores._postgres._errors import store_error
from railtracks.state._stores._postgres._place import Place

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
_inherited: list[Any] = []
"""In a forked child, the connections of its parent. Closing them there would end the parent's."""
_ENDED = ("57P01", "57P02", "57P03", "25P03")
"""What the server says when it ends a connection itself: shut down, crashed, starting, a transaction that idled."""


_UNDONE = ("40001", "40P01")
"""What the server says when it has undone a transaction because of another one, and it is to be tried again."""


def connect(place: Place, doing: str = "") -> psycopg.Connection[Any]:
    """Open a connection.

    Args:
        place: Where the store is.
        doing: What it is for, for the error.

    Raises:
        StoreError: That is not possible.
    """
    import psycopg

    try:
        connection = psycopg.connect(place.conninfo, autocommit=True)
    except psycopg.Error as exc:
        raise store_error(place, exc, doing) from None  # the text says it all, and the traceback is the driver's
    try:
        # A process that is paused within a transaction must not keep others from taking over its runs.
        patience = f"{max(10.0, place.lease):.0f}s"
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('lock_timeout', '60s', false), "
            "set_config('idle_in_transaction_session_timeout', %s, false), "
            "set_config('default_transaction_isolation', 'read committed', false)",
            (place.schema, patience),
        )
    except psycopg.Error as exc:
        connection.close()
        raise store_error(place, exc, doing) from exc
    return connection


def select(
    connection: psycopg.Connection[Any], query: str, values: Sequence[object] | Mapping[str, object]
) -> list[tuple[Any, ...]]:
    """Return the rows that a query selects. What is bytes comes as bytes, and not as text that stands for them."""
    return connection.execute(query, values, binary=True).fetchall()


def is_usable(connection: psycopg.Connection[Any], exc: BaseException | None = None) -> bool:
    """Return whether a connection can be used again, after an error if there was one."""
    return not connection.closed and not connection.broken and getattr(exc, "sqlstate", None) not in _ENDED


class SharedConnection:
    """One connection, opened when it is first used, and again after it broke.

    Args:
        place: Where the store is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._guard = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._has_tables = False

    def run(
        self,
        work: Callable[[psycopg.Connection[Any]], T],
        *,
        again: bool,
        single: bool = False,
        doing: str = "write to it",
    ) -> T:
        """Return what ``work`` returns, which runs in a transaction. The tables are made if they are missing.

        Args:
            work: It executes statements. What it raises undoes them.
            again: Whether it may be done a second time if the connection broke, so that it is not known whether it was
                done.
            single: Whether it executes one statement, which needs no transaction around it.
            doing: What that is, for the error.

        Raises:
            StoreError: The server cannot be reached, or reports an error.
        """
        return self._run(work, again, single, doing)

    def read(self, work: Callable[[psycopg.Connection[Any]], T], missing: T, doing: str = "read it") -> T:
        """Return what ``work`` returns, which only reads; ``missing`` if there are no tables.

        Raises:
            StoreError: As for :meth:`run`.
        """
        return self._run(work, True, False, doing, [missing])

    def rows(
        self, query: str, values: Sequence[object] | Mapping[str, object], doing: str = "read it"
    ) -> list[tuple[Any, ...]]:
        """Return the rows that a query selects; none if there are no tables.

        Raises:
            StoreError: As for :meth:`run`.
        """
        none: list[tuple[Any, ...]] = []
        return self.read(lambda connection: select(connection, query, values), none, doing)

    def _run(
        self,
        work: Callable[[psycopg.Connection[Any]], T],
        again: bool,
        single: bool,
        doing: str,
        missing: list[T] | None = None,
    ) -> T:
        import psycopg

        with self._guard:
            for is_last in (False, True):
                connection = self._open(doing)
                has_begun = single
                try:
                    if not self._has_tables:
                        self._has_tables = _tables.are_there(connection, self._place.schema)
                    if not self._has_tables and missing is not None:
                        return missing[0]  # reading must not make them
                    if not self._has_tables:
                        _tables.make(connection, self._place.schema)
                        self._has_tables = True
                    if single:
                        return work(connection)
                    with connection.transaction():
                        has_begun = True
                        return work(connection)
                except psycopg.Error as exc:
                    self._has_tables = self._has_tables and exc.sqlstate != "42P01"  # undefined_table
                    if not self._has_tables and missing is not None and not is_last and is_usable(connection, exc):
                        continue  # they were dropped
                    if not is_usable(connection, exc):
                        self._drop()
                        if not is_last and (again or not has_begun):
                            continue
                    elif exc.sqlstate in _UNDONE and not is_last:
                        continue
                    raise store_error(self._place, exc, doing) from exc
                except Exception:
                    if not is_usable(connection):
                        self._drop()
                    raise
                except BaseException:  # Ctrl-C in the middle: what the server answers next would be taken for another
                    self._drop()
                    raise
        raise AssertionError("the second try returns or raises")

    def _open(self, doing: str) -> psycopg.Connection[Any]:
        if self._connection is not None and not is_usable(self._connection):
            self._drop()
        if self._connection is None:
            self._has_tables = False
            self._connection = connect(self._place, doing)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection. The next use opens another one."""
        with self._guard:
            self._drop()

    def reset(self) -> None:
        """Leave the connection to the parent process, as is right in a forked child."""
        self._guard = threading.Lock()
        leave_to_parent(self._connection)
        self._connection = None

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()


def leave_to_parent(connection: psycopg.Connection[Any] | None) -> None:
    """Keep a connection of the parent of a forked child for good, so that the child does not close it."""
    if connection is not None:
        _inherited.append(connection)
