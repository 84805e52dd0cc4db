"""Mistakes in flows about what a process that was killed and resumed does again."""

from __future__ import annotations

import random

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(PLANTED, "the branch is drawn anew when the run is resumed", "sweep")
def branch_drawn_anew(broken):
    paid = []

    @rt.function_node
    async def draw():
        return random.random() < 0.5

    @rt.function_node
    async def pay_by_visa(amount):
        paid.append("visa")

    @rt.function_node
    async def pay_by_transfer(amount):
        paid.append("transfer")

    @rt.function_node
    async def send_receipt(amount):
        pass

    @rt.function_node
    async def main(amount):
        by_visa = random.random() < 0.5 if broken else await rt.call(draw)
        await rt.call(pay_by_visa if by_visa else pay_by_transfer, amount)
        await rt.call(send_receipt, amount)

    def it_is_paid_in_one_way(outcome):
        assert len(set(paid)) <= 1, f"paid by {paid}"

    return Case(main, (it_is_paid_in_one_way,), resumes=True, args=(9,))


@defect(PLANTED, "a mail is sent outside of any call, and again by the resumed run", "faults", "sweep")
def sent_outside_of_a_call(broken):
    sent = []

    @rt.function_node
    async def send(mail):
        if mail not in sent:
            sent.append(mail)

    @rt.function_node
    async def log(mail):
        pass

    @rt.function_node
    async def main(mail):
        if broken:
            sent.append(mail)
        else:
            await rt.call(send, mail)
        await rt.call(log, mail)

    def it_is_sent_once(outcome):
        assert len(sent) <= 1, f"sent: {sent}"

    return Case(main, (it_is_sent_once,), resumes=True, args=("hello",), nodes=(log,))


@defect(PLANTED, "the last of some steps is not idempotent", "sweep")
def late_step_repeated(broken):
    sent = []

    @rt.function_node
    async def step(number):
        pass

    @rt.function_node
    async def send(mail):
        if broken or mail not in sent:
            sent.append(mail)

    @rt.function_node
    async def main(steps):
        for number in range(steps):
            await rt.call(step, number)
        await rt.call(send, "done")

    def it_is_sent_once(outcome):
        assert len(sent) <= 1, f"sent: {sent}"

    return Case(main, (it_is_sent_once,), resumes=True, args=(3,))


NOTHING: list[str] = []


@defect(
    PLANTED, "a result is compared by identity, and comes back from the journal as another object", "faults", "sweep"
)
def result_compared_by_identity(broken):
    @rt.function_node
    async def search(text):
        return NOTHING

    @rt.function_node
    async def log():
        pass

    @rt.function_node
    async def main(text):
        found = await rt.call(search, text)
        await rt.call(log)
        is_nothing = found is NOTHING if broken else found == NOTHING
        return "nothing" if is_nothing else "something"

    def nothing_is_found(outcome):
        assert outcome.exception or outcome.result == "nothing", f"{outcome.result}"

    return Case(main, (nothing_is_found,), resumes=True, args=("text",), nodes=(log,))
