"""Planted defects: small flows, and variants of the runtime, each with one realistic mistake and its corrected twin.

The harness must find each, and pass each twin. ``PLANTED`` is the list.
"""

from tests.harness.planted import (
    concurrency,
    durability,
    errors,
    examples,
    failure,
    locks,
    orders,
    policies,
    pools,
    primitives,
    queues,
    runtime,
    services,
    sharing,
    timing,
)
from tests.harness.planted._finding import BUDGET, FINDERS, Found, find
from tests.harness.planted._planted import WAYS, Case, Planted

PLANTED = [
    planted
    for module in (
        examples, concurrency, failure, orders, locks, queues, errors, timing, durability, sharing,
        pools, primitives, services, runtime, policies,
    )
    for planted in module.PLANTED
]  # fmt: skip

__all__ = ["BUDGET", "FINDERS", "PLANTED", "WAYS", "Case", "Found", "Planted", "find"]
