"""Every store against a model of it, in any order of operations."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from railtracks.exceptions import RunInUseError
from railtracks.state import MemoryStore, Stored
from tests.effort import examples
from tests.state.stores import DATABASES, KINDS, STORES

NAMES = st.sampled_from(["a", "A.b", "a.json", "-".join("x" * 20)])

CONTENT = st.binary(min_size=1, max_size=40)


class StoreMachine(RuleBasedStateMachine):
    """Used as sessions use it: one appender at a time per run, which is closed before anybody else touches the run."""

    make: Callable[[Path], Any]

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = type(self).make(Path(self.folder.name))
        self.documents, self.journals = {}, {}
        self.appenders, self.pending, self.locks = {}, {}, {}

    def teardown(self):
        for thing in self.appenders.values():
            thing.close()
        for lock in self.locks.values():
            lock.release()
        if isinstance(self.store, DATABASES):
            self.store.close()
        self.folder.cleanup()

    def close_appender(self, name):
        if name in self.appenders:
            self.appenders.pop(name).close()
            self.pending.pop(name, None)

    def expect(self, name, whole):
        """The journal will be ``whole``: at once, or when it is synced."""
        if isinstance(self.store, DATABASES):
            self.pending[name] = whole
        else:
            self.journals[name] = whole

    @rule(name=NAMES, content=CONTENT)
    def open(self, name, content):
        self.close_appender(name)
        self.appenders[name] = self.store.open(name, content)
        self.expect(name, content)

    @precondition(lambda self: self.appenders)
    @rule(data=st.data(), content=st.binary(max_size=40))
    def append(self, data, content):
        name = data.draw(st.sampled_from(sorted(self.appenders)))
        before = self.pending.get(name, self.journals.get(name))
        self.appenders[name].append(content)
        self.expect(name, before + content)

    @precondition(lambda self: self.appenders)
    @rule(data=st.data())
    def sync(self, data):
        name = data.draw(st.sampled_from(sorted(self.appenders)))
        self.appenders[name].sync()
        if name in self.pending:
            self.journals[name] = self.pending.pop(name)

    @rule(name=NAMES)
    def close(self, name):
        self.close_appender(name)

    @rule(name=NAMES, content=st.lists(CONTENT, min_size=1, max_size=3))
    def save(self, name, content):
        self.store.save(name, content)
        self.close_appender(name)
        self.documents[name] = b"".join(content)
        self.journals.pop(name, None)

    @rule(name=NAMES)
    def remove(self, name):
        self.close_appender(name)
        self.store.remove(name)
        self.documents.pop(name, None)
        self.journals.pop(name, None)

    @rule(name=NAMES, to=NAMES)
    def move_journal(self, name, to):
        if to in self.journals or to in self.appenders:
            return
        self.close_appender(name)
        assert self.store.move_journal(name, to) is (name in self.journals)
        if name in self.journals:
            self.journals[to] = self.journals.pop(name)

    @rule(name=NAMES)
    def lock(self, name):
        if name in self.locks:
            with pytest.raises(RunInUseError):
                self.store.lock(name)
        else:
            self.locks[name] = self.store.lock(name)

    @rule(name=NAMES)
    def release(self, name):
        if name in self.locks:
            self.close_appender(name)  # as a session does, before it lets others have the run
            self.locks.pop(name).release()

    @rule()
    def reopen(self):
        if not isinstance(self.store, MemoryStore):
            for name in list(self.appenders):
                self.close_appender(name)
            if isinstance(self.store, DATABASES):
                self.store.close()
            self.store = type(self).make(Path(self.folder.name))

    @rule(name=NAMES)
    def look_at_one(self, name):
        document, journal = self.documents.get(name), self.journals.get(name)
        assert self.store.read(name) == (None if document is journal is None else Stored(document, journal))
        assert self.store.exists(name) is (document is not None)
        assert self.store.is_locked(name) is (name in self.locks)

    @invariant()
    def the_list_is_right(self):
        expected = {
            name: (
                len(self.documents.get(name, b"")) + len(self.journals.get(name, b"")),
                name in self.journals,
                self.documents.get(name) or self.journals[name],
            )
            for name in {*self.documents, *self.journals}
        }
        listed = self.store.list()
        assert [run.modified for run in listed] == sorted(run.modified for run in listed)
        found = {run.identifier: (run.size, run.has_journal, run.head) for run in listed}
        assert found.keys() == expected.keys()
        for name, (size, has_journal, head) in found.items():
            assert (size, has_journal) == expected[name][:2]
            assert head
            assert expected[name][2].startswith(head)  # of a journal it may be its first part


@pytest.mark.parametrize("which", KINDS)
def test_a_store_behaves_as_its_model(which):
    machine = type("Machine", (StoreMachine,), {"make": staticmethod(STORES[which])})
    run_state_machine_as_test(machine, settings=settings(examples(20), stateful_step_count=30))
