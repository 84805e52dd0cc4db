"""call_stream: order, back-pressure, errors, ends."""

from __future__ import annotations

import asyncio
import itertools
import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import SessionError
from railtracks.state import Status
from tests import virtual
from tests.effort import examples


@rt.function_node
async def nap(seconds):
    await anyio.sleep(seconds)
    return seconds


@rt.function_node
async def double(number):
    return 2 * number


async def in_session(func):
    async with rt.Session(timeout=10_000):
        return await func()


async def in_node(func):
    @rt.function_node
    async def parent():
        return await func()

    async with rt.Session(timeout=10_000):
        return await rt.call(parent)


@pytest.fixture(params=[in_session, in_node], ids=["top-level", "nested"])
def run(request):
    return request.param


async def take_all(stream):
    return [result async for result in stream]


@pytest.mark.parametrize("limit", [None, 1, 3, 100])
async def test_results_come_in_the_order_of_the_items(run, limit):
    assert await run(lambda: take_all(rt.call_stream(nap, [3, 1, 2, 0], limit=limit))) == [3, 1, 2, 0]


async def test_without_order_results_come_as_calls_end(run):
    assert await run(lambda: take_all(rt.call_stream(nap, [3, 1, 2, 0], ordered=False))) == [0, 1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 7, None])
async def test_no_result_is_lost_or_doubled(run, limit, ordered):
    results = await run(lambda: take_all(rt.call_stream(double, range(1_000), limit=limit, ordered=ordered)))
    assert sorted(results) == [2 * number for number in range(1_000)]
    assert not ordered or results == sorted(results)


async def test_the_shortest_iterable_ends_the_stream(run):
    @rt.function_node
    async def add(a, b):
        return a + b

    assert await run(lambda: take_all(rt.call_stream(add, itertools.count(), [10, 20]))) == [10, 21]
    assert await run(lambda: take_all(rt.call_stream(add, [], itertools.count()))) == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_results_that_wait_bound_the_calls_that_begin(run, ordered):
    begun = []

    @rt.function_node
    async def note(number):
        begun.append(number)
        return number

    async def consume():
        async with rt.call_stream(note, itertools.count(), limit=5, ordered=ordered) as results:
            async for number in results:
                await anyio.sleep(1)
                assert len(begun) <= number + 1 + 5
                if number == 20:
                    break

    await run(consume)
    assert begun[:20] == list(range(20))


async def test_a_slow_call_holds_up_those_behind_it(run):
    begun = []

    @rt.function_node
    async def first_is_slow(number):
        begun.append(number)
        await anyio.sleep(100 if number == 0 else 1)
        return number

    async def consume():
        results = rt.call_stream(first_is_slow, itertools.count(), limit=10)
        with anyio.move_on_after(50):
            await anext(results)
        seen = [*begun]
        assert await anext(results) == 0  # the wait that was given up has lost nothing
        await results.aclose()
        return seen

    assert await run(consume) == list(range(10))


async def test_calls_overlap_up_to_the_limit(run):
    async def consume():
        start = anyio.current_time()
        assert len(await take_all(rt.call_stream(nap, [5] * 50, limit=25))) == 50
        return anyio.current_time() - start

    assert await run(consume) == 10


async def test_first_error_comes_after_the_results_before_it(run):
    error = ValueError("no")
    cancelled = []

    @rt.function_node
    async def fragile(number):
        if number == 2:
            await anyio.sleep(3)
            raise error
        try:
            await anyio.sleep(number)
        except anyio.get_cancelled_exc_class():
            cancelled.append(number)
            raise
        return number

    async def consume():
        seen = []
        with pytest.raises(ValueError) as caught:
            async for number in rt.call_stream(fragile, itertools.count(), limit=5):
                seen.append(number)
        assert caught.value is error
        return seen

    assert await run(consume) == [0, 1]
    assert cancelled


async def test_exceptions_stand_in_their_place_if_asked_for(run):
    @rt.function_node
    async def fragile(number):
        if number % 2:
            raise ValueError(number)
        return number

    results = await run(lambda: take_all(rt.call_stream(fragile, range(4), return_exceptions=True)))
    assert [getattr(each, "args", each) for each in results] == [0, (1,), 2, (3,)]


