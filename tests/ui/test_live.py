"""What changes in a store reaches the pages that are open: one task reads for all, and only while there are any."""

import json
import threading

import anyio
import pytest

import railtracks as rt
from railtracks.state import FileStore, load_run
from railtracks.ui._live import HEARTBEAT, POLL, Hub, UpdateStream
from tests.ui.client import visit


class Source:
    """Something that changes when a test says so, and counts how often it is read."""

    def __init__(self, seconds=0.0):
        self.value = 1
        self.reads = 0
        self.error = None
        self.seconds = seconds
        self.now = 0.0

    def read(self):
        self.reads += 1
        self.now += self.seconds
        if self.error is not None:
            raise self.error
        return self.value

    def clock(self):
        return self.now


def describe(now):
    return "update", now


def parsed(text):
    """Return an event as its name and its data; None for what is not an event."""
    lines = dict(line.split(": ", 1) for line in text.strip().splitlines() if line[0] != ":")
    return (lines["event"], json.loads(lines["data"])) if "event" in lines else None


async def next_event(events):
    while True:
        if (event := parsed(await anext(events))) is not None:
            return event


async def test_all_who_listen_share_one_watch_which_ends_with_the_last():
    source, hub = Source(), Hub()
    async with hub.open():
        async with hub.listen("a", source.read) as first:
            async with hub.listen("a", source.read) as second:
                assert first is second
                await anyio.sleep(10 * POLL)
            reads = source.reads
            assert 10 <= reads <= 12
            await anyio.sleep(10 * POLL)
            assert source.reads > reads + 8
        reads = source.reads
        await anyio.sleep(100 * POLL)
        assert source.reads <= reads + 1
        async with hub.listen("a", source.read) as again:
            assert again is not first


async def test_reading_takes_a_tenth_of_the_time_at_most():
    source, hub = Source(seconds=3.0), Hub()
    async with hub.open(), hub.listen("a", source.read) as watch:
        watch._clock = source.clock
        await anyio.sleep(2)
        assert source.reads <= 2
        reads = source.reads
        await anyio.sleep(95)
        assert source.reads <= reads + 4


async def test_changes_are_sent_and_nothing_else():
    source, hub = Source(), Hub()
    async with hub.open():
        stream = UpdateStream(hub, "a", source.read, describe)
        events = stream.texts()
        assert await anext(events) == "retry: 2000\n\n"
        assert parsed(await anext(events)) == ("update", 1)
        source.value = 2
        assert parsed(await anext(events)) == ("update", 2)
        began = anyio.current_time()
        assert await anext(events) == ": still here\n\n"
        assert anyio.current_time() - began == pytest.approx(HEARTBEAT, abs=0.1)
        await events.aclose()
    assert not hub._watches


async def test_who_is_poked_reads_at_once():
    source, hub = Source(seconds=100.0), Hub()
    async with hub.open(), hub.listen("a", source.read) as watch:
        watch._clock = source.clock
        await anyio.sleep(1)
        source.value = 2
        hub.poke("a")
        hub.poke("nothing")
        await anyio.sleep(1)
        assert watch.value == 2


async def test_what_cannot_be_read_is_said_once_and_tried_again(caplog):
    source, hub = Source(), Hub()
    source.error = OSError("the disk is gone")
    async with hub.open():
        events = UpdateStream(hub, "a", source.read, describe).texts()
        assert await next_event(events) == ("problem", {"message": "OSError: the disk is gone"})
        await anyio.sleep(10 * POLL)
        source.error = None
        assert await next_event(events) == ("update", 1)
        await events.aclose()
    assert [record.getMessage() for record in caplog.records] == [
        "railtracks ui: a run, or the list of runs, cannot be read: OSError: the disk is gone"
    ]


async def test_an_update_follows_a_problem_if_nothing_has_changed():
    source, hub = Source(), Hub()
    shown = []

    def describe_once(now):
        if shown == [now]:
            return None
        shown[:] = [now]
        return "update", now

    async with hub.open():
        events = UpdateStream(hub, "a", source.read, describe_once).texts()
        assert await next_event(events) == ("update", 1)
        source.error = OSError("the disk is gone")
        assert (await next_event(events))[0] == "problem"
        source.error = None
        assert await next_event(events) == ("update", {})
        for number in (2, 1):
            source.value = number
            assert await next_event(events) == ("update", number)
        await events.aclose()


async def test_what_cannot_be_shown_is_a_problem(caplog):
    source, hub = Source(), Hub()

    def describe_even(now):
        if now % 2:
            raise ValueError(f"{now} is odd")
        return "update", now

    async with hub.open():
        events = UpdateStream(hub, "a", source.read, describe_even).texts()
        assert await next_event(events) == ("problem", {"message": "ValueError: 1 is odd"})
        source.value = 2
        assert await next_event(events) == ("update", 2)
        await events.aclose()
    assert [record.getMessage() for record in caplog.records] == [
        "railtracks ui: what was read cannot be shown: ValueError: 1 is odd"
    ]


