"""The list of runs: what it shows, filters and pages, and that whatever stands in a run is text."""

import os
import shutil
import sys
import time

import pytest

import railtracks as rt
from railtracks.exceptions import RunSuspended, StoreError
from railtracks.state import FileStore, MemoryStore, RunSummary, SQLiteStore, Status, load_run
from railtracks.ui._runs import PAGE, Query, RunList, RunReader, list_page, shown_age
from tests.ui.client import visit
from tests.ui.conftest import approve

pytestmark = pytest.mark.either_backend
NOW = 1_000_000.0


def summary(number, **facts):
    known = {
        "state": "ended", "status": Status.COMPLETED, "flow_name": f"Flow {number % 3}", "session_name": None,
        "start_time": NOW - number, "end_time": NOW - number + 0.5, "calls": number, "modified": NOW, "size": 1,
    }  # fmt: skip
    return RunSummary(identifier=f"run-{number}", **{**known, **facts})


def identifiers(listing):
    return [row.identifier for row in listing.rows]


async def test_the_list_shows_each_run_the_latest_first(runs):
    async with visit() as visitor:
        page = (await visitor.get()).text
    found = [page.index(f"{visitor.access.root}/runs/{name}") for name in ("waiting", "bad", "longer", "good")]
    assert found == sorted(found)
    for status in ("suspended", "failed", "completed"):
        assert f'<span class="{status}">{status.capitalize()}</span>' in page
    assert "4 runs" in page
    assert page.count(f'data-began="{load_run("good").start_time}"') == 1


async def test_what_stands_in_a_run_is_text(runs):
    async with visit() as visitor:
        pages = [(await visitor.get(path)).text for path in ("/", "/?q=%3Cscript%3E", "/?flow=%3Cscript%3E%22'")]
        pages.append((await visitor.get("/compare?run=good&run=longer")).text)
        pages.append((await visitor.get("/runs/%3Cscript%3E")).text)
    for page in pages:
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
    assert 'value="&lt;script&gt;"' in pages[1]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["waiting", "bad", "longer", "good"]), ("?q=LONG", ["longer"]), ("?q=pages", ["bad", "longer", "good"]),
        ("?unfinished=1", ["waiting", "bad"]), ("?flow=Pages&unfinished=1", ["bad"]), ("?flow=nothing", []),
        ("?page=7", ["waiting", "bad", "longer", "good"]), ("?page=-1&x=y", ["waiting", "bad", "longer", "good"]),
        ("?page=9999999999999999999999", ["waiting", "bad", "longer", "good"]),
        ("?page=%D9%A1", ["waiting", "bad", "longer", "good"]),
    ],
)  # fmt: skip
async def test_filters_choose_runs(runs, query, shown):
    async with visit() as visitor:
        page = (await visitor.get(f"/{query}")).text
    assert [name for name in ("waiting", "bad", "longer", "good") if f'value="{name}"' in page] == shown
    assert ("None of the 4 runs matches" in page) == (not shown)


async def test_a_store_without_runs_says_so():
    async with visit() as visitor:
        assert "There are no runs here yet" in (await visitor.get()).text


async def test_a_store_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / ".railtracks").write_text("a file")
    async with visit() as visitor:
        response = await visitor.get()
    assert response.status_code == 409
    assert "is not a folder" in response.text


async def test_a_database_that_cannot_be_reached_says_so(monkeypatch):
    def fail(self):
        raise StoreError("postgresql://db/runs: connection refused")

    monkeypatch.setattr(MemoryStore, "list", fail)
    async with visit(store=MemoryStore()) as visitor:
        response = await visitor.get()
    assert response.status_code == 500
    assert "The store cannot be read" in response.text
    assert "postgresql://db/runs: connection refused" in response.text


