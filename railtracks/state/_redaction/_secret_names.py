"""The names of keys whose values are secrets, and are never written."""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Any

from railtracks.exceptions import ConfigError

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


class _SecretNames:
    """The registry of names that ``register_secret_keys`` adds.

    Attributes:
        registered: The names, each as the words that it consists of.
        revision: A number that changes with the names. Code that keeps a result of ``is_secret_name`` keeps this too,
            and asks again when it has changed.
    """

    def __init__(self) -> None:
        self.registered: set[tuple[str, ...]] = set()
        self.revision = 0

    def changed(self) -> None:
        """Discard what was worked out for the names before."""
        is_secret_name.cache_clear()
        self.revision += 1

    def reset(self) -> None:
        """Forget all registered names, so that a test does not see those of another one."""
        self.registered.clear()
        self.changed()


secret_names = _SecretNames()
# Upper-case runs first, so that "HTTPToken" is split into "HTTP", "Token", and "APIKey" into "API", "Key".
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_A-Za-z]+")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in _PART.findall(name))


@lru_cache(maxsize=4096)
def is_secret_name(key: str) -> bool:
    """Return whether a key names a secret, as ``X-API-Key`` and ``db_password`` do, and ``max_tokens`` does not."""
    parts = _parts(key)
    if any(part in _WORDS for part in parts):
        return True
    if any(pair in _PAIRS for pair in pairwise(parts)):
        return True
    return any(
        name == parts[start : start + len(name)]
        for name in secret_names.registered
        for start in range(len(parts) - len(name) + 1)
    )


def is_secret_key(key: Any) -> bool:
    """Return whether a key of any type names a secret, such as the key of a mapping. False if it cannot be read."""
    if type(key) is str:
        return is_secret_name(key)
    try:
        if isinstance(key, Enum):
            key = key.value
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
        return isinstance(name, str) and is_secret_name(str.__str__(name))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # an attribute of a user's object may raise anything
        return False


def register_secret_keys(*names: str) -> None:
    """Mask the values of further keys, in this process, from now on.

    Args:
        *names: Such as ``"pin"`` or ``"card_number"``. Case and separators do not matter: the latter matches
            ``cardNumber``, ``CARD-NUMBER`` and ``billing_card_number``.

    Raises:
        ConfigError: A name contains no letters or digits.
    """
    for name in names:
        parts = _parts(name) if isinstance(name, str) else ()
        if not parts:
            raise ConfigError(
                f"register_secret_keys: expected a name with letters or digits, got {name!r}; "
                f"use the name of a key, such as 'card_number'"
            )
        secret_names.registered.add(parts)
    secret_names.changed()
