"""Identifiers and clocks: what a run takes from the outside world that is not its input.

They are looked up once, when a session is constructed, so that a test can put deterministic ones in
their place for everything it runs: ``sources.set(Sources(...))``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextvars import ContextVar

import attrs


def _random_id() -> str:
    return os.urandom(12).hex()


@attrs.frozen(eq=False)
class Sources:
    """Where a session takes its times and identifiers from."""

    clock: Callable[[], float] = time.perf_counter
    """Monotonic seconds, from any origin; read twice per call."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch; read once per session."""

    new_id: Callable[[], str] = _random_id
    """A fresh identifier, safe as a file name."""


sources: ContextVar[Sources] = ContextVar("railtracks_sources", default=Sources())  # noqa: B039 (frozen)


def node_id(session_id: str, index: int) -> str:
    """The identifier of the ``index``-th call of a session, as a node of its graph."""
    return f"{session_id}-n{index}"


def edge_id(session_id: str, index: int) -> str:
    """The identifier of the request that made the ``index``-th call."""
    return f"{session_id}-e{index}"


def run_id(session_id: str, index: int) -> str:
    """The identifier of the run whose top-level call is the ``index``-th call."""
    return f"{session_id}-r{index}"


def index_of(identifier: str) -> int:
    """The call's index in a node, edge or run identifier. ValueError if it is none."""
    return int(identifier.rpartition("-")[2][1:])
