"""The options of one run under virtual time. Each is declared and checked here, once."""

from __future__ import annotations

from typing import Any

import attrs

from railtracks._test_probe import BACKENDS
from railtracks.exceptions import ConfigError
from railtracks.testing._virtual_time._clock import VirtualClock


def _check_backend(_: object, __: object, value: Any) -> None:
    if value not in BACKENDS:
        raise ConfigError(f"backend is {value!r}; use 'asyncio' or 'trio'")


def check_seed(_: object, __: object, value: Any) -> None:
    """Validate a seed. ConfigError if it is not allowed."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ConfigError(f"seed is {value!r}; use a whole number")


def _check_clock(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, VirtualClock):
        raise ConfigError(f"clock is {value!r}; use a VirtualClock, such as clock=VirtualClock(patience=60)")
    if value.event_loop is not None:
        raise ConfigError("clock: a VirtualClock can be used for one run only; use a new one: clock=VirtualClock()")


@attrs.frozen(kw_only=True)
class RunOptions:
    """How ``run`` runs a function.

    Raises:
        ConfigError: one of them is not allowed.
    """

    seed: int | None = attrs.field(default=None, validator=check_seed)
    """Decides the order; None to leave it to the event loop."""
    backend: str = attrs.field(default="asyncio", validator=_check_backend)
    """"asyncio" or "trio"."""
    clock: VirtualClock | None = attrs.field(default=None, validator=_check_clock, eq=False)
    """The clock to run on; None for a new one."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the options, in the order in which they are written."""
        return tuple(field.name for field in attrs.fields(cls))

    def code(self) -> list[str]:
        """Return the options as arguments in code, except those that have their default."""
        always = ("seed", "backend")
        defaults = {field.name: field.default for field in attrs.fields(type(self))}
        values = {name: getattr(self, name) for name in (*always, *(name for name in defaults if name not in always))}
        return [
            f"{name}={_code_of(value)}" for name, value in values.items() if name in always or value != defaults[name]
        ]


def _code_of(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
