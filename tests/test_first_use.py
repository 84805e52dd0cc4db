"""The first use of the library in several threads at once, and modules that another thread is importing."""

from __future__ import annotations

import sys
import threading
import types
from typing import Any

import pytest

import railtracks as rt
from railtracks._concurrency._event_loop import is_stray_cancellation, running_library
from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore
from tests.programs import output_of_a_new_interpreter


def at_once(count, func):
    """Call ``func`` with each number in a thread of its own, all at the same moment, and return what they raised."""
    ready, raised = threading.Barrier(count), []

    def run(number):
        ready.wait(10)
        try:
            func(number)
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return raised


@pytest.mark.parametrize("present", [(), ("lowlevel",)])
def test_library_that_is_being_imported_runs_nothing(monkeypatch, present):
    """asyncio and trio without all of their names yet: another thread is importing them."""
    for name in ("asyncio", "trio"):
        module = types.ModuleType(name)
        for each in present:
            setattr(module, each, types.ModuleType(each))
        monkeypatch.setitem(sys.modules, name, module)
    assert running_library() is None
    assert not is_stray_cancellation(ValueError())


def test_first_use_in_several_threads_at_once_works(backend, tmp_path):
    lines = output_of_a_new_interpreter(
        """
        import collections, os, sys, threading, railtracks as rt

        rt.set_config(backend=sys.argv[1], store="file:race")
        flow = rt.Flow("F", len)
        counts = collections.Counter()

        def job(number):
            try:
                if number % 2:
                    with rt.Session(run_identifier=f"run-{number}"):
                        rt.call_sync(len, "abc")
                else:
                    flow.invoke("abc")
                counts["ok"] += 1
            except BaseException as exc:
                counts[repr(exc)] += 1

        threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(dict(counts), [name for name in os.listdir("race") if name.endswith(".lock")])
        """,
        backend,
    )
    assert lines == ["{'ok': 8} []"]


def test_lazy_names_can_be_used_first_in_several_threads_at_once():
    """Names that are loaded at their first use, each first used in all threads at once."""
    lines = output_of_a_new_interpreter(
        """
        import threading, railtracks as rt

        names = sorted({*rt.__all__} - {*vars(rt)})
        ready = threading.Barrier(8)
        raised = []

        def job(number):
            ready.wait()
            try:
                for name in names[number % len(names):] + names:
                    getattr(rt, name)
                for name in rt.state.__all__[number:] + rt.llm.__all__:
                    hasattr(rt.state, name) or getattr(rt.llm, name)
            except BaseException as exc:
                raised.append(exc)

        threads = [threading.Thread(target=job, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(len(names) > 5, raised)
        """
    )
    assert lines == ["True []"]


def test_one_of_several_threads_has_the_lock(tmp_path):
    """Of several threads that lock a run at once, one has the lock, and the others are refused."""
    locks = []
    store = FileStore(tmp_path / "new folder")
    raised = at_once(8, lambda _: locks.append(store.lock("run")))
    assert len(locks) == 1
    assert [type(exc) for exc in raised] == 7 * [RunInUseError]
    locks[0].release()


def test_set_config_in_several_threads_loses_nothing():
    """Options that several threads set at once are all set."""
    options: list[dict[str, Any]] = [{"timeout": 7}, {"end_on_error": True}, {"save_state": False}, {"max_threads": 3}]

    def set_one(number):
        for _ in range(100):
            rt.set_config(**options[number])

    assert at_once(4, set_one) == []
    config = rt.Session().executor_config
    assert (config.timeout, config.end_on_error, config.save_state, config.max_threads) == (7.0, True, False, 3)


def test_first_calls_of_a_plain_with_may_come_in_several_threads(backend):
    """Two threads or more may make the first call of a session, which starts its event loop."""
    import contextvars

    results = []
    with rt.Session(backend=backend):
        contexts = [contextvars.copy_context() for _ in range(8)]
        raised = at_once(8, lambda number: results.append(contexts[number].run(rt.call_sync, len, "x" * number)))
    assert (raised, sorted(results)) == ([], [*range(8)])
    assert sum(thread.name.startswith("railtracks-session") for thread in threading.enumerate()) == 0