async def test_a_run_that_cannot_be_opened_has_no_link(runs, tmp_path):
    names = ["-x", "bad id"]
    if sys.platform == "linux":  # where names of files are bytes
        names.append(os.fsdecode(b"\xffx"))
    for name in names:
        shutil.copy(tmp_path / ".railtracks" / "good.json", tmp_path / ".railtracks" / f"{name}.json")
    async with visit() as visitor:
        page = (await visitor.get()).text
        assert page.count('<tr role="row">') == 5 + len(names)
        assert (page.count("/runs/"), page.count('name="run"')) == (4, 4)
        assert "bad id\n        (cannot be opened: it contains &#39; &#39;)</td>" in page
        assert ("\\udcffx\n" in page) == (len(names) == 3)
        async with visitor.listen("/events?q=x") as events:
            await anext(events)
            assert "-x\\n        (cannot be opened" in await anext(events)


async def test_half_a_surrogate_pair_in_a_name_does_no_harm(runs):
    async with visit() as visitor:
        with pytest.raises(RunSuspended):
            await rt.Flow("F \ud800", approve, run_identifier="odd", logging_setting="NONE").ainvoke("B \ud801")
        for url in ("/", "/?flow=F+%5Cud800"):
            response = await visitor.get(url)
            assert response.status_code == 200
            assert "F \\ud800</option>" in response.text
            assert response.text.count('class="flow" title="F \\ud800">') == 1
        async with visitor.listen("/events?q=odd") as events:
            await anext(events)
            assert 'value=\\"odd\\"' in await anext(events)
        assert "B \\ud801" in (await visitor.get("/runs/odd")).text
        assert (await visitor.get("/compare?run=odd&run=good")).status_code == 400
        assert "sent" in (await visitor.post("/runs/odd/answer", {"question": question("odd"), "value": "1"})).text


def question(identifier):
    return load_run(identifier).questions[0].id


class RaisingStore(FileStore):
    """Raises what no store of the library does."""

    def is_locked(self, identifier):
        raise ValueError(f"no locks <b>{identifier}</b>")

    def list(self):
        raise ValueError("no list <b>")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "ValueError: no list &lt;b&gt;"),
        ("/runs/good", "ValueError: no locks &lt;b&gt;good"),
        ("/compare?run=good&run=bad", "ValueError: no locks &lt;b&gt;good"),
    ],
)
async def test_whatever_a_store_raises_is_shown(runs, path, text, caplog):
    async with visit(RaisingStore()) as visitor:
        response = await visitor.get(path)
    assert response.status_code == 500
    assert text in response.text
    (record,) = caplog.records
    assert record.getMessage().startswith("railtracks ui: a request has failed: ValueError: no ")
    assert record.exc_info is not None


async def test_whatever_a_store_raises_answers_an_action(runs):
    async with visit(RaisingStore()) as visitor:
        response = await visitor.post("/runs/bad/cancel")
    assert (response.status_code, response.json()) == (500, {"message": "ValueError: no locks <b>bad</b>"})


def test_ten_thousand_runs_are_on_pages():
    runs = tuple(summary(number) for number in range(10_000))
    began = time.perf_counter()
    first, last = list_page(runs, Query(), NOW), list_page(runs, Query(page=100), NOW)
    assert time.perf_counter() - began < 1
    assert (len(first.rows), first.pages, first.found, first.flows) == (
        PAGE,
        100,
        10_000,
        ("Flow 0", "Flow 1", "Flow 2"),
    )
    assert identifiers(last)[-1] == "run-9999"
    beyond = list_page(runs, Query(flow="Flow 1", page=99), NOW)
    assert (beyond.query.page, beyond.found, len(beyond.rows)) == (34, 3_333, 33)


def test_a_query_becomes_an_address_and_back():
    query = Query("a b&c", "Flow 1", True, 3)
    assert query.text_for() == "?q=a+b%26c&flow=Flow+1&unfinished=1&page=3"
    assert Query.of({"q": "a b&c", "flow": "Flow 1", "unfinished": "1", "page": "3"}) == query
    assert query.text_for(page=1, flow="") == "?q=a+b%26c&unfinished=1"
    assert Query().text_for() == ""


