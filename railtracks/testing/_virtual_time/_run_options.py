"""The options of one run under virtual time. Each is declared and checked here, once."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs

from railtracks._test_probe import BACKENDS
from railtracks.exceptions import ConfigError
from railtracks.testing._virtual_time._clock import WALL, VirtualClock
from railtracks.testing._virtual_time._drawn_dates import drawn_wall
from railtracks.testing._virtual_time._scheduler import SCHEDULERS


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


def check_world(_: object, __: object, value: Any) -> None:
    """Validate a world. ConfigError if it is not one."""
    if value not in ("virtual", "real"):
        raise ConfigError(f"world is {value!r}; use 'virtual' or 'real'")


def _check_start(_: object, __: object, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigError(f"start is {value!r}; use a number of seconds from 0 to 1e9, or None to have the seed decide")


def _check_schedule(_: object, __: object, value: Any) -> None:
    if value is not None and value not in tuple(SCHEDULERS):
        known = ", ".join(map(repr, SCHEDULERS))
        raise ConfigError(f"schedule is {value!r}; use one of {known}, or None to have the seed decide")


LATEST_START = 1_000_000
"""The seconds that the clock reads at most when a run begins, if the seed decides."""


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

    world: str = attrs.field(default="real", validator=check_world)
    """Whether clocks and chance of user code follow the virtual clock and the seed: "virtual" or "real"."""
    start: float | None = attrs.field(default=None, validator=_check_start)
    """What the clock reads when the run begins; None to have the seed decide that and the date, in a virtual world."""

    schedule: str | None = attrs.field(default=None, validator=_check_schedule)
    """How the order of tasks is decided; None to have the seed decide that as well."""

    @property
    def reading_at_start(self) -> float:
        """What the clock reads when the run begins."""
        if self.start is not None:
            return float(self.start)
        if not self.seed or self.world == "real":
            return 0.0
        return float(Random(f"{self.seed}/start").randrange(1, LATEST_START))  # noqa: S311 (repeatable, not secret)

    @property
    def wall_at_start(self) -> float:
        """What the wall clock reads when the run begins."""
        is_drawn = self.seed is not None and self.start is None and self.world == "virtual"
        return drawn_wall(self.seed) if is_drawn and self.seed is not None else WALL

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
