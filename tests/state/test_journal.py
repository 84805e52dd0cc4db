"""What a journal holds, and the state that is read from it."""

from pathlib import Path

import railtracks as rt
from railtracks.state import ExecutionInfo, MemoryStore, Reason, Status, list_runs, load_run
from tests.state.journals import boundaries, payloads, tree


def test_the_small_journal_has_calls_of_all_kinds(small):
    content, info, _, _ = small
    assert [event["e"] for event in payloads(content)] == [
        "header", "created", "created", "context", "ended", "created", "ended", "context", "context",
        "created", "ended", "ended", "created",
    ]  # fmt: skip
    assert {record.status for record in info.records} == set(Status) - {Status.SUSPENDED}


def test_what_was_recorded_is_read_back(small):
    content, info, _, _ = small
    assert ExecutionInfo.from_journal(content, running=True) == info
    assert ExecutionInfo.from_journal(content).damage is None


def test_after_each_entry_the_journal_agrees_with_the_session(small):
    content, _, _, seen = small
    assert set(boundaries(content)[2:]) <= set(seen)
    for end in boundaries(content)[2:]:
        assert ExecutionInfo.from_journal(content[:end], running=True) == seen[end]


def test_a_call_that_ran_when_its_process_died_is_open(small):
    """Its reason says that the process died."""
    content, _, loaded, _ = small
    died = [(r.name, r.reason) for r in ExecutionInfo.from_journal(content).records if r.status is Status.OPEN]
    assert died == [("endless", Reason.PROCESS_DIED)]
    assert [(r.name, r.reason) for r in loaded.records if r.status is Status.OPEN] == [("endless", None)]


def test_a_run_is_running_while_its_session_holds_the_lock(small):
    """After the release of the lock it has died."""
    store = MemoryStore()
    store.open("mine", small[0])
    lock = store.lock("mine")
    assert [(run.state, run.status, run.calls) for run in list_runs(store)] == [("running", None, None)]
    assert load_run("mine", store).records[-1].reason is None
    lock.release()
    [run] = list_runs(store)
    assert (run.state, run.status, run.calls, run.session_name, run.flow_name) == ("died", None, None, "small", "flow")
    assert (run.start_time, run.end_time, run.size) == (1e9, None, len(small[0]))
    assert load_run("mine", store).records[-1].reason is Reason.PROCESS_DIED


async def test_a_journal_with_an_end_says_what_the_document_would(monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("railtracks.state._stores._files.write_atomically", fail)
        async with rt.Session(run_identifier="mine") as session:
            await rt.call(tree, 3)
    assert not Path(".railtracks/mine.json").exists()
    loaded = load_run("mine")
    assert loaded == session.info == ExecutionInfo.load(".railtracks/mine.journal")
    assert loaded.end_time == session.info.end_time is not None
    [run] = list_runs()
    assert (run.identifier, run.session_name) == ("mine", None)


async def test_a_resumed_journal_with_an_end_says_what_happened(small, monkeypatch):
    """The journal of a session that resumed another and could not save its document is loaded instead."""

    def fail(*_args):
        raise OSError("disk full")

    store = MemoryStore()
    store.open("mine", small[0]).close()
    monkeypatch.setattr(store, "save", fail)
    async with rt.Session(run_identifier="mine", store=store, resume="mine") as session:
        await rt.call(tree, 3)
    assert load_run("mine", store) == session.info


def test_an_attempt_keeps_what_came_before_apart(small, resumed):
    info = ExecutionInfo.from_journal(resumed)
    assert [event["e"] for event in payloads(resumed)].count("attempt") == 1
    assert [r.name for r in info.earlier] == [r.name for r in small[1].records]
    assert [r.name for r in info.records] == [r.name for r in small[1].records]
    assert {r.reuse for r in info.records} >= {"reused"}
    assert info.damage is None