@pytest.mark.parametrize("source", ["sync", "async"])
async def test_what_an_iterable_raises_ends_the_stream(run, source):
    def numbers():
        yield 1
        yield 2
        raise LookupError("no more")

    async def async_numbers():
        for number in numbers():
            yield number

    async def consume():
        seen = []
        with pytest.raises(LookupError, match="no more"):
            async for number in rt.call_stream(double, numbers() if source == "sync" else async_numbers()):
                seen.append(number)
        return seen

    assert await run(consume) == [2, 4]


class Source:
    """An async generator that notes how far it was read, and that it was closed in the task that has read it."""

    def __init__(self):
        self.read = 0
        self.closed = False

    async def __call__(self):
        try:
            with anyio.CancelScope():  # which may only be left in the task that has entered it
                while True:
                    await anyio.sleep(0.1)
                    self.read += 1
                    yield self.read
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            self.closed = True


@pytest.mark.parametrize("end", ["break", "error", "cancel", "failure"])
async def test_async_generators_are_closed_however_it_ends(run, end):
    source = Source()

    @rt.function_node
    async def fails_later(number):
        if end == "failure" and number == 3:
            raise ValueError
        return number

    async def consume():
        async with rt.call_stream(fails_later, source(), limit=2) as results:
            async for number in results:
                if number == 3 and end == "break":
                    break
                if number == 3 and end == "error":
                    raise ValueError
                if number == 3 and end == "cancel":
                    await anyio.sleep(1_000)
        assert source.closed

    async def main():
        with anyio.move_on_after(100):
            await consume()

    if end in ("error", "failure"):
        with pytest.raises(ValueError):
            await run(main)
    else:
        await run(main)
    assert source.closed
    assert source.read <= 6


@pytest.mark.parametrize("keep", ["all", "summary"])
@pytest.mark.parametrize("end", ["break", "close", "cancel", "failure", "kept", "all"])
async def test_generators_are_closed_however_it_ends(run, end, keep):
    """Also if something refers to the generator, or to the stream, so that the garbage collector does not do it."""
    closed = []

    def numbers():
        try:
            yield from range(1 if end == "all" else 1_000)
        finally:
            closed.append(True)

    @rt.function_node
    async def fails_later(number):
        if end == "failure" and number == 3:
            raise ValueError(number)
        await anyio.sleep(0)
        return number

    items, kept = numbers(), []

    async def main():
        stream = rt.call_stream(fails_later, items, limit=2, keep_records=keep)
        if end == "kept":  # it is dropped neither here nor by the garbage collector
            kept.append(stream)
        with anyio.CancelScope() as scope:
            async for _ in stream:
                if end == "cancel":
                    scope.cancel()
                elif end in ("break", "close", "kept"):
                    break
        if end == "close":
            await stream.aclose()
            assert closed == [True]

    if end == "failure":
        with pytest.raises(ValueError, match="3"):
            await run(main)
    else:
        await run(main)
    assert closed == [True]
    assert [*items] == []


async def test_what_a_generator_raises_when_it_is_closed_is_logged(run, caplog):
    def numbers():
        try:
            yield from range(9)
        finally:
            raise LookupError("not closed well")

    items = numbers()

    async def main():
        async with rt.call_stream(double, items, limit=1) as results:
            async for _ in results:
                break

    await run(main)
    texts = [each.getMessage() for each in caplog.records]
    assert any("a generator of rt.call_stream(double, ...) raised LookupError" in text for text in texts)


async def test_async_and_other_iterables_can_be_mixed(run):
    async def letters():
        for letter in "abc":
            await anyio.sleep(1)
            yield letter

    @rt.function_node
    async def join(number, letter):
        await anyio.sleep(5 - number)
        return f"{letter}{number}"

    assert await run(lambda: take_all(rt.call_stream(join, itertools.count(), letters()))) == ["a0", "b1", "c2"]


async def test_leaving_the_loop_cancels_the_calls(run):
    running = set()

    @rt.function_node
    async def forever(number):
        running.add(number)
        try:
            await anyio.sleep(0 if number == 0 else math.inf)
        finally:
            running.discard(number)
        return number

    async def consume():
        async with rt.call_stream(forever, itertools.count(), limit=4) as results:
            async for _ in results:
                await anyio.sleep(1)
                assert running
                break
        assert not running

    await run(consume)