def test_a_row_says_how_far_a_run_has_come():
    runs = (
        summary(1, state="running", status=None, calls=None, end_time=None),
        summary(2, state="died", status=None, calls=None, end_time=None),
        summary(3, status=Status.CANCELLED, interrupted=True, calls=1_234),
        summary(4, status=None, flow_name=None, session_name="night", start_time=None, end_time=None),
    )
    rows = list_page(runs, Query(), NOW).rows
    assert [(row.status, row.kind, row.name, row.calls, row.seconds, row.since) for row in rows] == [
        ("Open (running)", "running", "Flow 1", "", "", NOW - 1),
        ("Open (process_died)", "died", "Flow 2", "", "", None),
        ("Cancelled (interrupted)", "cancelled", "Flow 0", "1,234", "500 ms", None),
        ("Ended", "ended", "night", "4", "", None),
    ]  # fmt: skip


def test_an_age_is_in_its_largest_unit():
    ages = [shown_age(seconds) for seconds in (-5, 0, 59, 60, 3_599, 3_600, 86_399, 86_400, 1e8)]
    assert ages == ["< 1 min", "< 1 min", "< 1 min", "1 min", "59 min", "1 h", "23 h", "1 d", "1,157 d"]


class CountingStore(FileStore):
    asked = 0

    def is_locked(self, identifier):
        CountingStore.asked += 1
        return super().is_locked(identifier)


def test_what_is_known_of_a_run_is_kept_until_it_changes(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 60)
    store = CountingStore()
    known = RunList(store)
    first = known.read()
    assert [run.identifier for run in first] == ["waiting", "bad", "longer", "good"]
    assert [run.status.value for run in first] == ["Suspended", "Failed", "Completed", "Completed"]
    assert all(again is before for again, before in zip(known.read(), first, strict=True))
    lock = store.lock("good")
    assert [run.state for run in known.read()] == ["ended", "ended", "ended", "running"]
    lock.release()
    (tmp_path / ".railtracks" / "bad.json").unlink()
    assert [run.identifier for run in known.read()] == ["waiting", "longer", "good"]


def test_a_change_in_the_future_is_believed_after_a_while(runs, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("railtracks.ui._runs.time.monotonic", lambda: now[0])
    future = time.time() + 3_600
    for path in (tmp_path / ".railtracks").glob("*.json"):
        os.utime(path, (future, future))
    known, reader = RunList(FileStore()), RunReader(FileStore(), "good", lambda _: None)

    def is_read_anew():
        before = known.read(), reader.read().info
        after = known.read(), reader.read().info
        return [after[0][0] is not before[0][0], after[1] is not before[1]]

    assert is_read_anew() == [True, True]
    now[0] += 1.9
    assert is_read_anew() == [True, True]
    now[0] += 0.2
    assert is_read_anew() == [False, False]
    os.utime(tmp_path / ".railtracks" / "good.json", (future, future + 60))
    assert reader.read().stamp != reader.read().stamp


def test_what_was_read_too_soon_is_read_once_more(runs, tmp_path, monkeypatch):
    for path in (tmp_path / ".railtracks").glob("*.json"):
        os.utime(path)
    known = RunList(FileStore())
    first = known.read()
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 60)
    second = known.read()
    assert all(again is not before for again, before in zip(second, first, strict=True))
    assert all(again is before for again, before in zip(known.read(), second, strict=True))


def test_a_page_that_is_turned_reads_nothing_anew(runs, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("railtracks.ui._runs.time.monotonic", lambda: now[0])
    store = CountingStore()
    known = RunList(store)

    def read():
        now[0] += 1.0
        return FileStore.list(store)

    monkeypatch.setattr(store, "list", read)
    first = known.read_recent()
    now[0] += 9.9
    assert known.read_recent() is first
    now[0] += 0.2
    assert known.read_recent() is not first


async def test_the_pages_name_the_store(tmp_path):
    for store, place in (
        (FileStore("runs"), tmp_path / "runs"), (SQLiteStore("runs.db"), tmp_path / "runs.db"),
        (MemoryStore(), "MemoryStore"),
    ):  # fmt: skip
        async with visit(store) as visitor:
            assert f">{place}</span>" in (await visitor.get()).text


def test_a_store_in_memory_is_listed():
    assert RunList(MemoryStore()).read() == ()
