"""Every test runs in an empty folder, without configuration; every async one on both backends, in virtual time."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from functools import partial
from inspect import iscoroutinefunction, signature
from pathlib import Path

import hypothesis
import pytest
from hypothesis import settings

from railtracks import _config
from railtracks._concurrency._loop_interrupts import loop_interrupts
from railtracks._context_variable import current
from railtracks._session._life import open_sessions
from railtracks.state._redaction._secret_names import secret_names
from railtracks.state._serialization._hooks import registered_types
from tests import postgres, virtual
from tests.checkout import CheckoutGuard
from tests.effort import FACTOR

settings.register_profile(
    "railtracks", deadline=None, derandomize="CI" in os.environ, print_blob=True, max_examples=60 * FACTOR
)
settings.load_profile("railtracks")

BACKENDS = ["asyncio", "trio"]
TRIO_WITH_SLOW = pytest.param("trio", marks=pytest.mark.slow)
FREEZES = hypothesis.__version_info__ >= (6, 150)
"""Whether objects can be kept from the garbage collector. Old releases of Hypothesis take a generator of random numbers
that the collector does not see for garbage."""
MEMORY_FOLDER = "/dev/shm"
"""Where the folders of the tests are, if it is there: they would wait for a disk for more than half of their time."""
ENOUGH_MEMORY = 2**30
"""Bytes that must be free there."""


def pytest_configure(config):
    """Fail the run if it leaves files in the checkout. Let tests send themselves, and what they start, signals."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):  # not in the workers of pytest-xdist
        config.pluginmanager.register(CheckoutGuard(Path(__file__).parents[1]))
        if os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free > ENOUGH_MEMORY:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY_FOLDER)


def pytest_generate_tests(metafunc):
    """Tests that are async, or that ask for ``backend``, run once on each; with ``either_backend`` on trio if slow."""
    if iscoroutinefunction(metafunc.function) and "backend" not in metafunc.fixturenames:
        metafunc.fixturenames.append("backend")
    if "backend" in metafunc.fixturenames:
        either = metafunc.definition.get_closest_marker("either_backend")
        metafunc.parametrize("backend", BACKENDS if either is None else ["asyncio", TRIO_WITH_SLOW])


def pytest_collection_finish(session):
    """Keep the garbage collector from looking through what has been collected: it took seconds each time.

    There are millions of such objects, and the tests of deadlocks and of what is not kept alive collect garbage.
    """
    if FREEZES:
        gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def heap_of_module():
    """Keep the garbage collector from looking through what the tests of other modules have left, too."""
    yield
    if FREEZES:
        gc.collect()  # only of this module
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Async tests run in an event loop of their own, in virtual time."""
    if not iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in signature(pyfuncitem.obj).parameters}
    virtual.run(pyfuncitem.callspec.params["backend"], partial(pyfuncitem.obj, **arguments))
    return True


@pytest.fixture(autouse=True)
def empty_world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith(("RAILTRACKS_", "COVERAGE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(_config, "_global", {})
    monkeypatch.setattr(_config, "_files", {})
    secret_names.reset()
    registered_types.reset()
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "QUIET")
    handler = signal.getsignal(signal.SIGINT)
    yield
    postgres.close_stores()
    open_sessions.clear()  # some tests leave sessions open on purpose
    left = signal.getsignal(signal.SIGINT)
    was_left_open = bool(loop_interrupts._sessions)  # by a test that leaves a session open on purpose
    if left is not handler:
        signal.signal(signal.SIGINT, handler)
        loop_interrupts._sessions.clear()
    assert was_left_open or left is handler, "the handler of Ctrl-C was not restored"
    assert current.get() is None, "a session was left open in the context of the test"
