"""Mistakes in flows about errors, cancellations and kills."""

from __future__ import annotations

import anyio
from hypothesis import strategies as st

import railtracks as rt
from railtracks.testing.faults import Cancel, Delay, Fault, Hang, Kill, Raise
from railtracks.testing.invariants import ends_within, is_cleaned_up, passes_cancellation_on
from railtracks.testing.strategies import fault_plans
from tests.harness.planted._planted import Case, Planted, drawn


def charged_twice(broken):
    """Take the money, lose the answer, and take the money again in the retry."""
    charged = {}

    @rt.function_node
    async def charge(amount, key):
        charged.setdefault(key, amount)  # the bank knows a key that it has seen

    @rt.function_node
    async def pay(amount):
        for attempt in range(3):
            try:
                return await rt.call(charge, amount, f"{attempt}" if broken else "order")
            except ConnectionError:
                await anyio.sleep(2**attempt)
        return None

    def nobody_pays_twice(outcome):
        assert sum(charged.values()) <= outcome.args[0], f"charged: {charged}"

    return Case(pay, (nobody_pays_twice,), args=(5,), nodes=(charge,))


def half_a_transfer(broken):
    """Make a call between the debit and the credit, so that the money is lost if the call fails."""
    balance = {"ann": 100, "bob": 100}

    @rt.function_node
    async def notify(name):
        pass

    @rt.function_node
    async def transfer(amount):
        balance["ann"] -= amount
        if not broken:
            balance["bob"] += amount
        await rt.call(notify, "ann")
        if broken:
            balance["bob"] += amount

    def no_money_is_lost(outcome):
        assert sum(balance.values()) == 200, f"{balance}"

    return Case(transfer, (no_money_is_lost,), args=(5,), nodes=(notify,))


def reservation_kept(broken):
    """Undo a reservation after an ``Exception``, which a cancellation is not."""
    reserved = set()
    undone = Exception if broken else BaseException

    @rt.function_node
    async def pay(room):
        await anyio.sleep(1)

    @rt.function_node
    async def book(room):
        reserved.add(room)
        try:
            await rt.call(pay, room)
        except undone:
            reserved.discard(room)
            raise

    def only_paid_rooms_are_reserved(outcome):
        assert outcome.exception is None or not reserved, f"reserved: {reserved}"

    return Case(book, (only_paid_rooms_are_reserved,), args=(1,), nodes=(pay,))


def cleanup_cut_off(broken):
    """Make a call in ``finally`` during a cancellation, which cancels that call at once."""

    @rt.function_node
    async def unlock(door):
        await anyio.sleep(1)

    @rt.function_node
    async def inspect(room):
        await anyio.sleep(1)

    @rt.function_node
    async def visit(room):
        try:
            await rt.call(inspect, room)
        finally:
            with anyio.CancelScope(shield=not broken):
                await rt.call(unlock, room)

    return Case(visit, (is_cleaned_up,), args=(1,), nodes=(inspect,))


def cancellation_swallowed(broken):
    """Save what there is, and return it as if the run had not been cancelled."""

    @rt.function_node
    async def read(page):
        return page

    @rt.function_node
    async def collect(pages):
        found = []
        try:
            for page in pages:
                found.append(await rt.call(read, page))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)  # saves it
            if not broken:
                raise
        return found

    return Case(collect, (passes_cancellation_on,), args=([1, 2],), nodes=(read,))


def default_for_a_cancellation(broken):
    """Catch the cancellation with what was meant for errors; no time passes."""
    caught = BaseException if broken else Exception

    @rt.function_node
    async def read(page):
        return page

    @rt.function_node
    async def read_or_blank(page):
        try:
            return await rt.call(read, page)
        except caught:
            return ""

    def what_is_cancelled_does_not_return(outcome):
        timed_out = isinstance(outcome.exception, rt.exceptions.GlobalTimeOutError)
        if outcome.was_cancelled or timed_out:
            assert outcome.info.records[0].status is rt.state.Status.CANCELLED

    return Case(read_or_blank, (what_is_cancelled_does_not_return,), args=(1,), nodes=(read,))


