"""A server that stands in for the providers."""

from __future__ import annotations

import pytest

from tests.llm.server import Server


@pytest.fixture
def server():
    """Whoever uses it must have closed every connection at the end."""
    with Server() as server:
        yield server
        server.wait_all_closed()
