"""A server that stands in for the providers."""

from __future__ import annotations

import contextlib
import gc
from importlib import import_module

import pytest

from tests.llm.server import Server


@pytest.fixture(scope="session", autouse=True)
def sdks_are_no_garbage():
    """These tests collect garbage very often, and the SDKs' modules are a million objects to look through each time."""
    for name in ("openai", "anthropic", "any_llm"):
        with contextlib.suppress(ImportError):  # a test that needs one says so
            import_module(name)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def server():
    """A test that uses it must have closed every connection at the end."""
    with Server() as server:
        yield server
        server.wait_all_closed()