def retries_past_the_budget(broken):
    """Use the time budget that was meant for all attempts for each of them."""

    @rt.function_node
    async def fetch(page):
        return page

    async def attempts(page, budget):
        for _ in range(3):
            try:
                with anyio.fail_after(budget):
                    return await rt.call(fetch, page)
            except (ConnectionError, TimeoutError):
                continue
        return None

    @rt.function_node
    async def read(page):
        if broken:
            return await attempts(page, 2)
        with anyio.move_on_after(2):
            return await attempts(page, 2)

    return Case(read, (ends_within(2),), args=(1,), nodes=(fetch,))


def errors_left_out(broken):
    """Filter out the errors that a batch returns among its results."""

    @rt.function_node
    async def count(shelf):
        return shelf

    @rt.function_node
    async def inventory(shelves):
        counts = await rt.call_batch(count, shelves, return_exceptions=broken)
        return sum(each for each in counts if isinstance(each, int))

    def the_sum_is_right(outcome):
        assert outcome.exception or outcome.result == sum(outcome.args[0])

    return Case(inventory, (the_sum_is_right,), args=([1, 2],), nodes=(count,))


def sent_again(broken):
    """Draw a new key when the run is resumed, so that the mail server does not recognise the mail."""
    sent = {}
    drawn = iter(range(100))

    @rt.function_node
    async def draw_key():
        return next(drawn)

    @rt.function_node
    async def send(mail, key):
        sent.setdefault(next(drawn) if broken else key, mail)

    @rt.function_node
    async def send_all(mails):
        for mail in mails:
            await rt.call(send, mail, await rt.call(draw_key))

    def no_mail_is_sent_twice(outcome):
        assert len(sent) <= len(outcome.args[0]), f"sent: {sent}"

    return Case(send_all, (no_mail_is_sent_twice,), resumes=True, args=(["hello"],), nodes=(send,))


errors = st.builds(Raise, st.just(ConnectionError("injected")), after=st.booleans())
stops = st.one_of(st.just(Hang()), st.just(Cancel()), st.builds(Delay, st.integers(1, 4)))
pages = st.lists(st.integers(1, 9), max_size=4)
few_seconds = st.sampled_from([1.5, 2.5])


def at(node, does=stops):
    """Return plans in which something goes wrong at calls of this node."""
    return st.lists(st.builds(Fault, st.just(node), does, st.none() | st.integers(1, 3)), max_size=2)


def killed_within(records):
    """Return plans in which the process is killed before that many journal entries are written."""
    return st.builds(Kill, st.integers(0, records - 1)).map(lambda kill: [kill])


PLANTED = [
    Planted(
        "charged twice", "a retry pays again when only the answer was lost", charged_twice,
        drawn(st.integers(1, 9), faults=at("charge", errors)),
        ways=("faults", "sweep"),
    ),
    Planted(
        "half a transfer", "a call that fails stands between debit and credit", half_a_transfer,
        drawn(st.integers(1, 9), faults=fault_plans()),
        ways=("faults", "sweep"),
    ),
    Planted(
        "reservation kept", "`except Exception` undoes nothing when the run is cancelled", reservation_kept,
        drawn(st.integers(1, 9)),
        ways=("faults", "sweep"),
    ),
    Planted(
        "cleanup cut off", "a node called in `finally` is cancelled with the rest", cleanup_cut_off,
        drawn(st.integers(1, 9), faults=at("inspect"), timeout=few_seconds),
        ways=("faults", "sweep"),
    ),
    Planted(
        "cancellation swallowed", "`except` around a cancellation saves the rest, and does not raise",
        cancellation_swallowed, drawn(pages, faults=fault_plans(["read"]), timeout=few_seconds),
        ways=("faults", "sweep"),
    ),
    Planted(
        "default for a cancellation", "a bare `except` turns a cancellation into a value", default_for_a_cancellation,
        drawn(st.integers(1, 9), faults=at("read")),
        ways=("faults", "sweep"),
    ),
    Planted(
        "retries past the budget", "each attempt has the time that was meant for all", retries_past_the_budget,
        drawn(st.integers(1, 9), faults=at("fetch")),
        ways=("faults", "sweep"),
    ),
    Planted(
        "errors left out", "a sum of what a batch returned leaves out the errors", errors_left_out,
        drawn(pages, faults=at("count", errors)),
        ways=("faults", "sweep"),
    ),
    Planted(
        "sent again", "a resumed run sends again what was on its way when it was killed", sent_again,
        pages.flatmap(lambda mails: drawn(st.just(mails), faults=killed_within(4 * len(mails) + 2))),
        ways=("faults", "sweep"),
    ),
]  # fmt: skip
