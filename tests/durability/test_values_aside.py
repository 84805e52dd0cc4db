"""Large texts and bytes, which are kept beside the records: whole, searched for secrets, and gone with their run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import FileStore, Form, MemoryStore, Opaque
from railtracks.state._redaction._large_texts import STEP, has_secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._compact_text import compact_inputs
from railtracks.state._serialization._large_values import LARGE, MASKED, content_of, digests_in
from railtracks.state._serialization._record_text import form_in, inputs_text, result_text
from railtracks.state._serialization._structuring import restore_result
from tests.state.stores import DATABASES, KINDS, STORES

pytestmark = pytest.mark.either_backend

SECRET = "correct-horse-battery-staple-42"
BIG = b"\x00\xffdata" * 20_000
TEXT = "päge\ud800 " * 20_000


@dataclass
class Page:
    title: str
    body: str
    images: list[bytes] = field(default_factory=list)


VALUES: dict[str, Any] = {
    "bytes": BIG,
    "text": TEXT,
    "list": ["small", BIG, TEXT, BIG],
    "dict": {"a": TEXT, "b": {"c": (BIG, 1)}},
    "pairs": {1: TEXT, (2, 3): BIG},
    "bytearray": bytearray(BIG),
    "dataclass": Page("t", TEXT, [BIG, b"small"]),
    "long key": {TEXT: 1, "x": TEXT},
    "at the limit": ["x" * LARGE, "x" * (LARGE + 1), b"x" * LARGE, b"x" * (LARGE + 1)],
}
values = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    store = STORES[request.param](tmp_path)
    yield store
    if isinstance(store, DATABASES):
        store.close()


def aside(value: Any) -> tuple[str, dict[str, bytes]]:
    """Return the text of a result, and the large values that are kept beside it."""
    kept: dict[str, bytes] = {}
    text = result_text(value, Redactor(), keep=lambda digest, value: kept.update({digest: content_of(value)}))
    return text, kept


# ---- texts


@values
def test_a_value_comes_back_as_it_was(value):
    text, kept = aside(value)
    assert len(text) < 10 * LARGE
    assert set(digests_in(text)) == set(kept)
    restored = restore_result(text, Page | Any if isinstance(value, Page) else Any, kept.__getitem__)
    assert restored == value
    assert type(restored) is type(value)


def about_large(part: Any, more: int) -> Any:
    """Return a text or bytes that are just not large, or just are."""
    return part * (LARGE // len(part) + more)


LEAVES = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(
        lambda text, more: text * (LARGE // len(text) + more), st.text(min_size=1, max_size=9), st.integers(0, 2)
    ),
    st.builds(
        lambda part, more: part * (LARGE // len(part) + more), st.binary(min_size=1, max_size=9), st.integers(0, 2)
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(value=TREES)
def test_what_is_kept_beside_a_record_comes_back(value):
    text, kept = aside(value)
    assume(form_in(text) is not Form.MASKED)  # a key may name a secret
    restored = restore_result(text, Any, kept.__getitem__)
    assert (restored, repr(restored)) == (value, repr(value))
    assert aside(restored)[0] == text


@given(value=TREES, other=TREES)
def test_arguments_are_equal_wherever_the_values_are(value, other):
    inline = inputs_text((value,), {"x": value}, Redactor())
    marked = inputs_text((value,), {"x": value}, Redactor(), keep=lambda *_: None)
    assert compact_inputs(inline) == compact_inputs(marked) == marked
    same = inputs_text((other,), {"x": other}, Redactor(), keep=lambda *_: None) == marked
    assert same == (inline == inputs_text((other,), {"x": other}, Redactor()))


def test_a_mapping_cannot_pretend_to_be_a_large_value():
    forged = {"$type": "bytes", "$large": hashlib.sha256(BIG).hexdigest(), "$size": len(BIG)}
    text, kept = aside([forged, '{"$large": "' + "a" * 64 + '"}'])
    assert not kept
    assert not digests_in(text.replace('"$large", "', ""))
    assert restore_result(text, Any) == [forged, '{"$large": "' + "a" * 64 + '"}']


# ---- secrets


@pytest.mark.parametrize("at", [0, STEP - 10, STEP, 2 * STEP - 1, 300_000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_secret_is_found_wherever_it_is(at, kind):
    redactor = Redactor()
    redactor.add(SECRET)
    filler = "lorem ipsum " * 40_000
    for secret in (SECRET, "sk-abcdefgh12345678abcdefgh", "\n".join(SECRET)):
        text = f"{filler[:at]} {secret} {filler[at:]}"
        assert has_secret(text if kind is str else text.encode(), redactor)
    assert not has_secret(filler if kind is str else filler.encode(), redactor)


def test_names_in_large_json_make_values_secret():
    text = '{"rows": ["' + "x y" * 100_000 + '"], "password": "hunter2 or so", "more": "' + "x y" * 100_000 + '"}'
    assert has_secret(text, Redactor())
    assert Redactor().redact(text) != text
    assert not has_secret(text.replace("password", "passwords_changed_at"), Redactor())


# ---- runs


class Flow:
    """A flow whose first step returns a value, and whose second one gets it. It fails until it is repaired."""

    def __init__(self, value: Any, store: Any, **options: Any) -> None:
        self.ran: list[str] = []
        self.is_broken = True

        @rt.function_node
        async def make() -> Page | Any:
            self.ran.append("make")
            rt.context.put("kept", [value] if not isinstance(value, Page) else 1)
            return value

        @rt.function_node
        async def use(value: Page | Any, more: str = "") -> int:
            self.ran.append("use")
            return len(repr(value))

        @rt.function_node
        async def main() -> Any:
            size = await rt.call(use, await rt.call(make))
            if self.is_broken:
                raise ConnectionError
            return size, rt.context.get("kept")

        self.value = value
        self._main = main
        self._options = {"logging_setting": "QUIET", "run_identifier": "run", **options}
        self.use_store(store)

    def use_store(self, store: Any) -> None:
        self.flow = rt.Flow("F", self._main, store=store, **self._options)

    def fail(self) -> None:
        with pytest.raises(ConnectionError):
            self.flow.invoke()

    def resume(self, run: str = "run") -> list[str]:
        """Resume the run, and return the steps that ran again."""
        self.is_broken = False
        self.ran.clear()
        size, kept = self.flow.resume(run)
        assert size == len(repr(self.value))
        assert kept == ([self.value] if not isinstance(self.value, Page) else 1)
        return self.ran


def made(info: rt.ExecutionInfo) -> Any:
    """Return the result of the first step, as it was loaded."""
    return next(record.result for record in info.records if record.name == "make")


@values
def test_nothing_runs_again(backend, value, tmp_path):
    flow = Flow(value, FileStore(tmp_path), backend=backend)
    flow.fail()
    assert flow.resume() == []


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
def test_nothing_runs_again_from_any_store(backend, store, durability):
    flow = Flow([BIG, TEXT], store, backend=backend, durability=durability)
    flow.fail()
    assert made(rt.state.load_run("run", store)) == [BIG, TEXT]
    assert len(store.list_values("run")) == 2
    assert rt.state.list_runs(store)[0].size > len(BIG)
    assert flow.resume() == []
    assert rt.state.load_run("run", store).answer[1] == [[BIG, TEXT]]
    rt.state.prune(keep=0, store=store)
    assert not store.list_values("run")


def test_typed_values_have_their_large_parts(tmp_path):
    page = VALUES["dataclass"]

    @rt.function_node
    async def main(page: Page) -> Page:
        return page

    flow = rt.Flow("F", main, store=FileStore(tmp_path), logging_setting="QUIET", run_identifier="run")
    flow.invoke(page)
    (record,) = rt.state.load_run("run", flow=flow).records
    assert record.args == (page,)
    assert record.result == page


def test_what_is_written_is_small_without_the_values(tmp_path):
    flow = Flow([BIG, TEXT], FileStore(tmp_path))
    flow.fail()
    assert (tmp_path / "run.json").stat().st_size < 20_000
    info = rt.ExecutionInfo.load(tmp_path / "run.json")
    assert made(info) == [BIG, TEXT]
    info.save(tmp_path / "alone.json")
    assert made(rt.ExecutionInfo.load(tmp_path / "alone.json")) == [BIG, TEXT]


def put(store: Any, content: bytes) -> None:
    for digest in store.list_values("run"):
        store.put_value("run", digest, content)


LOST = {
    "missing": (lambda store: store.remove_values("run", store.list_values("run")), "that is missing"),
    "damaged": (lambda store: put(store, BIG[:-1]), "that is damaged"),
    "torn": (lambda store: put(store, b""), "that is damaged"),
    "masked": (lambda store: put(store, MASKED), "there is a secret in it"),
}


@pytest.mark.parametrize(("lose", "why"), LOST.values(), ids=LOST)
def test_a_call_runs_again_if_its_value_is_lost(backend, store, lose, why, caplog):
    flow = Flow(BIG, store, backend=backend)
    flow.fail()
    lose(store)
    placeholder = made(rt.state.load_run("run", store))
    assert isinstance(placeholder, Opaque)
    assert (placeholder.type, placeholder.repr) == ("bytes", f"<{len(BIG)} bytes>")
    assert flow.resume() == ["make"]  # the other call has the same arguments, and a small result
    assert any(why in r.getMessage() for r in caplog.records)
    decisions = {record.name: record.reuse for record in rt.state.load_run("run", store).records}
    assert why in (decisions["make"] or "")
    assert store.read_value("run", hashlib.sha256(BIG).hexdigest()) == BIG  # it is there again


def test_a_value_with_a_known_secret_is_not_stored(backend, store):
    secret = os.urandom(16).hex()
    content = b"x y " * 30_000 + secret.encode()

    @rt.function_node
    async def make(password: object) -> bytes:
        return content

    @rt.function_node
    async def main() -> int:
        content: bytes = await rt.call(make, rt.Secret(secret))  # a secret stands for it
        return len(content)

    flow = rt.Flow("F", main, store=store, logging_setting="QUIET", run_identifier="run", backend=backend)
    assert flow.invoke() == len(content)
    (digest,) = store.list_values("run")
    assert store.read_value("run", digest) == MASKED


def test_a_fork_outlives_the_run(backend, store):
    flow = Flow([BIG, TEXT], store, backend=backend)
    flow.fail()
    connection = flow.flow.connect()
    with pytest.raises(ConnectionError):
        connection.fork("run", before=10_000)
    assert flow.ran == ["make", "use"]
    fork = connection.session_id
    store.remove("run")
    assert not store.list_values("run")
    assert flow.resume(fork) == []


def test_values_that_nothing_refers_to_are_removed(store):
    flow = Flow(BIG, store)
    store.put_value("run", "0" * 64, b"left by a killed process")
    flow.fail()
    assert store.list_values("run") == [hashlib.sha256(BIG).hexdigest()]


def test_values_without_a_run_are_swept(store):
    store.put_value("gone", "0" * 64, b"left by a killed process")
    store.sweep()
    assert isinstance(store, MemoryStore) or not store.list_values("gone")


def test_an_earlier_run_keeps_its_values(store, caplog):
    flow = Flow(BIG, store)
    flow.fail()
    other = Flow(TEXT, store)
    other.fail()
    (kept,) = {run.identifier for run in rt.state.list_runs(store)} - {"run"}
    assert flow.resume(kept) == []
    assert other.resume() == []


class Plain:
    """A store that keeps no large values."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        if name.endswith(("_value", "_values")):
            raise AttributeError(name)
        return getattr(self.inner, name)


