"""What a run of an agent may cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from railtracks.agents._models import DefaultModel
from railtracks.exceptions import ConfigError, NodeCreationError
from railtracks.llm._prices import dollars, unpriced


def cost_bound(max_cost: float | Decimal | None, name: str, model: Any) -> Decimal | None:
    """Return the bound of an agent, in dollars; None for any number.

    Args:
        max_cost: What the user passed.
        name: The name of the agent.
        model: Its model. That of the session, which is not known yet, is checked before it is asked.

    Raises:
        NodeCreationError: ``max_cost`` is not such a number, or a price is not known.
    """
    if max_cost is None:
        return None
    try:
        bound = dollars(max_cost, "max_cost")
    except ConfigError as exc:
        raise NodeCreationError(f"{exc}, or None for any number") from exc
    if not isinstance(model, DefaultModel) and (problem := unpriced(model)):
        raise NodeCreationError(f"the agent {name} has max_cost, and {problem}")
    return bound
