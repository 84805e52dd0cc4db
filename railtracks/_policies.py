"""The policies of calls: how long one may take, how often it is tried, how many run at once, what is cached, and where.

A policy is declared on a node, changed for single calls by ``node.options(...)``, and a session has defaults for those
that a node does not declare. Each is declared here once, with its validator.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict, TypeVar, final

import attrs

from railtracks._wording import expected_value, unknown_argument
from railtracks.exceptions import ConfigError

T = TypeVar("T")
OnError = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float | timedelta]
"""Which exceptions are tried again: their classes, or a function that says so, or after how long."""


class PolicyOptions(TypedDict, total=False):
    """The policies that ``rt.function_node``, ``rt.agent_node`` and ``node.options`` take; None means "not given".

    The fields of :class:`Policies` explain them.
    """

    timeout: float | None
    retries: int | Retry | None
    limit: float | Limit | None
    cache: bool | Cache | None
    where: str | None


# ---- what the values of policies are made of


def _seconds(least: float = 0) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Return the validator of a field in seconds, which is not negative, or above ``least``."""

    def validate(owner: Any, field: attrs.Attribute[Any], value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (0 <= value < 2**62 or value == math.inf) or value < least:
            expected = expected_value("a number of seconds that is not negative", value)
            raise _wrong(owner, field.name, value, expected)

    return validate


def _wrong(owner: Any, name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"rt.{type(owner).__name__}: {value!r} is not allowed for {name}; expected {expected}")


def _names_arguments(cls: type[T]) -> type[T]:
    """Have a misspelt argument of a class of values raise a TypeError that says what to write."""
    initialize: Callable[..., None] = cls.__init__
    names = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(initialize)
    def check_and_initialize(self: T, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in names:
                raise unknown_argument(f"rt.{cls.__name__}", name, names)
        initialize(self, *args, **kwargs)

    cls.__init__ = check_and_initialize  # type: ignore[assignment,method-assign]
    return cls


@final
@_names_arguments
@attrs.frozen(kw_only=True)
class Retry:
    """How a call that fails is tried again.

    The waits between attempts grow: ``wait_initial`` seconds, twice that, four times that, each with a random part of
    up to ``wait_jitter`` seconds, and none longer than ``wait_max``. The library ``stamina`` does the waiting, and its
    ``set_active``, ``set_testing`` and instrumentation apply.

    Cancellation is never tried again, and neither is what ends the session, or says that it has ended.
    """

    attempts: int | None = attrs.field(default=10)
    """How often the call is made in all, the first time included; None for no limit."""
    on: OnError = attrs.field(default=Exception)
    """Which exceptions are tried again: a class or a tuple of classes, or a function that is called with the exception
    and returns whether to try again, or after how long: a number of seconds or a timedelta."""
    wait_initial: float = attrs.field(default=0.1, validator=_seconds())
    """Seconds before the second attempt."""
    wait_max: float = attrs.field(default=5.0, validator=_seconds())
    """The greatest number of seconds between two attempts."""
    wait_jitter: float = attrs.field(default=1.0, validator=_seconds())
    """The greatest number of seconds that is added by chance."""
    timeout: float | None = attrs.field(default=None)
    """Seconds from the first attempt on after which no other one begins, waits for limits and workers included; None
    for no limit."""

    @attempts.validator
    def _check_attempts(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise _wrong(self, "attempts", value, "a whole number above 0, or None for no limit")

    @on.validator
    def _check_on(self, field: attrs.Attribute[Any], value: Any) -> None:
        kinds = value if isinstance(value, tuple) else (value,) if isinstance(value, type) else ()
        if not (kinds or callable(value)) or not all(isinstance(x, type) and issubclass(x, Exception) for x in kinds):
            raise _wrong(self, "on", value, "a class of exceptions, a tuple of them, or a function of one exception")

    @timeout.validator
    def _check_timeout(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            _seconds()(self, field, value)


_RATE = re.compile(r"(\d+)/(?:(\d+(?:\.\d+)?) ?)?(s|sec|second|m|min|minute|h|hour|d|day)s?")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@final
@_names_arguments
@attrs.frozen
class Limit:
    """How many calls run at once, or begin in a time, over all nodes that have a limit of the same name.

    It holds in one process, for all its sessions, and, for sessions whose store is an SQLite file or a PostgreSQL
    database, in all processes that use that, the worker processes of a session among them. With other stores, calls
    that are made in a worker of another process are counted in that process alone, and a warning says so. The nodes of
    one name must have the same limit.

    A call that waits for calls which it has made itself does not count, so that nodes with one limit may call each
    other. While a call waits for its turn, its own ``timeout`` does not run; the session's does.
    """

    name: str = attrs.field()
    """What the limit is for, such as "api"."""
    concurrency: int | None = attrs.field(default=None, kw_only=True)
    """How many calls run at once; None for any number."""
    rate: str | None = attrs.field(default=None, kw_only=True)
    """How many calls begin in a time, such as "10/s", "100/min" or "5/10s"; None for any number. In no period of that
    length do more begin, so the first ten of "10/s" begin at once, and the next one a second after the first."""
    wait: bool | float = attrs.field(default=True, kw_only=True)
    """What a call over the limit does. True: it waits. False: it fails with ``LimitExceededError``. A number: it waits
    up to so many seconds, and then fails."""

    @name.validator
    def _check_name(self, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or not value or not value.isprintable():
            raise _wrong(self, "name", value, "a text of one line that is not empty, such as 'api'")

    @concurrency.validator
    def _check_concurrency(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise _wrong(self, "concurrency", value, "a whole number above 0, or None for any number")

    @rate.validator
    def _check_rate(self, field: attrs.Attribute[Any], value: Any) -> None:
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if value is not None and (found is None or not int(found[1]) or (found[2] and not float(found[2]))):
            raise _wrong(self, "rate", value, "calls per time, such as '10/s', '100/min' or '5/10s'")
        if value is None and self.concurrency is None:
            raise ConfigError(f"rt.Limit({self.name!r}) limits nothing; pass concurrency=..., rate='10/s', or both")

    @wait.validator
    def _check_wait(self, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, bool):
            _seconds()(self, field, value)

    @property
    def per_period(self) -> tuple[int, float] | None:
        """The rate: how many calls, in how many seconds; None if there is no rate."""
        if self.rate is None:
            return None
        found = _RATE.fullmatch(self.rate)
        assert found is not None
        return int(found[1]), float(found[2] or 1) * _UNITS[found[3][0]]


@final
@_names_arguments
@attrs.frozen(kw_only=True)
class Cache:
    """Results of a node that are used again for equal calls: those whose arguments are recorded alike.

    Calls of one node are equal if they would be written alike, by position or by keyword, with defaults or without.
    Parameters in ``ignore`` do not count, nor does what the call reads from the context. If the ``version`` or the code
    of the node changes, that makes other calls.

    What is used again is the result, and with it the changes that the call, and those below it, made in the context.
    Each call gets an equal object of its own, made of what was written, so a caller may change what it got. What cannot
    be compared or written is not cached: values without a written form, those larger than ``max_value_bytes``, those
    with a secret in them, and calls of nodes without a key, such as lambdas. A warning says so, once for each node.
    Failures are not cached.

    While a call runs, equal ones wait for it: those of its session, or with ``scope="store"`` those of all sessions in
    the process that use the store (not of other processes). If it fails or is cancelled, the one that came next runs.
    The ``timeout`` of a call begins after the wait; the session's goes on, and cancellation ends the wait. A call that
    would wait for one which waits for it, such as one that it is below, runs at once.
    """

    ttl: float | None = attrs.field(default=None)
    """Seconds for which a result is used, by the clock of the session that uses it; None for no limit. 0: only calls
    that wait for it use it."""
    key: Callable[..., Any] | None = attrs.field(default=None)
    """Returns what a call is found by, instead of all its arguments, with which it is called: a value that can be
    written. What it raises fails the call."""
    scope: Literal["session", "store"] = attrs.field(default="session")
    """Where results are kept. "session": in memory, until the session ends. "store": in the store of the session, for
    all sessions that use it, also later and in other processes. A session that saves nothing, or whose store cannot
    keep results, keeps them itself, and warns. If reading or storing one fails, it warns, and the call runs. Expired
    results are removed now and then, and by ``rt.state.prune``."""

    @ttl.validator
    def _check_ttl(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            _seconds()(self, field, value)

    @key.validator
    def _check_key(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not callable(value):
            raise _wrong(self, "key", value, "a function that is called with the arguments of the call")

    @scope.validator
    def _check_scope(self, field: attrs.Attribute[Any], value: Any) -> None:
        if value not in ("session", "store"):
            raise _wrong(self, "scope", value, "'session' or 'store'")


# ---- validators of policies: each returns the value in the type of its field, or raises ValueError: what it expects


def validate_timeout(value: Any) -> float:
    """Return a limit in seconds, above 0; ``math.inf`` for no limit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and (0 < value < 2**62 or value == math.inf):
        return float(value)
    raise ValueError("a number of seconds above 0 and below 2**62 (math.inf for no limit)")


def validate_retries(value: Any) -> Retry:
    """Return how a call is tried again; a number says how often at most."""
    if isinstance(value, Retry):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Retry(attempts=value + 1)
    raise ValueError("how many times a call is tried again, such as 3 (0 for never), or rt.Retry(...)")


def validate_limit(value: Any) -> float | Limit:
    """Return a limit: a number counts the calls of one node in one session; ``math.inf`` is none."""
    if isinstance(value, Limit) or value == math.inf:
        return value  # type: ignore[no-any-return]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ValueError("how many calls run at once, such as 5 (math.inf for no limit), or rt.Limit('name', ...)")


def validate_cache(value: Any) -> Cache | bool:
    """Return what is cached: False for nothing."""
    if isinstance(value, Cache) or value is False:
        return value
    if value is True:
        return Cache()
    raise ValueError("True, False, or rt.Cache(ttl=..., key=..., scope=...)")


def validate_where(value: Any) -> str:
    """Return where a node runs."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError("'task', 'thread', 'caller', 'process', or the name of one of the executors of the session")


_VALIDATORS: Mapping[str, Callable[[Any], Any]] = {
    "timeout": validate_timeout,
    "retries": validate_retries,
    "limit": validate_limit,
    "cache": validate_cache,
    "where": validate_where,
}
POLICIES = tuple(_VALIDATORS)
"""The names of the policies."""


@final
@attrs.frozen(kw_only=True)
class Policies:
    """The policies of a node, or the defaults of a session: those that are None are not declared."""

    timeout: float | None = None
    """Seconds that a call may take, after which it fails with ``NodeTimeOutError``; ``math.inf`` for no limit. Each
    attempt has that long. Waiting for a limit, or for a free worker, does not count."""
    retries: Retry | None = None
    """How a call that fails is tried again."""
    limit: float | Limit | None = None
    """How many calls run at once: a number for this node in one session, or a limit that several nodes share."""
    cache: Cache | bool | None = None
    """Whether results are used again for equal calls."""
    where: str | None = None
    """Where the function runs."""
    is_own: bool = False
    """Whether the node is one of the library's own, to which the defaults of a session do not apply."""

    def over(self, defaults: Policies) -> Policies:
        """Return these policies, with ``defaults`` for those that are not declared."""
        if self.is_own:
            return self
        missing = {name: getattr(defaults, name) for name in POLICIES if getattr(self, name) is None}
        return attrs.evolve(self, **missing)


NO_POLICIES = Policies()
OWN_POLICIES = Policies(is_own=True)
"""The policies of the library's own nodes."""


def policies_of(given: Mapping[str, Any], what: str) -> Policies | None:
    """Return the policies that are given (not None); None if none is.

    Args:
        given: What the user passed, by the name of the policy.
        what: What it was passed to, for errors.

    Raises:
        ConfigError: a value is not allowed, or there is no such policy.
    """
    valid = {}
    for name, value in given.items():
        if name not in _VALIDATORS:
            raise ConfigError(f"{what}: there is no policy {name!r}; the policies are {', '.join(POLICIES)}")
        if value is not None:
            try:
                valid[name] = _VALIDATORS[name](value)
            except ValueError as exc:
                raise ConfigError(
                    f"{what}: {value!r} is not allowed for {name}; expected {expected_value(exc, value)}"
                ) from None
    return Policies(**valid) if valid else None


def changed_policies(policies: Policies | None, given: Mapping[str, Any], what: str) -> Policies | None:
    """Return policies with some changed; None if nothing is declared.

    The arguments ``given`` and ``what`` are those of :func:`policies_of`, which raises.
    """
    changes = policies_of(given, what)
    return policies if changes is None else changes if policies is None else changes.over(policies)
