"""Where a PostgreSQL store is: what was written of it, and what of that may be shown."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from railtracks._wording import expected_value
from railtracks.exceptions import ConfigError

PREFIXES = ("postgresql://", "postgres://")
SCHEMA = "railtracks"
LEASE = 30.0
"""Seconds for which a process has a run, unless it renews that."""
_FORM = "'postgresql://USER@HOST:PORT/DATABASE' or 'host=HOST dbname=DATABASE user=USER', as libpq takes it"
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_DEFAULTS: dict[str, object] = {
    "application_name": "railtracks", "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5,
    "keepalives_count": 3, "tcp_user_timeout": 20_000,
}  # fmt: skip
"""What is passed to the driver unless the user says otherwise. Without it a machine that has vanished from the network
would hold up a session for hours."""


class Place(NamedTuple):
    """Where a store is."""

    conninfo: str
    """What the driver gets. It may hold a password, and is never shown."""
    schema: str
    lease: float
    """Seconds."""
    shown: str
    """The same for people: without a password."""
    secrets: tuple[str, ...]
    """What must not be shown of what the driver says."""

    def __repr__(self) -> str:
        return f"<Place {self.shown}>"

    def without_secrets(self, text: str) -> str:
        """Return a text as one line without what must not be shown."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def parse_place(conninfo: object, schema: object = None, lease: object = None) -> Place:
    """Return where a store is.

    Args:
        conninfo: What libpq takes. A URL may have ``schema`` and ``lease`` among its parameters.
        schema: The schema; None for that of the URL, or "railtracks".
        lease: Seconds; None for those of the URL, or 30.

    Raises:
        ConfigError: A value is not allowed, or the package ``psycopg`` is missing.
    """
    if not isinstance(conninfo, str) or not conninfo.strip():
        raise ConfigError(f"PostgresStore: {type(conninfo).__name__} is not allowed for conninfo; use {_FORM}")
    rest, own = _split_own(conninfo)
    schema = own.get("schema", SCHEMA) if schema is None else schema
    lease = own.get("lease", LEASE) if lease is None else lease
    if not isinstance(schema, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", schema) or schema.startswith("pg_"):
        raise ConfigError(
            f"PostgresStore: {schema!r} is not allowed for schema; use up to 51 of a-z, 0-9 and _, such as 'railtracks'"
        )
    parsed = _parse(rest)
    user = f"{parsed['user']}@" if parsed.get("user") else ""
    port = f":{parsed['port']}" if parsed.get("port") else ""
    host = parsed.get("host") or parsed.get("hostaddr") or ""
    shown = f"postgresql://{user}{host}{port}/{parsed.get('dbname', '')} (schema {schema})"
    secrets = tuple(str(parsed[name]) for name in _SECRETS if parsed.get(name))
    settled = _make({**_DEFAULTS, **parsed})
    return Place(settled, schema, _seconds(lease), shown, secrets)


def _split_own(conninfo: str) -> tuple[str, dict[str, str]]:
    """Return a URL without the parameters that are ours and not libpq's, and these."""
    if not conninfo.startswith(PREFIXES) or "?" not in conninfo:
        return conninfo, {}
    address, _, query = conninfo.partition("?")
    given = [each.partition("=") for each in query.split("&")]
    own = {name: unquote(value) for name, _, value in given if name in ("schema", "lease")}
    others = "&".join(f"{name}{mark}{value}" for name, mark, value in given if name not in own)  # as they stand there
    return f"{address}?{others}" if others else address, own


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 86_400:
        expected = expected_value("seconds from 0.5 to 86400, such as 30", value)
        raise ConfigError(f"PostgresStore: {value!r} is not allowed for lease; expected {expected}")
    return seconds


def _parse(conninfo: str) -> dict[str, Any]:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as exc:
        raise ConfigError(
            f"the store {_roughly_shown(conninfo)} needs the package 'psycopg', which cannot be imported: {exc}; "
            f"install it with `pip install '.[postgres]'` in a checkout of Railtracks"
        ) from exc
    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.Error:  # whose text may have any part of it, passwords included
        raise ConfigError(
            f"the store {_roughly_shown(conninfo)} cannot be understood; use {_FORM}, and write %XX for what is "
            f"special in a URL{_meant_parameter(conninfo)}"
        ) from None


def _meant_parameter(conninfo: str) -> str:
    """Return a question for a parameter of a URL that is almost one which exists; "" if there is none.

    What resembles none is not shown: it may be part of a password.
    """
    from difflib import get_close_matches  # here, as only this error needs it

    from psycopg.pq import Conninfo

    known = ["schema", "lease", *(option.keyword.decode() for option in Conninfo.get_defaults())]
    for name in (each.partition("=")[0] for each in conninfo.partition("?")[2].split("&")):
        if name not in known and (close := get_close_matches(name, known, 1, 0.75)):
            return f"; its parameter {name!r} does not exist; did you mean {close[0]!r}?"
    return ""


def _make(parsed: dict[str, Any]) -> str:
    from psycopg.conninfo import make_conninfo

    return make_conninfo(**parsed)


def _roughly_shown(conninfo: str) -> str:
    """Return as much of what could not be parsed as cannot hold a secret."""
    if not conninfo.startswith(PREFIXES):
        return "postgresql"
    host = re.split(r"[/?]", conninfo.partition("://")[2].rpartition("@")[2])[0]
    return f"postgresql://{host}" if "@" in conninfo and re.fullmatch(r"[\w.:-]*", host) else "postgresql://..."
