"""Fixtures for the tests of stores and of journals."""

import pytest

from tests.state.journals import Watched, written
from tests.state.stores import KINDS, PERSISTENT, PERSISTENT_KINDS, STORES


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    return STORES[request.param](tmp_path)


@pytest.fixture(params=PERSISTENT_KINDS)
def kind(request):
    return request.param


@pytest.fixture
def persistent(kind, tmp_path):
    return PERSISTENT[kind](tmp_path)


@pytest.fixture(scope="module")
def small():
    """A journal, the view of its session then, that which was loaded then, and the views after each record."""
    store = Watched()
    content, info, loaded = written(store)
    return content, info, loaded, store.seen


@pytest.fixture(scope="module")
def resumed(small):
    """The journal of a session that resumed that one, whose process had died."""
    store = Watched()
    store.open("mine", small[0]).close()
    return written(store, resume="mine")[0]
