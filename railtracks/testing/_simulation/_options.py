"""The options of one simulation, beside those of its session. Each is declared and checked here, once."""

from __future__ import annotations

from typing import Any

import attrs

from railtracks.exceptions import ConfigError
from railtracks.testing._virtual_time._clock import PATIENCE, VirtualClock, check_limits
from railtracks.testing._virtual_time._run_options import RunOptions, check_seed, check_world
from railtracks.testing._virtual_time._step_budget import MAX_STEPS, MAX_TOTAL_STEPS
from railtracks.testing.faults import Fault, StoreFault, validate_plan

LIMITS = ("max_steps", "max_total_steps", "patience")
"""The options that a clock has as well."""


def _check_seed(instance: object, attribute: object, value: Any) -> None:
    if value is None:  # ``run`` would leave the order to the event loop
        raise ConfigError("seed is None; use a whole number")
    check_seed(instance, attribute, value)


@attrs.frozen(kw_only=True)
class SimulationOptions(RunOptions):
    """How ``simulate`` runs a flow: its arguments by these names, with these defaults.

    Raises:
        ConfigError: one of them is not allowed, or they do not go together.
    """

    seed: int = attrs.field(default=0, validator=_check_seed)
    """Decides the order of tasks and threads."""
    faults: tuple[Fault | StoreFault, ...] = attrs.field(default=(), converter=validate_plan)
    """What goes wrong, and where."""
    max_steps: int = MAX_STEPS
    """How many steps tasks may take while no virtual time passes."""
    max_total_steps: int = MAX_TOTAL_STEPS
    """How many steps tasks and threads may take in the whole run."""
    patience: float = PATIENCE
    """Real seconds for which the clock may be held."""

    world: str = attrs.field(default="virtual", validator=check_world)
    """Whether clocks and chance of user code follow the virtual clock and the seed: "virtual" or "real"."""

    def __attrs_post_init__(self) -> None:
        if self.clock is None:
            check_limits(**self._limits)
            return
        fields = attrs.fields_dict(type(self))
        for name, value in self._limits.items():
            if value != fields[name].default:
                raise ConfigError(
                    f"{name}={value!r} is given beside clock, which has its own; "
                    f"write clock=VirtualClock({name}={value!r})"
                )

    def new_clock(self) -> VirtualClock:
        """Return the clock of the run."""
        return self.clock or VirtualClock(**self._limits)

    @property
    def _limits(self) -> dict[str, Any]:
        """The options that are those of the clock, by name."""
        return {name: getattr(self, name) for name in LIMITS}

    @property
    def step_limits(self) -> dict[str, int]:
        """How many steps the run may take, by the names of the options, also if the clock says that."""
        return {name: getattr(self.clock or self, name) for name in ("max_steps", "max_total_steps")}

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[SimulationOptions, dict[str, Any]]:
        """Return the options of a simulation among ``options``, and the rest, which are those of its session."""
        names = cls.names()
        own = {name: value for name, value in options.items() if name in names}
        return cls(**own), {name: value for name, value in options.items() if name not in names}