async def test_dropping_a_stream_cancels_its_calls():
    async with rt.Session() as session:
        async for _ in rt.call_stream(nap, itertools.chain([0], itertools.repeat(1_000)), limit=3):
            break
    assert {record.status for record in session.info.records} == {Status.COMPLETED, Status.CANCELLED}


async def test_calls_end_with_the_call_that_opened_the_stream():
    streams = []

    @rt.function_node
    async def parent():
        streams.append(rt.call_stream(nap, itertools.chain([0], itertools.repeat(1_000))))
        return await anext(streams[0])

    async with rt.Session() as session:
        assert await rt.call(parent) == 0
        with pytest.raises(rt.exceptions.SessionEndedError, match="nap"):
            await anext(streams[0])
    assert {record.parent for record in session.info.records} == {None, 0}


async def test_timeout_reaches_the_calls_of_a_stream():
    @rt.function_node
    async def parent():
        return await take_all(rt.call_stream(nap, itertools.repeat(1_000), limit=2))

    async with rt.Session(timeout=5) as session:
        with pytest.raises(rt.exceptions.GlobalTimeOutError):
            await rt.call(parent)
    assert [record.reason for record in session.info.records] == [rt.state.Reason.TIMEOUT] * 3


async def test_end_on_error_reaches_a_stream(run):
    @rt.function_node
    async def fragile(number):
        if number == 1:
            raise ValueError("ends it")
        await anyio.sleep(1_000)

    async with rt.Session(end_on_error=True):
        with pytest.raises(ValueError, match="ends it"):
            await take_all(rt.call_stream(fragile, itertools.count(), limit=3))


async def test_an_infinite_stream_has_an_end_with_its_consumer(run):
    async def consume():
        seen = []
        async with rt.call_stream(double, itertools.count()) as results:
            async for number in results:
                seen.append(number)
                if len(seen) == 300:
                    break
        return seen

    assert await run(consume) == [2 * number for number in range(300)]


async def test_records_are_those_of_the_calling_call():
    @rt.function_node
    async def parent():
        return await take_all(rt.call_stream(double, [1, 2]))

    async with rt.Session() as session:
        await rt.call(parent)
        await take_all(rt.call_stream(double, [3]))
    assert [(each.name, each.parent, each.result) for each in session.info.records] == [
        ("parent", None, [2, 4]), ("double", 0, 2), ("double", 0, 4), ("double", None, 6),
    ]  # fmt: skip


async def test_without_a_session_it_says_what_to_write():
    with pytest.raises(rt.exceptions.ContextError, match=r"async with rt\.Session\(\)"):
        await take_all(rt.call_stream(double, [1]))


async def test_without_a_nursery_it_says_what_to_write():
    with rt.Session(), pytest.raises(rt.exceptions.SessionError, match=r"async with rt\.Session\(\)"):
        await take_all(rt.call_stream(double, [1]))


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "2"])
def test_a_wrong_limit_is_refused_at_once(limit):
    with pytest.raises(ValueError, match=r"rt\.call_stream: limit must be an integer of at least 1"):
        rt.call_stream(double, [1], limit=limit)


def test_what_cannot_be_iterated_is_refused_at_once():
    with pytest.raises(TypeError, match=r"rt\.call_stream\(double.*argument 1 .* of type int, .* range\(count\)"):
        rt.call_stream(double, 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"rt\.call_stream\(node, items\)"):
        rt.call_stream(double)


async def test_stop_iteration_of_a_node_does_not_end_the_loop(run):
    @rt.function_node
    async def odd(number):
        raise StopAsyncIteration

    with pytest.raises(RuntimeError):
        await run(lambda: take_all(rt.call_stream(odd, [1])))


async def test_native_cancellation_of_the_wait_loses_nothing(backend, run):
    if backend != "asyncio":
        pytest.skip("asyncio.wait_for")

    async def consume():
        stream, seen = rt.call_stream(nap, [0.3] * 30, limit=3), []
        while True:
            try:
                seen.append(await asyncio.wait_for(anext(stream), 0.1))
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return seen

    assert await run(consume) == [0.3] * 30


