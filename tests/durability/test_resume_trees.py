"""Resuming over generated trees of calls: whatever was cut off where, what had completed does not run again.

A tree is plain data and the argument of its call; what differs from attempt to attempt (speed, failures) is not, so it
comes from the world. Each attempt ends well or not, and is kept as a state, or as the beginning of a journal.
"""

from __future__ import annotations

import struct
from zlib import crc32

import anyio
import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import ExecutionInfo, MemoryStore, Status
from tests import virtual
from tests.effort import examples

FRAME = struct.Struct("<II")
ATTEMPT = b'{"e": "attempt"'


@attrs.define
class World:
    """The speeds and failures of the calls of one attempt, and the calls that ran."""

    speeds: list
    broken: frozenset
    ran: list = attrs.field(factory=list)

    async def work(self, path):
        self.ran.append(path)
        await anyio.sleep(self.speeds[crc32(path.encode()) % len(self.speeds)])
        if crc32(path.encode()) % 8 in self.broken:
            raise ValueError(path)


world: World

leaves = st.sampled_from(["plain", "typed", "thread", "again"])
trees = st.recursive(
    leaves,
    lambda below: st.tuples(
        st.sampled_from(["sequence", "parallel", "batch", "limited", "threaded"]), st.lists(below, max_size=3)
    ).map(list),
    max_leaves=8,
)
roots = st.tuples(st.sampled_from(["sequence", "parallel", "batch"]), st.lists(trees, min_size=1, max_size=3)).map(list)


@attrs.frozen
class Attempt:
    speeds: list
    broken: frozenset
    cut: int | None  # how much of the journal is kept; None: the state is


attempts = st.builds(
    Attempt,
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.frozensets(st.integers(0, 7), max_size=3),
    st.none() | st.integers(0, 1000),
)


# ---- the interpreter


@rt.function_node
async def plain(path):
    await world.work(path)
    rt.context.put(path, "plain")
    return path


@rt.function_node
async def typed(path) -> tuple[str, int]:
    await world.work(path)
    rt.context.put(path, "typed")
    return path, 1


@rt.function_node(memo=False)
async def again(path):
    await world.work(path)
    rt.context.put(path, "again")
    return path


@rt.function_node(abandon_on_cancel=False)  # or its thread might go on into the next attempt
def thread(path):
    rt.call_sync(plain, f"{path}.0")
    world.ran.append(path)
    rt.context.put(path, "thread")
    return path


@rt.function_node(abandon_on_cancel=False)
def threaded(tree, path):
    world.ran.append(path)
    return [listed(rt.call_sync(node, *args)) for node, *args in below(tree, path)]


@rt.function_node
async def branch(tree, path):
    how, _ = tree
    world.ran.append(path)
    calls = below(tree, path)
    if how == "sequence":
        return [listed(await rt.call(node, *args)) for node, *args in calls]
    if how in ("batch", "limited"):
        # One node serves all, and each call has one below it.
        limit = 2 if how == "limited" else None
        return await rt.call_batch(one_of, *zip(*[(tree, path, i) for i in range(len(calls))], strict=True),
                                   return_exceptions=False, limit=limit) if calls else []  # fmt: skip
    results = [None] * len(calls)

    async def run(position, node, *args):
        results[position] = listed(await rt.call(node, *args))

    async with anyio.create_task_group() as group:
        for position, call in enumerate(calls):
            group.start_soon(run, position, *call)
    return results


async def one_of(tree, path, position):
    node, *args = below(tree, path)[position]
    return listed(await rt.call(node, *args))


def listed(result):
    """A tuple in the result of a branch, which has no annotation, would make the branch run again."""
    return list(result) if isinstance(result, tuple) else result


LEAVES = {"plain": plain, "typed": typed, "thread": thread, "again": again}


def below(tree, path):
    return [call_of(child, f"{path}.{i}") for i, child in enumerate(tree[1])]


def call_of(tree, path):
    if isinstance(tree, str):
        return LEAVES[tree], path
    return threaded if tree[0] == "threaded" else branch, tree, path


def expected(tree, path):
    """Return the result of a call when nothing goes wrong."""
    if isinstance(tree, str):
        return [path, 1] if tree == "typed" else path
    return [expected(child, f"{path}.{i}") for i, child in enumerate(tree[1])]


def paths(tree, path):
    """All calls that log themselves, by path, with their node."""
    if isinstance(tree, str):
        return {path: tree} | ({f"{path}.0": "plain"} if tree == "thread" else {})
    found = {path: tree[0]}
    for i, child in enumerate(tree[1]):
        found |= paths(child, f"{path}.{i}")
    return found


def path_of(record):
    return None if record.name == "one_of" else record.args[-1]


# ---- the attempts


class Keeping(MemoryStore):
    """Keeps the journal of the session that was saved last."""

    def save(self, identifier, content):
        stored = self.read(identifier)
        self.kept = stored and stored.journal
        super().save(identifier, content)


