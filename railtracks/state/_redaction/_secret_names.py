"""Which keys name a secret? Their values are never written."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from railtracks.exceptions import ConfigError

MASK = "***"

_WORDS = {
    "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "apikeys",
    "authorization", "auth",
    "credential", "credentials", "cookie", "bearer", "jwt", "privatekey", "accesskey", "secretkey", "accesstoken",
    "clientsecret",
}  # fmt: skip
_PAIRS = {
    ("api", "key"), ("api", "keys"), ("private", "key"), ("access", "key"), ("secret", "key"), ("signing", "key"),
    ("encryption", "key"), ("session", "key"), ("connection", "string"),
}  # fmt: skip
_extra: set[tuple[str, ...]] = set()


class _SecretNames:
    revision = 0
    """Changes when names are registered: whoever keeps what ``names_secret`` said asks again then."""


secret_names = _SecretNames()
# Upper-case runs first, so that "HTTPToken" gives "HTTP", "Token" and "APIKey" gives "API", "Key".
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_A-Za-z]+")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in _PART.findall(name))


@lru_cache(maxsize=4096)
def names_secret(key: str) -> bool:
    """Does this key name a secret? ``X-API-Key``, ``clientSecret``, ``db_password`` do; ``max_tokens`` does not."""
    parts = _parts(key)
    if any(part in _WORDS for part in parts):
        return True
    if any(pair in _PAIRS for pair in pairwise(parts)):
        return True
    return any(
        extra == parts[start : start + len(extra)] for extra in _extra for start in range(len(parts) - len(extra) + 1)
    )


def register_secret_keys(*names: str) -> None:
    """Mask the values of further keys, in this process, from now on.

    Args:
        *names: Such as ``"pin"`` or ``"card_number"``. Case and separators do not matter: the latter matches
            ``cardNumber``, ``CARD-NUMBER`` and ``billing_card_number``.

    Raises:
        ConfigError: a name has no letters or digits.
    """
    for name in names:
        parts = _parts(name) if isinstance(name, str) else ()
        if not parts:
            raise ConfigError(
                f"register_secret_keys: {name!r} has no letters or digits to go by; give the name of a key"
            )
        _extra.add(parts)
    names_secret.cache_clear()
    secret_names.revision += 1