def test_a_store_need_not_keep_values(backend):
    flow = Flow([BIG, TEXT], Plain(), backend=backend)
    flow.fail()
    assert flow.resume() == []


def test_a_run_that_was_recorded_whole_is_resumed(backend):
    plain = Plain()
    flow = Flow([BIG, TEXT], plain, backend=backend)
    flow.fail()
    flow.use_store(plain.inner)
    assert flow.resume() == []


class Full(FileStore):
    """A store in which there is no room for values, for some time."""

    is_full = True

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().put_value(identifier, digest, content)


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_a_store_without_room_for_values_harms_nothing(tmp_path, durability, caplog):
    store = Full(tmp_path)

    @rt.function_node
    async def make() -> bytes:
        return BIG

    async with rt.Session(store=store, durability=durability, run_identifier="run", logging_setting="QUIET"):
        assert await rt.call(make) == BIG
        await rt.call(make)
        store.is_full = False
    assert rt.state.load_run("run", store).records[0].result == BIG


async def test_sync_waits_for_the_value(tmp_path):
    store = FileStore(tmp_path)

    @rt.function_node
    async def make() -> bytes:
        return BIG

    async with rt.Session(store=store, durability="sync", run_identifier="run"):
        await rt.call(make)
        assert store.read_value("run", hashlib.sha256(BIG).hexdigest()) == BIG


def test_files_are_for_their_owner_only(tmp_path):
    Flow(BIG, FileStore(tmp_path / "runs")).fail()
    folder: Path = tmp_path / "runs" / "run.values"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]