def frames(journal):
    found, offset = [], 0
    while offset < len(journal):
        length, _ = FRAME.unpack_from(journal, offset)
        found.append(journal[offset : offset + FRAME.size + length])
        offset += FRAME.size + length
    return found


def cut(journal, at):
    """The beginning of a journal; what a resumed session begins it with is written at once."""
    all_of_it = frames(journal)
    begun = [i for i, frame in enumerate(all_of_it) if ATTEMPT in frame] or [0]
    rest = len(all_of_it) - begun[0]
    return b"".join(all_of_it[: begun[0] + 1 + at % rest])


def completed(store):
    """Return the calls on record as completed, of which none may run again."""
    known = rt.state.load_run("run", store)
    assert known.damage is None
    done = [r for r in (*known.records, *known.earlier) if r.status is Status.COMPLETED]
    called_by_batches = {f"{r.args[1]}.{r.args[2]}" for r in done if r.name == "one_of"}
    return {path_of(r) for r in done if r.name not in ("again", "one_of")} | called_by_batches


def covered(path, done):
    """Return whether the call, or one above it, is completed."""
    parts = path.split(".")
    return any(".".join(parts[:i]) in done for i in range(1, len(parts) + 1))


async def run_attempt(tree, attempt, store, first):
    global world
    world = World(attempt.speeds, attempt.broken)
    flow = rt.Flow("Flow", branch, run_identifier="run", store=store, logging_setting="NONE")
    connection = flow.connect()
    result = error = None
    try:
        result = await (connection.ainvoke(tree, "0") if first else connection.aresume("run"))
    except Exception as exc:
        error = exc
    return result, error, connection.session


def check(session, store, error):
    info = session.info
    assert ExecutionInfo.from_document(store.read("run").document) == info
    stamps = sorted(s for r in info.records for s in (r.started_step, r.ended_step))
    assert stamps == list(range(len(stamps)))
    assert [r.index for r in info.records] == list(range(len(info.records)))
    for record in info.records:
        if record.parent is not None:
            parent = info.records[record.parent]
            assert parent.started_step < record.started_step < record.ended_step < parent.ended_step
            above = path_of(parent) or parent.args[1]
            own = path_of(record) or f"{record.args[1]}.{record.args[2]}"
            assert own == above or own.rpartition(".")[0] == above
    assert error is not None or info.earlier == ()


def check_journal(session, journal):
    read = ExecutionInfo.from_journal(journal)
    assert read.damage is None

    def tree_of(info):
        return sorted(
            (
                r.name,
                path_of(r),
                r.status,
                repr(r.args),
                path_of(info.records[r.parent]) if r.parent is not None else "",
            )
            for r in info.records
            if path_of(r) is not None
        )

    assert tree_of(read) == tree_of(session.info)


@pytest.mark.either_backend
@examples(60)
@given(roots, st.lists(attempts, min_size=1, max_size=4))
@example(["sequence", [["sequence", ["plain", "plain"]], ["sequence", ["plain"]]]], [Attempt([0], frozenset(), 1000)])
@example(
    ["sequence", [["batch", [["sequence", ["plain"]], "typed"]], "plain"]],
    [Attempt([0], frozenset(), cut) for cut in (16, 0, 0)],
)
def test_only_what_had_not_completed_runs_again(backend, tree, plan):
    """Wherever a run was cut off, only what had not completed runs again."""
    every = paths(tree, "0")
    known, done, first = None, set(), True
    for attempt in [*plan, Attempt([1, 0, 2], frozenset(), None)]:
        store = Keeping()
        if known is not None:
            kind, content = known
            if kind == "journal":
                store.open("run", content).close()  # type: ignore[arg-type]
            else:
                store.save("run", [content])
            done = completed(store)
        result, error, session = virtual.run(backend, run_attempt, tree, attempt, store, first)
        assert len(set(world.ran)) == len(world.ran), "a call ran twice"
        assert not set(world.ran) & done, "what had completed ran again"
        check(session, store, error)
        check_journal(session, store.kept)
        if error is None:
            below_done = {path for path in every if covered(path, done)}
            assert set(world.ran) == every.keys() - below_done, "it is not what had not completed that ran"
            assert result == expected(tree, "0")
            kinds = {p: kind for p, kind in every.items() if kind in LEAVES}
            assert session.context == kinds
            assert sorted(p for r in session.info.records if (p := path_of(r))) == sorted(every)
        journal = attempt.cut is not None
        known = ("journal", cut(store.kept, attempt.cut)) if journal else ("state", store.read("run").document)
        first = first and journal and not ExecutionInfo.from_journal(known[1]).records  # type: ignore[arg-type]
        done_now = {path_of(r) for r in session.info.records if r.status is Status.COMPLETED}
        if not journal:  # nothing is lost: neither what this attempt completed, nor what earlier ones had
            again = Keeping()
            again.save("run", [known[1]])
            known_again = rt.state.load_run("run", again)
            kept = {path_of(r) for r in (*known_again.records, *known_again.earlier) if r.status is Status.COMPLETED}
            assert {p for p in done_now if p} <= kept
            assert all(p in kept or covered(p, kept) for p in done)
    assert error is None