async def test_streams_end_with_the_server():
    source, hub = Source(), Hub()
    ended = []

    async def follow():
        async for text in UpdateStream(hub, "a", source.read, describe).texts():
            ended.append(parsed(text))
        ended.append("end")

    async with hub.open(), anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.sleep(1)
        began = anyio.current_time()
        hub.close()
        while ended[-1] != "end":
            await anyio.sleep(0.001)
        assert anyio.current_time() - began < 0.1


async def test_a_client_that_leaves_is_not_read_for(runs):
    async with visit() as visitor:
        async with visitor.listen("/events") as events:
            await next_event(events)
            assert list(visitor.site.hub._watches) == ["list"]
        assert not visitor.site.hub._watches


async def test_who_asks_for_the_head_of_a_stream_gets_that(runs):
    async with visit() as visitor:
        for path in ("/events", "/runs/good/events"):
            response = await visitor.request("HEAD", visitor.access.root + path, cookie=visitor.cookie)
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert not visitor.site.hub._watches


async def test_the_hub_must_be_open():
    with pytest.raises(RuntimeError, match="lifespan"):
        async with Hub().listen("a", int):
            pass


async def test_the_list_follows_the_store(runs, tmp_path):
    async with visit() as visitor, visitor.listen("/events?unfinished=1") as events:
        _, data = await next_event(events)
        assert 'value="bad"' in data["rows"]
        assert 'value="good"' not in data["rows"]
        (tmp_path / ".railtracks" / "bad.json").unlink()
        _, data = await next_event(events)
        assert 'value="bad"' not in data["rows"]


@rt.function_node
async def step(number):
    return number


@rt.function_node
async def work(gates):
    for number, gate in enumerate(gates):
        await gate.wait()
        await rt.call(step, number)


async def test_the_page_of_a_run_follows_it_while_it_runs(tmp_path):
    gates = [anyio.Event() for _ in range(2)]
    async with visit() as visitor, anyio.create_task_group() as tasks:
        session = rt.Session(run_identifier="working", flow_name="Work", logging_setting="NONE")

        async def run():
            async with session:
                await rt.call(work, gates)

        tasks.start_soon(run)
        await anyio.sleep(1)
        page = (await visitor.get("/runs/working")).text
        shown = page.partition("events?shown=")[2].partition('"')[0]
        async with visitor.listen(f"/runs/working/events?shown={shown}") as events:
            name, data = await next_event(events)
            assert (name, data["calls"], data["run"]["status"]) == ("update", [], "Open")
            assert sorted(data["live"]["actions"]) == ["cancel"]
            gates[0].set()
            names = []
            while "step" not in names:
                _, data = await next_event(events)
                names += [row[2] for row in data["calls"]]
            assert names == ["step"]
            gates[1].set()
            while data["run"]["status"] != "Completed":
                _, data = await next_event(events)
            assert [row[2] for row in data["calls"]] == ["work", "step", "step"]
            assert data["live"] == {"actions": {}, "notice": None}
    assert load_run("working").end_time is not None


async def test_a_run_that_is_over_is_sent_once_and_not_read_again(runs, monkeypatch):
    reads = []

    def read(*args):
        reads.append(args)
        return load_run(*args)

    monkeypatch.setattr("railtracks.ui._runs.load_run", read)
    monkeypatch.setattr("railtracks.ui._runs._SETTLED", -1.0)
    async with visit() as visitor:
        page = (await visitor.get("/runs/good")).text
        shown = page.partition("events?shown=")[2].partition('"')[0]
        async with visitor.listen("/runs/good/events") as events:
            name, data = await next_event(events)
            assert (name, len(data["calls"])) == ("update", 13)
            await anyio.sleep(60)
        assert len(reads) == 2
        async with visitor.listen(f"/runs/good/events?shown={shown}") as events:
            texts = [await anext(events) for _ in range(3)]
        assert [parsed(text) for text in texts] == [None] * 3


async def test_a_page_of_an_earlier_attempt_is_loaded_anew(runs):
    async with visit() as visitor:
        for shown, expected in (
            ("3~0.5~x", "reset"),
            ("nonsense", "update"),
            ("3~4", "update"),
            ("٣~1~x", "update"),
            (f"{'9' * 5_000}~1~x", "update"),
        ):
            async with visitor.listen(f"/runs/good/events?shown={shown}") as events:
                assert (await next_event(events))[0] == expected


async def test_a_session_that_has_only_just_begun_has_a_page():
    store = FileStore()
    lock = store.lock("new")
    try:
        async with visit(store) as visitor:
            response = await visitor.get("/runs/new")
            assert response.status_code == 200
    finally:
        lock.release()


async def test_reading_does_not_hold_up_the_event_loop():
    release, threads = threading.Event(), []

    def read():
        threads.append(threading.current_thread())
        release.wait(10)
        return 1

    hub = Hub()
    async with hub.open(), hub.listen("a", read) as watch:
        while not threads:
            await anyio.sleep(0)
        assert threads[0] is not threading.main_thread()
        assert watch.version == 0
        release.set()
        await watch.wait_changed()
        assert watch.value == 1