async def test_sync_nodes_run_in_threads(run):
    assert await run(lambda: take_all(rt.call_stream(lambda x: x + 1, range(5), limit=2))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("stream", [rt.call_stream, rt.astream])
async def test_call_sync_of_a_stream_is_refused(stream):
    """It would do nothing: no synchronous code can iterate over the results."""

    def sync():
        return rt.call_sync(stream, double, [1, 2])

    async with rt.Session():
        text = rf"call_sync\(rt.{stream.__name__}, \.\.\.\) returned a stream.*did nothing"
        with pytest.raises(SessionError, match=text):
            await rt.call(sync)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_resumed_stream_does_again_what_had_not_completed(ordered):
    done, trouble = [], True

    @rt.function_node
    async def work(number):
        await anyio.sleep(number % 3)
        if trouble and number == 7:
            raise ConnectionError
        done.append(number)
        return number

    @rt.function_node
    async def parent():
        return await take_all(rt.call_stream(work, [*range(10), 3, 3], limit=3, ordered=ordered))

    with pytest.raises(ConnectionError):
        async with rt.Session(run_identifier="run", if_exists="resume"):
            await rt.call(parent)
    before, trouble = [*done], False
    async with rt.Session(run_identifier="run", if_exists="resume") as session:
        results = await rt.call(parent)
    assert sorted(results) == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    assert sorted(done) == sorted(results)
    assert before
    assert [each.reuse for each in session.info.records].count("reused") == len(before)


@examples(60)
@given(data=st.data())
def test_it_is_a_list_with_any_limit_and_delays(backend, data):
    delays = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=25))
    limit, ordered = data.draw(st.integers(1, 8)), data.draw(st.booleans())
    stop = data.draw(st.none() | st.integers(0, 25))
    failing = data.draw(st.sets(st.integers(0, 24)))
    is_async = data.draw(st.booleans())
    begun, seen, running = [], [], set()

    @rt.function_node
    async def work(place):
        begun.append(place)
        running.add(place)
        try:
            assert len(begun) - len(seen) <= limit + (stop is not None)
            await anyio.sleep(delays[place][0])
            if place in failing:
                raise ValueError(place)
            return place
        finally:
            running.discard(place)

    async def places():
        for place in range(len(delays)):
            yield place

    async def main():
        async with rt.Session():
            source = places() if is_async else range(len(delays))
            async with rt.call_stream(work, source, limit=limit, ordered=ordered, return_exceptions=True) as results:
                async for result in results:
                    seen.append(result.args[0] if isinstance(result, ValueError) else result)
                    if stop is not None and len(seen) > stop:
                        break
                    await anyio.sleep(delays[seen[-1]][1])
            assert not running

    virtual.run(backend, main)
    assert len(set(seen)) == len(seen)
    assert begun == list(range(len(begun)))
    assert not ordered or seen == list(range(len(seen)))
    if stop is None or stop >= len(delays):
        assert sorted(seen) == list(range(len(delays)))


async def test_awaiting_a_stream_says_what_to_write():
    async with rt.Session():
        with pytest.raises(
            TypeError, match=r"cannot be awaited.*write `async for result in rt\.call_stream\(\.\.\.\):`"
        ):
            await rt.call_stream(abs, [1])  # type: ignore[misc]


@pytest.mark.parametrize("where", [None, "task", "caller", "thread"])
async def test_a_sync_node_may_return_a_stream(where):
    @rt.function_node(where=where)
    def opened():
        return rt.call_stream(abs, [1, -2])

    @rt.function_node
    async def consume():
        return [result async for result in await rt.call(opened)]

    async with rt.Session():
        assert await rt.call(consume) == [1, 2]


@pytest.mark.parametrize("keep_records", ["all", "summary"])
async def test_a_stream_that_outlives_the_timeout_says_so(keep_records):
    async def endless():
        while True:
            await anyio.sleep(1)
            yield 1

    @rt.function_node
    async def consume():
        async for _ in rt.call_stream(abs, endless(), keep_records=keep_records):
            pass

    async with rt.Session() as session:
        with pytest.raises(rt.exceptions.GlobalTimeOutError) as caught:
            await rt.call(consume)
    assert str(caught.value).startswith("consume exceeded the timeout of 150 s of its session, which holds for all of")
    assert str(caught.value).endswith("or never ends, needs timeout=math.inf")
    assert session.info.end_time - session.info.start_time < 200  # type: ignore[operator]
