"""The tables of a PostgreSQL store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

TABLES = """
CREATE TABLE IF NOT EXISTS runs (
    identifier text PRIMARY KEY, modified double precision NOT NULL,
    flow_name text, session_name text, status text,
    start_time double precision, end_time double precision, calls bigint,
    document bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS documents (
    identifier text, part integer, content bytea NOT NULL, PRIMARY KEY (identifier, part)
);
CREATE TABLE IF NOT EXISTS journals (
    identifier text, part integer, modified double precision NOT NULL, content bytea NOT NULL,
    PRIMARY KEY (identifier, part)
);
CREATE TABLE IF NOT EXISTS large_values (
    identifier text, digest text, content bytea NOT NULL, PRIMARY KEY (identifier, digest)
);
CREATE TABLE IF NOT EXISTS messages (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, identifier text NOT NULL, key uuid NOT NULL UNIQUE,
    content bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of_runs ON messages (identifier, number);
CREATE TABLE IF NOT EXISTS leases (
    identifier text PRIMARY KEY, token bigint NOT NULL, expires timestamptz NOT NULL,
    machine text NOT NULL, process bigint NOT NULL, host text, started bigint
);
CREATE TABLE IF NOT EXISTS rates (name text PRIMARY KEY, begun bytea NOT NULL);
CREATE TABLE IF NOT EXISTS cached_results (
    key text PRIMARY KEY, stored double precision NOT NULL, expires double precision, content bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS watchers (identifier text, watcher uuid, until timestamptz NOT NULL,
    PRIMARY KEY (identifier, watcher)
);
ALTER TABLE runs ALTER COLUMN document SET STORAGE EXTERNAL;
ALTER TABLE documents ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE journals ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE large_values ALTER COLUMN content SET STORAGE EXTERNAL;
"""
"""``EXTERNAL``: what is large is compressed before it is stored, and the beginning of a row can be read alone."""


def are_there(connection: psycopg.Connection[Any], schema: str) -> bool:
    """Return whether the tables are there."""
    # Not by to_regclass, which in a transaction does not see what others have made since that began.
    query = """
        SELECT has_schema_privilege(pg_namespace.oid, 'USAGE')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = %s AND relname = 'watchers'
    """
    row = connection.execute(query, (schema,)).fetchone()
    if row is not None and not row[0]:  # the server would say that there is no such table
        from psycopg.errors import InsufficientPrivilege

        raise InsufficientPrivilege(f"permission denied for schema {schema}")
    return row is not None


def make(connection: psycopg.Connection[Any], schema: str) -> None:
    """Make the schema and its tables. Several processes may do that at once."""
    from psycopg import sql

    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"railtracks.{schema}",))
        if are_there(connection, schema):  # another process has made them meanwhile, and uses them
            return
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone()
        if found is None:  # otherwise a role that may not make schemas must not try
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(TABLES)
