"""Mistakes in flows about errors: lost answers, errors taken for others, and errors that nobody sees."""

from __future__ import annotations

import asyncio

import anyio

import railtracks as rt
from railtracks.testing import ScriptedModel, tool_call
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(PLANTED, "an error in the cleanup takes the place of the real one", "faults", "sweep", raises=LookupError)
def cleanup_hides_the_error(broken):
    @rt.function_node
    async def close():
        pass

    @rt.function_node
    async def query():
        raise LookupError("no such row")

    @rt.function_node
    async def main():
        try:
            await rt.call(query)
        finally:
            try:
                await rt.call(close)
            except ConnectionError:
                if broken:
                    raise

    def the_real_error_is_raised(outcome):
        error = outcome.exception
        if isinstance(error, Exception) and not isinstance(error, TimeoutError):
            assert isinstance(error, LookupError), repr(error)

    return Case(main, (the_real_error_is_raised,), nodes=(close,))


@defect(PLANTED, "a request that timed out had been done, and the retry does it again", "faults", "sweep")
def timed_out_but_done(broken):
    orders = []

    @rt.function_node
    async def create(order):
        if broken or order not in orders:
            orders.append(order)

    @rt.function_node
    async def main(order):
        for _ in range(3):
            try:
                with anyio.fail_after(3):
                    return await rt.call(create, order)
            except TimeoutError:
                await anyio.sleep(1)
        return None

    def it_is_ordered_once(outcome):
        assert len(orders) <= 1, f"{orders}"

    return Case(main, (it_is_ordered_once,), args=(7,), nodes=(create,))


@defect(PLANTED, "a connection is given back after an error, and again in `finally`", "faults", "sweep")
def given_back_twice(broken):
    idle = []

    @rt.function_node
    async def run(connection):
        await anyio.sleep(0.1)

    @rt.function_node
    async def use(number):
        connection = idle.pop() if idle else object()
        is_given_back = False
        try:
            await rt.call(run, number)
        except ConnectionError:
            idle.append(connection)
            is_given_back = True
        finally:
            if broken or not is_given_back:
                idle.append(connection)

    @rt.function_node
    async def main(count):
        for number in range(count):
            await rt.call(use, number)

    def no_connection_is_there_twice(outcome):
        assert len(set(map(id, idle))) == len(idle), "a connection is in the pool twice"

    return Case(main, (no_connection_is_there_twice,), args=(2,), nodes=(run,))


@defect(PLANTED, "a step whose answer is lost is not undone, as its undoing is registered after it", "faults", "sweep")
def step_never_undone(broken):
    booked = set()

    @rt.function_node
    async def book(what):
        booked.add(what)

    @rt.function_node
    async def travel(steps):
        to_undo = []
        try:
            for step in steps:
                if not broken:
                    to_undo.append(step)
                await rt.call(book, step)
                if broken:
                    to_undo.append(step)
        except ConnectionError:
            booked.difference_update(to_undo)
            raise

    def all_or_nothing_is_booked(outcome):
        assert not (isinstance(outcome.exception, ConnectionError) and booked), f"booked: {booked}"

    return Case(travel, (all_or_nothing_is_booked,), args=(["flight", "hotel"],), nodes=(book,))


@defect(
    PLANTED, "only the first error of a group counts; a fatal one beside it is retried", "faults", "sweep",
    exceptions=(ConnectionError("injected"), ValueError("corrupt")),
)  # fmt: skip
def first_error_of_a_group(broken):
    fatal = []

    @rt.function_node
    async def check_stock():
        pass

    @rt.function_node
    async def check_sum():
        pass

    @rt.function_node
    async def check_both():
        for _ in range(2):
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(rt.call, check_stock)
                    group.start_soon(rt.call, check_sum)
                return "right"
            except ExceptionGroup as group_of_errors:
                errors = group_of_errors.exceptions
                fatal.extend(error for error in errors if isinstance(error, ValueError))
                considered = errors[:1] if broken else errors
                if not all(isinstance(error, ConnectionError) for error in considered):
                    raise
                await anyio.sleep(1)
        return "unknown"

    def a_fatal_error_is_not_lost(outcome):
        assert not (fatal and outcome.result == "right"), f"right, after {fatal}"

    return Case(check_both, (a_fatal_error_is_not_lost,), nodes=(check_stock, check_sum))


