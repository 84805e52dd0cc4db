"""Documents that are kept compressed or in parts: they are found, listed, read, replaced and removed like others."""

import gzip
import json
import re
import sqlite3
import zlib
from typing import Any

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import ExecutionInfo, FileStore, SQLiteStore, Status, list_runs, load_run, prune
from railtracks.state._document import _compression, _reader, _writer
from railtracks.state._document._compression import beginning_of, compress_large, decompress, is_compressed
from railtracks.state._document._writer import encoded
from railtracks.state._stores import _parts
from railtracks.state._stores._protocols import STORE_METHODS
from tests.state.stores import KINDS, STORES

pytestmark = pytest.mark.either_backend


@rt.function_node
async def step(x):
    return {"x": [x] * 3}


@rt.function_node
async def steps(count):
    return [await rt.call(step, number) for number in range(count)]


@pytest.fixture
def small_limits(monkeypatch):
    """Let documents count as large from some calls on, and store them in many parts."""
    monkeypatch.setattr(_compression, "COMPRESSED_BEYOND", 5_000)
    monkeypatch.setattr(_compression, "_BLOCK", 3_000)
    monkeypatch.setattr(_writer, "PIECE", 500)
    monkeypatch.setattr(_writer, "CHUNK", 2)
    monkeypatch.setattr(_parts, "PART", 200)


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    return STORES[request.param](tmp_path)


async def run(store, count, **options):
    async with rt.Session(run_identifier="run", name="large", store=store, **options) as session:
        await rt.call(steps, count)
    return session.info


async def test_a_large_run_is_saved_listed_loaded_and_resumed(store, small_limits):
    info = await run(store, 30)
    stored = store.read("run")
    assert is_compressed(stored.document)
    assert gzip.decompress(stored.document) == b"".join(encoded(info.document()))
    [listed] = list_runs(store)
    assert (listed.state, listed.status, listed.calls) == ("ended", Status.COMPLETED, 31)
    assert (listed.session_name, listed.size) == ("large", len(stored.document))
    assert load_run("run", store) == info
    again = await run(store, 30, resume="run")
    assert [decision.reused for decision in again.resumed] == [True]
    assert len(again.records) == 31
    assert load_run("run", store) == again
    assert prune(keep=0, store=store) == ["run"]
    assert store.read("run") is None
    assert list_runs(store) == []


async def test_a_small_run_is_not_compressed(store):
    await run(store, 3)
    document = store.read("run").document
    assert json.loads(document)["calls"] == 4


async def test_a_large_run_and_a_small_one_replace_each_other(store, small_limits):
    for count in (30, 2, 30, 31, 1):
        info = await run(store, count)
        assert load_run("run", store) == info


async def test_a_large_file_is_loaded_from_its_path_and_saved_as_text(small_limits, tmp_path):
    info = await run(FileStore(tmp_path), 30)
    assert ExecutionInfo.load(tmp_path / "run.json") == info
    info.save(tmp_path / "plain.json")
    saved = json.loads((tmp_path / "plain.json").read_text())
    assert saved["runs"] == info.payload()["runs"]


async def test_a_large_document_that_is_formatted_otherwise_is_read(small_limits, tmp_path):
    info = await run(FileStore(tmp_path), 30)
    (tmp_path / "run.json").write_bytes(gzip.compress(json.dumps(info.payload(), indent=1).encode()))
    assert ExecutionInfo.load(tmp_path / "run.json") == info


async def test_what_a_large_document_has_before_it_breaks_off_is_used(small_limits, tmp_path):
    path = tmp_path / "run.json"
    info = await run(FileStore(tmp_path), 30)
    content = path.read_bytes()
    used = []
    for cut in range(2, len(content) - 8, 29):  # the last eight bytes are checksums of gzip
        path.write_bytes(content[:cut])
        try:
            loaded = ExecutionInfo.load(path)
        except StateError as exc:
            assert not used
            assert re.search(r"run\.json: .*(breaks off|cut off)", str(exc))
            continue
        assert "the document is cut off: " in str(loaded.damage)
        assert len(loaded.records) == len(info.records)
        for record, was in zip(loaded.records, info.records, strict=True):
            assert record.status is Status.OPEN or (record.result, record.args) == (was.result, was.args)
        used.append(sum(record.status is Status.COMPLETED for record in loaded.records))
    assert used == sorted(used)
    assert used[-1] == len(info.records)
    assert len(set(used)) > 10


async def test_what_is_whole_of_a_damaged_large_document_is_used(small_limits, tmp_path):
    """Damage costs the calls of one block."""
    path = tmp_path / "run.json"
    info = await run(FileStore(tmp_path), 30)
    content = path.read_bytes()
    loaded = []
    for place in range(2, len(content), 17):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        try:
            loaded.append(ExecutionInfo.load(path))
        except StateError as exc:
            assert "run.json: " in str(exc)
    assert len(loaded) > 20
    for each in loaded:
        assert each.damage is None or re.search("the document is (damaged|cut off)", each.damage)
        assert len(each.records) >= len(info.records) - 20
        for record in each.records:
            was = info.records[record.index]
            assert record.status is Status.OPEN or (record.result, record.args) == (was.result, was.args)
    lost = [sum(record.status is Status.OPEN for record in each.records) for each in loaded]
    assert 0 < max(lost) < 20


