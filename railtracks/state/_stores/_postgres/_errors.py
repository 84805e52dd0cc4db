"""The errors of a PostgreSQL store: what the driver says, as one line that names the store and says what to write.

The driver has no code for what fails while it connects, so the text of the server says whether that may pass by itself.
What is not recognized, as in another language, counts as something that may.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from railtracks.exceptions import StoreError
from railtracks.state._stores._postgres._place import Place

if TYPE_CHECKING:
    import psycopg

_ADDRESS = "'postgresql://USER@HOST/DATABASE'"
_GIVE_IT = "put the right password into PGPASSWORD or ~/.pgpass"
_LASTING = (
    (
        r'FATAL:\s+database "(?P<name>.*)" does not exist',
        "make it with `createdb {name}`, or name another one in the address, " + _ADDRESS,
    ),
    (
        r'FATAL:\s+role "(?P<name>.*)" does not exist',
        "make it with `createuser {name}`, or name another one in the address, " + _ADDRESS,
    ),
    (r"password authentication failed", _GIVE_IT),
    (r"fe_sendauth: no password supplied|empty password", _GIVE_IT),
    (r"no pg_hba.conf entry|pg_hba.conf rejects|authentication failed for user", "allow the role in pg_hba.conf"),
    (r"permission denied for database (?P<name>.*)", "have the role granted CONNECT and CREATE on the database"),
    (r'role "(?P<name>.*)" is not permitted to log in', 'execute ALTER ROLE "{name}" LOGIN, or name another role'),
    (r"unrecognized configuration parameter|invalid value for parameter", "correct the address"),
    (r"unsupported startup parameter", "leave it out of the address, or connect directly, not by a pooler"),
)
"""What does not pass by itself when a connection is refused, and what to do about it."""


def store_error(place: Place, exc: psycopg.Error, doing: str = "") -> StoreError:
    """Return an error of the driver as one line that names the store and holds no password.

    Args:
        place: Where the store is.
        exc: What the driver raised.
        doing: What was tried, such as "read it"; "" if that does not matter.
    """
    text = place.without_secrets(str(exc)) or type(exc).__name__
    advice = _advice(place, exc, text)
    tried = f"cannot {doing}: " if doing else ""
    return StoreError(f"{place.shown}: {tried}{text}{advice and f'; {advice}'}", temporary=not advice)


def _advice(place: Place, exc: psycopg.Error, text: str) -> str:
    """Return what to do about an error that does not pass by itself; "" for one that may."""
    if exc.sqlstate == "42501":  # insufficient_privilege
        if "permission denied for database" in text:
            return (
                f"grant the role what it needs to make the schema {place.schema!r}, CREATE on the database, or have an "
                f"administrator make it: CREATE SCHEMA {place.schema} AUTHORIZATION ROLE"
            )
        return f"grant the role what it needs in the schema {place.schema!r} (docs/postgres.md says what that is)"
    if exc.sqlstate is not None:  # the connection was there
        return ""
    # With several hosts, each of them has to refuse.
    attempts = re.split(r"- host: ", text)[1:] or [text]
    found = [_advice_of(attempt) for attempt in attempts]
    return found[0] if all(found) else ""


def _advice_of(text: str) -> str:
    for pattern, advice in _LASTING:
        if (match := re.search(pattern, text)) is not None:
            return advice.format(**match.groupdict())
    return ""
