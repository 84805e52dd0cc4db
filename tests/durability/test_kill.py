"""The kill test: a process is killed (SIGKILL) at any moment, and what its calls had returned is on record.

A call that was reported as done is never run again, and a resume of the run returns the right result. Some kills come
at random moments, a row of them for each run; others at each single system call in turn.

No test waits for a time to pass but for the moment of a kill, and any moment is as good as another; one test, of a
promise about time, is the exception.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from tests.conftest import BACKENDS
from tests.durability.killing import Moment, Run, Server, a_moment, done
from tests.effort import FACTOR
from tests.postgres import POSTGRES_IF_SLOW, needs_postgres

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes to be killed are forked")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server
        assert server.errors.read_text() == ""


# ---- at random moments, several times in a row


def kill_often(server, folder, kills, kind, size, promised=None, **options):
    """Kill runs up to ten times each, until ``kills`` processes were killed."""
    dice = random.Random(f"{kind} {options}")
    came = 0
    for number in itertools.count():
        run = Run(server, folder / str(number), kind, size, **options)
        expected = 2 * run.calls // 3
        for _ in range(dice.randint(1, 10)):
            outcome = run.attempt(a_moment(dice, expected))
            run.check(outcome, promised)
            if not outcome.killed:
                break
            came += 1
            expected = (run.calls - len(run.completed)) // 2
        run.finish()
        if came >= kills * FACTOR:
            return


KILLS = pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
"""The number of kills. The runs grow with it, so that as many come before the end of a run."""


@KILLS
def test_a_run_in_sync_mode_survives_kills(backend, server, tmp_path, kills):
    kill_often(server, tmp_path, kills, "file", (12, 4 * kills, 10), backend=backend, durability="sync")


@KILLS
def test_a_run_in_async_mode_survives_kills(backend, server, tmp_path, kills):
    # Nothing is lost here either: records are with the operating system, which lives on, before a call returns.
    kill_often(server, tmp_path, kills, "file", (10, 8 * kills + 10, 10), backend=backend, durability="async")


@KILLS
def test_a_run_in_sync_mode_survives_kills_with_sqlite(backend, server, tmp_path, kills):
    kill_often(server, tmp_path, kills, "sqlite", (5, kills, 6), backend=backend, durability="sync")


@KILLS
def test_a_run_in_async_mode_survives_kills_with_sqlite(backend, server, tmp_path, kills):
    # What returned just before the kill may be lost, but what is on record never runs again.
    kill_often(server, tmp_path, kills, "sqlite", (8, 2 * kills, 10), set(), backend=backend, durability="async")


@pytest.mark.either_backend
@needs_postgres
@KILLS
def test_a_run_in_sync_mode_survives_kills_with_postgres(backend, server, tmp_path, kills):
    # It goes on at once, as the process that had its lease is known to be dead.
    kill_often(server, tmp_path, kills, "postgres", (5, kills, 6), backend=backend, durability="sync")


@pytest.mark.either_backend
@needs_postgres
@KILLS
def test_a_run_in_async_mode_survives_kills_with_postgres(backend, server, tmp_path, kills):
    kill_often(server, tmp_path, kills, "postgres", (8, 2 * kills, 10), set(), backend=backend, durability="async")


INTERVAL = 0.05
SLACK = 0.7
"""The seconds in which the thread that commits gets its turn, and the disk does its work, on a busy machine."""


@pytest.mark.either_backend
def test_sqlite_in_async_mode_loses_only_the_last_moments(backend, server, tmp_path):
    run = Run(server, tmp_path / "run", "sqlite", (10, 100, 0), backend=backend, durability="async")
    # The last branch has paused more than ninety times by then, so this comes after a second or more.
    outcome = run.attempt(Moment(b" step 9 95\n"), pause=0.01)
    promised = {call for call, at in outcome.returned.items() if at < outcome.killed_at - INTERVAL - SLACK}
    assert outcome.killed
    assert promised
    run.check(outcome, promised)
    run.finish()


# ---- at every system call that changes something

SMALL = (1, 2, 2)
MODES = [False, True]
EVERY = pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
"""In the suite a third of the moments, and in the slow tests all of them."""


def moments(server, tmp_path, kind, torn, every):
    """Yield a fresh run, and a function that lets it die at each moment in turn, until a process ends before it."""
    for number in itertools.count(1, every):
        # On one backend it dies, on the other it is resumed.
        dying, resuming = (BACKENDS[(number + i) % 2] for i in range(2))
        run = Run(server, tmp_path / str(number), kind, SMALL, backend=resuming, durability="sync")
        lived: list[bool] = []

        def die(run=run, number=number, dying=dying, lived=lived, **changes):
            outcome = run.attempt(die=[number, torn], options={"backend": dying}, **changes)
            lived.append(not outcome.killed)
            return outcome

        yield run, die
        if any(lived):
            assert number > (2 if torn else 10)  # there were such moments
            return


@EVERY
@pytest.mark.parametrize("torn", MODES, ids=["before it", "within it"])
def test_a_run_may_die_at_every_system_call(server, tmp_path, torn, every):
    for run, die in moments(server, tmp_path, "file", torn, every):
        run.check(die())
        run.finish()


@EVERY
def test_a_run_may_die_at_every_statement_of_sqlite(server, tmp_path, every):
    for run, die in moments(server, tmp_path, "sqlite", torn=False, every=every):
        run.check(die())
        run.finish()


@needs_postgres
@EVERY
def test_a_run_may_die_at_every_statement_of_postgres(server, tmp_path, every):
    for run, die in moments(server, tmp_path, "postgres", torn=False, every=every):
        run.check(die())
        run.finish()


@EVERY
@pytest.mark.parametrize("kind", ["file", "sqlite", POSTGRES_IF_SLOW])
def test_a_run_with_large_values_may_die_anywhere(server, tmp_path, kind, every):
    for run, die in moments(server, tmp_path, kind, torn=False, every=every):
        run.check(die(blobs=2))
        run.finish(blobs=2)
        folder = run.folder / "run.values"
        assert kind != "file" or len(list(folder.iterdir())) == 2


@EVERY
@pytest.mark.parametrize("torn", MODES, ids=["before it", "within it"])
def test_resume_of_a_dead_run_may_die_at_every_system_call(server, tmp_path, torn, every):
    """A run that resumes one that died may die at every system call."""
    for run, die in moments(server, tmp_path, "file", torn, every):
        run.check(run.attempt(Moment(b"did ", 3)))
        run.check(die())
        run.finish()


@EVERY
@pytest.mark.parametrize("torn", MODES, ids=["before it", "within it"])
def test_resume_of_a_failed_run_may_die_at_every_system_call(server, tmp_path, torn, every):
    """A run that resumes one that failed may die at every system call."""
    # That one has a document and no journal; the new journal may not replace it before it holds as much.
    for run, die in moments(server, tmp_path, "file", torn, every):
        failed = run.attempt(fail=3)
        assert "not this time" in failed.error
        failed.error = None
        run.check(failed)
        run.check(die())
        run.finish()


@EVERY
@pytest.mark.parametrize(
    ("kind", "torn"),
    [
        ("file", False),
        ("file", True),
        ("sqlite", False),
        pytest.param("postgres", False, marks=[needs_postgres, pytest.mark.slow]),
    ],
)
def test_resume_of_an_ended_run_may_die_at_every_system_call(server, tmp_path, kind, torn, every):
    """A run that resumes one that ended may die at every system call."""
    for run, die in moments(server, tmp_path, kind, torn, every):
        run.check(run.attempt())
        assert len(run.completed) == run.calls
        run.check(die())
        run.finish()


@EVERY
@pytest.mark.parametrize("torn", MODES, ids=["before it", "within it"])
def test_fresh_run_that_dies_leaves_an_earlier_dead_run_intact(server, tmp_path, torn, every):
    """A fresh run that dies at any system call leaves the one that died before it on record."""
    for run, die in moments(server, tmp_path, "file", torn, every):
        first = run.attempt(Moment(b"did ", 4), hang=4)
        assert first.killed
        second = die(fresh=True)
        on_record = [done(rt.state.load_run(name, run.store)) for name in identifiers(run)]
        assert any(set(first.returned) <= completed for completed in on_record)
        assert any(set(second.returned) <= completed for completed in on_record)


def identifiers(run: Run) -> list[str]:
    """Return the runs that can be read."""
    found = []
    for summary in rt.state.list_runs(run.store):
        assert summary.state != "running"
        with contextlib.suppress(StateError):
            rt.state.load_run(summary.identifier, run.store)
            found.append(summary.identifier)
    return found