async def test_what_follows_a_large_document_is_damage(small_limits, tmp_path):
    path = tmp_path / "run.json"
    info = await run(FileStore(tmp_path), 30)
    path.write_bytes(path.read_bytes() + b"more")
    assert ExecutionInfo.load(path) == info


@pytest.mark.parametrize("size", [0, 1, 4_999, 5_000, 5_001, 100_000])
def test_compressing_keeps_the_content(size, small_limits):
    content = bytes(number % 251 for number in range(size))
    made = b"".join(compress_large(content[start : start + 333] for start in range(0, size, 333)))
    assert is_compressed(made) == (size > 5_000)
    assert b"".join(decompress(made)) == content
    assert beginning_of(made[:500], 100) == content[:100]


def test_beginning_of_what_is_not_gzip_is_empty():
    assert beginning_of(b"\x1f\x8bnot gzip", 100) == b""


def test_a_foreign_compressed_file_is_not_a_run(tmp_path):
    for name, content in (("other", gzip.compress(b"{}")), ("torn", b"\x1f\x8b"), ("bad", b"\x1f\x8b not gzip")):
        (tmp_path / f"{name}.json").write_bytes(content)
    store = FileStore(tmp_path)
    assert list_runs(store) == []
    assert prune(keep=0, store=store) == []


# ---- SQLite


def parts(path, table):
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute(f"SELECT part FROM {table} ORDER BY part")]


async def test_parts_of_sqlite_are_removed_with_their_run(small_limits, tmp_path):
    """By an earlier release, too, which does not know of them."""
    path = tmp_path / "runs.db"
    await run(SQLiteStore(path), 30)
    assert len(parts(path, "documents")) > 3
    with sqlite3.connect(path) as connection:
        row = ("run", 1.0, None, None, "Completed", None, None, 0, b"{}")
        connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert parts(path, "documents") == []
    await run(SQLiteStore(path), 30)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM runs")
    assert parts(path, "documents") == []


async def test_a_journal_in_sqlite_is_stored_in_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(_parts, "PART", 50)
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    async with rt.Session(run_identifier="run", store=store, durability="sync"):
        await rt.call(steps, 3)
        assert len(parts(path, "journals")) > 8
        info = load_run("run", store)
    assert [record.result for record in info.records[1:]] == [{"x": [number] * 3} for number in range(3)]


# ---- what is read of a run that is listed


async def test_listing_reads_the_beginning_of_runs_only(kind, persistent, monkeypatch):
    async with rt.Session(run_identifier="died", name="mine", store=persistent, durability="sync"):
        await rt.call(steps, 1)
        journal = persistent.read("died").journal
    persistent.open("died", journal).sync()
    await run(persistent, 3)
    monkeypatch.setattr(type(persistent), "read", None)
    monkeypatch.setattr(_reader, "read_content", None)
    assert [(r.identifier, r.state, r.session_name) for r in list_runs(persistent)] == [
        ("died", "died", "mine"),
        ("run", "ended", "large"),
    ]


class Plain:
    """A store of a user, which has only the methods of a store."""

    def __init__(self, folder):
        store = FileStore(folder)
        for name in STORE_METHODS:
            setattr(self, name, getattr(store, name))


async def test_a_store_with_the_required_methods_alone_is_enough(tmp_path):
    store: Any = Plain(tmp_path)
    async with rt.Session(run_identifier="run", store=store):
        await rt.call(step, 1)
        journal = (tmp_path / "run.journal").read_bytes()
    (tmp_path / "run.journal").write_bytes(journal)
    assert [run.state for run in list_runs(store)] == ["died"]
    async with rt.Session(run_identifier="run", resume="run", store=store) as session:
        await rt.call(step, 1)
    assert session.info.resumed[0].reused


def test_zlib_finds_damage_in_the_middle():
    """The checksum at the end covers everything."""
    made = bytearray(zlib.compress(b"x" * 1000, wbits=31))
    made[-6] ^= 1
    with pytest.raises(StateError, match="damaged"):
        list(decompress(bytes(made)))


@pytest.mark.parametrize("form", ["nested", "batch"])
async def test_a_trivial_call_takes_at_most_250_bytes_on_disk(store, form):
    count, sizes = 2_000, []

    @rt.function_node
    async def trivial(x):
        return x

    @rt.function_node
    async def main():
        if form == "batch":
            await rt.call_batch(trivial, range(count), limit=100)
        else:
            for number in range(count):
                await rt.call(trivial, number)
        if (stored := store.read("run")) is not None:  # SQLite may not have written it yet, and compresses it
            sizes.append(len(stored.journal or b""))

    async with rt.Session(run_identifier="run", store=store):
        await rt.call(main)
    sizes.append(len(store.read("run").document or b""))
    assert max(sizes) <= 250 * count
