"""faults.Network: what arrives and when, what goes wrong by plan, and what that finds in a cluster."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Violation, check, faults, run, simulate
from railtracks.testing.faults import Network, Partition
from railtracks.testing.strategies import backends, networks, seeds
from tests.effort import examples


def received(network, messages=4, *, backend="asyncio", seed=0, gap=1.0):
    """Send numbers from a to b, one each second, and return those that arrive, each with its time."""
    got = []

    async def main():
        async def b():
            start = anyio.current_time()
            async for message in network.member("b"):
                got.append((message, round(anyio.current_time() - start, 3)))

        async with anyio.create_task_group() as group:
            group.start_soon(b)
            for number in range(1, messages + 1):
                await network.member("a").send("b", number)
                await anyio.sleep(gap)
            await anyio.sleep(100)
            group.cancel_scope.cancel()

    run(main, backend=backend, seed=seed)
    return got


def numbers(got):
    return [number for number, _ in got]


@examples(30)
@given(st.integers(0, 19), backends(), st.sampled_from([0.0, 0.3, 5.0]))  # seeds under which no timer is late
def test_without_faults_each_message_arrives_once_and_in_order(seed, backend, latency):
    network = Network(latency=latency, seed=seed)
    got = received(network, backend=backend, seed=seed)
    assert numbers(got) == [1, 2, 3, 4]
    assert network.happened == []
    assert all(number - 1 <= time <= number - 1 + latency + 0.001 for number, time in got)


@pytest.mark.parametrize(("fault", "arrived"), [
    ("lose", [1, 3, 4]), ("duplicate", [1, 2, 2, 3, 4]), ("delay", [1, 2, 3, 4]), ("reorder", [1, 2, 3, 4]),
])  # fmt: skip
def test_what_goes_wrong_with_a_message(backend, fault, arrived):
    network = Network({2: fault})
    got = received(network, backend=backend)
    assert sorted(numbers(got)) == arrived
    assert network.happened == [(2, fault)]
    if fault == "reorder":
        assert got == [(1, 0), (3, 2), (2, 2), (4, 3)]
    if fault == "delay":
        assert max(got, key=lambda each: each[0] == 2)[1] > 1


def test_the_last_message_that_is_held_arrives_at_last(backend):
    assert received(Network({4: "reorder"}), backend=backend)[-1] == (4, 13)


def test_a_partition_loses_what_is_sent_and_what_is_under_way(backend):
    assert numbers(received(Network(partitions=[Partition([["a"], ["b"]], 0.5, 2.5)]), backend=backend)) == [1, 4]
    slow = Network({1: "delay"}, partitions=[Partition([["a"]], 0.001, 2.5)], seed=1)
    assert 1 not in numbers(received(slow, backend=backend))
    assert (1, "partition") in slow.happened


def test_a_partition_can_be_healed(backend):
    async def main():
        network = Network()
        a, b, c = map(network.member, "abc")
        network.partition({"a"}, {"b", "c"})
        await a.send("b", "lost")
        await c.send("b", "from c")
        assert await b.receive() == "from c"
        network.heal()
        await a.send("b", "from a")
        assert await b.receive() == "from a"
        assert network.happened == [(1, "partition")]

    run(main, backend=backend)


def test_a_receiver_that_is_cancelled_loses_nothing(backend):
    async def main():
        member = Network().member("a")
        with anyio.move_on_after(1):
            await member.receive()
        await member.send("a", 1)
        assert await member.receive() == 1

    run(main, backend=backend)


def test_each_run_has_a_network_as_new(backend):
    network = Network({2: "lose"}, chances={"delay": 0.5}, latency=1.0)
    first = received(network, backend=backend)
    happened = [*network.happened]
    assert received(network, backend=backend) == first
    assert network.happened == happened
    network.reset()
    assert network.happened == []


@examples(100)
@given(networks(["a", "b"]))
def test_the_repr_of_a_network_is_the_code_that_makes_it(network):
    again = eval(repr(network), vars(faults))
    assert repr(again) == repr(network)
    assert numbers(received(again, gap=0.5)) == numbers(received(network, gap=0.5))


@pytest.mark.parametrize("wrong", [
    ({0: "lose"}, {}), ({1: "loose"}, {}), ({}, {"chances": {"lose": 2}}), ({}, {"latency": -1}), ({}, {"delay": "1"}),
    ({}, {"partitions": [["a"]]}),
])  # fmt: skip
def test_bad_input(wrong):
    with pytest.raises(ConfigError, match="Network"):
        Network(wrong[0], **wrong[1])


@pytest.mark.parametrize("make", [
    lambda: Partition("ab"), lambda: Partition([["a"], ["a"]]), lambda: Partition([["a"]], begins=-1),
    lambda: Network().member(3),  # type: ignore[arg-type]
])  # fmt: skip
def test_a_wrong_partition_or_member_is_refused(make):
    with pytest.raises(ConfigError):
        make()


# ---- an election, as in Raft: one leader in a term


def cluster_of(network, quorum):
    leaders = []

    @rt.function_node
    async def member(name, others, patience):
        """Vote once; ask for votes if nobody has been elected after a while."""
        me, voted_for, votes, is_over = network.member(name), None, set(), False

        async def listen():
            nonlocal voted_for, is_over
            async for kind, sender in me:
                if kind == "vote for me" and voted_for in (None, sender):
                    voted_for = sender
                    await me.send(sender, ("yes", name))
                elif kind == "yes":
                    votes.add(sender)
                    await count()
                elif kind == "elected":
                    is_over = True

        async def count():
            nonlocal is_over
            if len(votes) >= quorum and not is_over:
                is_over = True
                leaders.append(name)
                for other in others:
                    await me.send(other, ("elected", name))

        async def stand():
            nonlocal voted_for
            await anyio.sleep(patience)
            if voted_for is None and not is_over:
                voted_for = name
                votes.add(name)
                for other in others:
                    await me.send(other, ("vote for me", name))
                await count()

        with anyio.move_on_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                group.start_soon(stand)

    @rt.function_node
    async def cluster(names):
        others = [[other for other in names if other != name] for name in names]
        await rt.call_batch(member, names, others, [1 + place for place in range(len(names))])

    def one_leader(outcome):
        assert len(leaders) <= 1, f"leaders: {leaders}, because of {network!r}"

    return cluster, one_leader


def elect(network, quorum, seed=0, backend="asyncio"):
    cluster, one_leader = cluster_of(network, quorum)
    check(simulate(cluster, ["a", "b", "c"], seed=seed, backend=backend), one_leader)


def look_for_two_leaders(quorum, count):
    @settings(examples(count), derandomize=True, database=None, phases=[Phase.generate])
    @given(networks(["a", "b", "c"]), seeds(), backends())
    def tried(network, seed, backend):
        elect(network, quorum, seed, backend)

    tried()


def test_a_network_finds_that_less_than_a_majority_elects():
    elect(Network(), quorum=1)  # all is well as long as nothing goes wrong
    with pytest.raises(Violation, match=r"because of Network\(") as caught:
        look_for_two_leaders(1, 100)
    assert caught.value.outcome.info.records


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_a_majority_elects_one_leader_whatever_the_network_does(count):
    look_for_two_leaders(2, count)


def test_a_partition_has_each_side_elect_one(backend):
    network = Network(partitions=[Partition([["a"], ["b", "c"]])])
    with pytest.raises(Violation, match="one leader"):
        elect(network, 1, backend=backend)
    elect(network, 2, backend=backend)


# ---- what people see of it


def test_the_story_shows_what_goes_wrong_with_messages(backend):
    network = Network({2: "lose"}, latency=0.1)

    @rt.function_node
    async def serve():
        me = network.member("server")
        with anyio.move_on_after(10):
            async for _ in me:
                await me.send("client", "done")

    @rt.function_node
    async def deposit():
        await network.member("client").send("server", 5)
        await rt.call(serve)

    [line] = [event for event in simulate(deposit, backend=backend).trace if event.what == "fault"]
    assert (line.who, line.detail) == ("s0.1 serve", "message 2 to client: lose")


def test_the_story_shows_what_a_partition_loses_under_way(backend):
    network = Network({1: "delay"}, partitions=[Partition([["a"]], begins=0.001)])

    @rt.function_node
    async def send():
        await network.member("a").send("b", 1)
        await anyio.sleep(20)

    lines = [event for event in simulate(send, backend=backend).trace if event.what == "fault"]
    assert [(line.who, line.detail) for line in lines] == [
        ("s0.0 send", "message 1 to b: delay"), ("s0.0 send", "message 1 to b: partition"),
    ]  # fmt: skip


@pytest.mark.either_backend
def test_hypothesis_prints_networks_as_code():
    @settings(max_examples=50, database=None, deadline=None, derandomize=True)
    @given(networks(["a", "b"]))
    def fails(network):
        assert not network._planned

    with pytest.raises(AssertionError) as raised:
        fails()
    printed = "".join(raised.value.__notes__)
    assert "lambda" not in printed
    assert "network=Network(" in printed
    assert "partitions=[Partition(" in printed
