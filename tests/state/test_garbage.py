"""The garbage collector is paused while very many objects are made, and has little to do with them afterwards."""

import gc

import pytest

from railtracks.state._garbage import MANY, collections_paused


@pytest.fixture(autouse=True)
def nothing_is_frozen():
    """Other tests of this process may have frozen what they do not want to be searched."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    gc.unfreeze()
    if was_frozen:
        gc.freeze()
    gc.enable()


def make(count):
    return [[] for _ in range(count)]


def is_old(thing):
    return any(each is thing for each in gc.get_objects(generation=2))


def test_objects_that_were_made_meanwhile_count_as_old():
    gc.collect()
    with collections_paused():
        assert not gc.isenabled()
        made = make(2 * MANY)
    assert gc.isenabled()
    assert gc.get_count()[0] < 1_000
    assert is_old(made[-1])
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
def test_few_objects_stay_young():
    gc.collect()
    with collections_paused():
        made = make(100)
    assert not is_old(made[-1])


def test_what_the_program_has_frozen_stays_frozen():
    gc.freeze()
    count = gc.get_freeze_count()
    with collections_paused():
        made = make(2 * MANY)
    assert gc.get_freeze_count() > count - 1_000 > 0  # some of it may have been freed
    assert len(made) == 2 * MANY


def test_a_collector_that_was_disabled_stays_so():
    gc.disable()
    with collections_paused():
        make(2 * MANY)
    assert not gc.isenabled()


def test_an_inner_pause_ends_nothing():
    with collections_paused():
        with collections_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
