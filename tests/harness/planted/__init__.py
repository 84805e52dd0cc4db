"""Planted defects: small flows, and variants of the runtime, each with one realistic mistake and its corrected twin.

The harness must find each, and pass each twin. ``PLANTED`` is the list.
"""

from tests.harness.planted import concurrency, examples, failure, policies, runtime
from tests.harness.planted._planted import Case, Found, Planted, find

PLANTED = [*examples.PLANTED, *concurrency.PLANTED, *failure.PLANTED, *runtime.PLANTED, *policies.PLANTED]

__all__ = ["PLANTED", "Case", "Found", "Planted", "find"]