@defect(PLANTED, "the answer of a tool is lost, and the agent books the room again", "faults", "sweep", least_calls=6)
def tool_called_twice(broken):
    rooms = []

    @rt.function_node
    async def book_room(guest: str) -> str:
        """Book a room."""
        if broken or guest not in rooms:
            rooms.append(guest)
        return "booked"

    def answer(messages):
        last = messages[-1]
        is_booked = last.role == "tool" and "booked" in last.content
        return "Done." if is_booked else tool_call("book_room", guest="Ada")

    clerk = rt.agent_node("Clerk", llm=ScriptedModel(answer), tool_nodes=[book_room], max_tool_calls=3)

    def one_room_is_booked(outcome):
        assert len(rooms) <= 1, f"booked for {rooms}"

    return Case(clerk, (one_room_is_booked,), args=("A room for Ada",), nodes=(book_room,))


@defect(PLANTED, "an error at the seventh page is taken for the end", "sweep", least_calls=8)
def error_taken_for_the_end(broken):
    @rt.function_node
    async def fetch(page):
        return page

    @rt.function_node
    async def crawl(pages):
        found = []
        for page in range(pages):
            try:
                found.append(await rt.call(fetch, page))
            except ConnectionError:
                if broken and page == 6:
                    break
                raise
        return found

    def no_page_is_missing(outcome):
        if outcome.exception is None:
            assert len(outcome.result) == outcome.args[0], f"{len(outcome.result)} of {outcome.args[0]} pages"

    return Case(crawl, (no_page_is_missing,), args=(8,), nodes=(fetch,))


@defect(PLANTED, "what failed in a batch is counted, and not reported", "faults", "sweep")
def failures_not_reported(broken):
    @rt.function_node
    async def count(shelf):
        await anyio.sleep(0.1)
        return shelf

    @rt.function_node
    async def inventory(shelves):
        counts = await rt.call_batch(count, shelves)
        failed = [each for each in counts if isinstance(each, Exception)]
        if failed and not broken:
            raise RuntimeError(f"{len(failed)} failed")
        return sum(each for each in counts if isinstance(each, int))

    def the_sum_is_right(outcome):
        assert outcome.exception or outcome.result == sum(outcome.args[0]), f"{outcome.result}"

    return Case(inventory, (the_sum_is_right,), args=([1, 2],), nodes=(count,))


@defect(
    PLANTED, "a CancelledError among gathered results passes for a result", "faults", "sweep", backends=("asyncio",)
)
def cancellation_among_results(broken):
    unwanted = Exception if broken else BaseException

    @rt.function_node
    async def quote(shop):
        await anyio.sleep(0.1)
        return 10

    @rt.function_node
    async def quotes(shops):
        tasks = [asyncio.ensure_future(rt.call(quote, shop)) for shop in range(shops)]
        timer = asyncio.get_running_loop().call_later(2, lambda: [task.cancel() for task in tasks])
        results = await asyncio.gather(*tasks, return_exceptions=True)
        timer.cancel()
        return [result for result in results if not isinstance(result, unwanted)]

    def all_are_prices(outcome):
        assert all(isinstance(each, int) for each in outcome.result or []), f"{outcome.result}"

    return Case(quotes, (all_are_prices,), args=(2,), nodes=(quote,))


@defect(PLANTED, "nobody gets the error of a call in a task of its own", "faults", "sweep", backends=("asyncio",))
def error_of_a_task_lost(broken):
    indexed = []

    @rt.function_node
    async def index(text):
        await anyio.sleep(0.1)
        indexed.append(text)

    @rt.function_node
    async def save(text):
        task = asyncio.create_task(rt.call(index, text))
        await anyio.sleep(1)
        if not broken:
            await task
        return "saved"

    def what_is_saved_is_indexed(outcome):
        assert outcome.result != "saved" or indexed, "saved, and not indexed"

    return Case(save, (what_is_saved_is_indexed,), args=("text",), nodes=(index,))
