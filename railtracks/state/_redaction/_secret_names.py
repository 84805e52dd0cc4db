"""The names of keys whose values are secrets, and are never written.

A name is a sequence of words, and the last ones say what it is: a ``client_secret`` is a secret, a ``password_policy``
is a policy. So the words after the one that stands for a secret decide, and for a few the word before it: a
``page_token`` is a place in a list.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import Any

from railtracks.exceptions import ConfigError

_WORDS = {
    "password", "passwords", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "token", "apikey",
    "apikeys", "credential", "credentials", "privatekey", "accesskey", "secretkey", "accesstoken", "clientsecret",
    "authtoken", "refreshtoken", "sessiontoken", "bearertoken",
}  # fmt: skip
"""Words for a secret. What follows them may only say more about it: ``token_2``, ``password_prod``."""
_MODIFIERS = {"auth", "authorization", "cookie", "cookies", "bearer", "jwt"}
"""Words for a secret that stand before many others as well: ``auth_method`` is a method, ``auth_code`` a secret."""
_PAIRS = {
    ("api", "key"), ("api", "keys"), ("private", "key"), ("access", "key"), ("secret", "key"), ("signing", "key"),
    ("encryption", "key"), ("decryption", "key"), ("session", "key"), ("account", "key"), ("storage", "key"),
    ("master", "key"), ("subscription", "key"), ("license", "key"), ("hmac", "key"), ("shared", "key"),
    ("connection", "string"), ("access", "signature"), ("secret", "id"), ("seed", "phrase"), ("recovery", "phrase"),
    ("recovery", "codes"), ("backup", "codes"), ("db", "pass"), ("user", "pass"), ("smtp", "pass"), ("mail", "pass"),
    ("access", "tokens"), ("refresh", "tokens"), ("auth", "tokens"), ("api", "tokens"), ("bearer", "tokens"),
}  # fmt: skip
"""Pairs of words for a secret. What follows them may only say more about it."""
_ENDINGS = ("password", "passwd", "passphrase", "secret", "apikey")
"""How a word for a secret ends that is written together with another one: ``dbpassword``."""

_CONTENTS = {
    "base", "code", "codes", "cred", "data", "digest", "hash", "header", "headers", "jar", "json", "key", "keys",
    "line", "params", "pass", "raw", "string", "text", "value", "values",
}  # fmt: skip
"""Words after one in ``_MODIFIERS`` with which it is a secret still."""
_MEASURES = {
    "age", "algorithm", "algorithms", "arn", "at", "attempt", "attempts", "audience", "bucket", "budget", "changed",
    "complexity", "consent", "cost", "count", "counts", "created", "date", "days", "disabled", "enabled", "error",
    "errors", "exists", "expired", "expires", "expiration", "expiry", "failures", "format", "history", "hours", "ids",
    "in", "index", "issuer", "kind", "label", "left", "length", "lifetime", "limit", "limits", "manager", "max",
    "method", "methods", "min", "minutes", "mode", "name", "names", "number", "on", "optional", "policies", "policy",
    "price", "prices", "project", "protected", "provider", "providers", "rate", "remaining", "required", "requirements",
    "revoked", "rotated", "rotation", "rules", "santa", "scheme", "schema", "scope", "scopes", "seconds", "set", "size",
    "state", "status", "strategy", "strength", "supported", "ttl", "type", "types", "updated", "usage", "used", "valid",
    "validity", "verified", "version", "versions",
}  # fmt: skip
"""Words that say something about a secret, if they come last: ``token_count``, ``password_reset_required``."""
_PLACES = {
    "dir", "directory", "endpoint", "field", "file", "filename", "header", "host", "id", "path", "server", "service",
    "store", "uri", "url",
}  # fmt: skip
"""Words that say where a secret comes from, if they follow its word directly: ``token_url``, ``api_key_header``."""
_FLAGS = {
    "accept", "accepts", "allow", "allows", "can", "disable", "enable", "has", "have", "hide", "is", "need", "needs",
    "no", "require", "requires", "should", "show", "supports", "use", "uses", "with", "without",
}  # fmt: skip
"""Words with which a name of what is true or false begins: ``has_password``."""
_COMMANDS = {("enable", "password"), ("enable", "secret")}
"""What begins like a flag, but is the name of a password of network devices."""
_QUANTITIES = {"avg", "max", "mean", "min", "n", "num", "total"}
_TOKENS = {
    "continuation", "cursor", "first", "idempotency", "next", "page", "pagination", "paging", "per", "prev", "previous",
    "resume", "sequence", "skip", "start", "starting", "sync",
    "bos", "cls", "eos", "mask", "pad", "padding", "sep", "special", "stop", "unk",
}  # fmt: skip
"""Words before ``token`` with which it is a place in a list, or a piece of text."""

_STEMS = ("pass", "pwd", "secret", "token", "key", "auth", "cred", "cookie", "bearer", "jwt", "connection", "sig",
          "phrase", "codes")  # fmt: skip
"""What is in every name of a secret, in lower case, but for the registered ones."""


class _SecretNames:
    """The registry of names that ``register_secret_keys`` adds.

    Attributes:
        registered: The names, each as the words that it consists of.
        stems: What is in every name of a secret, in lower case.
        revision: A number that changes with the names. Code that keeps a result of ``is_secret_name`` keeps this too,
            and asks again when it has changed.
    """

    def __init__(self) -> None:
        self.registered: set[tuple[str, ...]] = set()
        self.stems: tuple[str, ...] = _STEMS
        self.revision = 0

    def changed(self) -> None:
        """Discard what was worked out for the names before."""
        self.stems = (*_STEMS, *(name[0] for name in self.registered))
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
    """Return whether a key names a secret, as ``X-API-Key`` and ``db_password`` do, and ``token_count`` does not."""
    lowered = key.lower()
    if not any(stem in lowered for stem in secret_names.stems):
        return False
    parts = _parts(key)
    if any(
        name == parts[start : start + len(name)]
        for name in secret_names.registered
        for start in range(len(parts) - len(name) + 1)
    ):
        return True
    words = tuple(part for part in parts if not part.isdigit())
    end = _end_of_secret(words)
    return end > 0 and not _is_about_secret(words, end)


def _end_of_secret(words: tuple[str, ...]) -> int:
    """Return the place after the last word that stands for a secret. 0 if there is none."""
    for end in range(len(words), 0, -1):
        word = words[end - 1]
        if word in _WORDS or word in _MODIFIERS or word.endswith(_ENDINGS) or words[end - 2 : end] in _PAIRS:
            return end
    return 0


def _is_about_secret(words: tuple[str, ...], end: int) -> bool:
    """Return whether a name with a word for a secret before ``end`` is the name of something else."""
    if words[0] in _FLAGS and words[:2] not in _COMMANDS:
        return True
    if end < len(words):
        if words[end - 1] in _MODIFIERS:
            return words[-1] in _MEASURES or not any(word in _CONTENTS for word in words[end:])
        return words[-1] in _MEASURES or (words[-1] in _PLACES and end == len(words) - 1)
    if words[end - 1] != "token" or end < 2:
        return False
    return words[end - 2] in _TOKENS or words[end - 2] in _QUANTITIES


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
