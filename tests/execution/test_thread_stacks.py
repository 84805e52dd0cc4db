"""Stacks of other threads: nothing is collected while they are read, as that can crash or hang the process."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from railtracks._concurrency._thread_stacks import innermost_frames, nothing_collected, stack_of_thread, thread_stacks

COLLECTS_ANYWHERE = sys.version_info < (3, 12)


@pytest.fixture
def waiting_thread():
    """The identifier of a thread that waits in ``wait``."""
    begun, over = threading.Event(), threading.Event()

    def wait():
        begun.set()
        over.wait(30)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(30)
    yield thread.ident
    over.set()
    thread.join()


def names_of(stack):
    return [frame.f_code.co_name for frame in stack]


def test_stacks_begin_with_the_innermost_frame(waiting_thread):
    stack = stack_of_thread(waiting_thread)
    assert names_of(stack)[-3:] == ["run", "_bootstrap_inner", "_bootstrap"]
    assert names_of(stack).index("wait") < names_of(stack).index("run")
    assert names_of(stack) in [names_of(each) for each in thread_stacks()]
    assert innermost_frames()[waiting_thread].f_code.co_name in names_of(stack)


def test_a_thread_that_has_ended_has_no_stack():
    thread = threading.Thread(target=bool)
    thread.start()
    thread.join()
    assert stack_of_thread(thread.ident or 0) == []


@pytest.mark.parametrize("read", [innermost_frames, thread_stacks, lambda: stack_of_thread(threading.get_ident())])
@pytest.mark.parametrize("is_enabled", [True, False])
def test_nothing_is_collected_while_they_are_read(read, is_enabled, monkeypatch):
    current_frames, enabled = sys._current_frames, []

    def observed():
        enabled.append(gc.isenabled())
        return current_frames()

    monkeypatch.setattr(sys, "_current_frames", observed)
    if not is_enabled:
        gc.disable()
    try:
        assert read()
        assert enabled == [is_enabled and not COLLECTS_ANYWHERE]
        assert gc.isenabled() == is_enabled  # as before
    finally:
        gc.enable()


def test_collecting_goes_on_after_an_error():
    with pytest.raises(ValueError), nothing_collected():
        raise ValueError
    assert gc.isenabled()
