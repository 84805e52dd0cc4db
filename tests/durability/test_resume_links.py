"""What is below a call that cannot be compared is found all the same, and never for another argument."""

from __future__ import annotations

import functools
import ipaddress
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed, resumed_badly

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Client:
    """Something without a written form."""

    name: str
    delay: float


class Bank:
    """Something without a written form that has a method."""

    def __init__(self, world):
        self.world = world
        self.connection = Client()

    async def pay(self, name):
        return await rt.call(self.world.step, name)

    def pay_in_thread(self, name):
        return rt.call_sync(self.world.step, name)


OPAQUE: dict[str, Any] = {
    "client": (lambda: (Client(), "a"), {}),
    "client by keyword": (lambda: ("a",), {"client": Client}),
    "client in a list": (lambda: ("a", [Client(), 1]), {}),
    "client in a dict": (lambda: ("a", {"client": Client()}), {}),
    "secret": (lambda: ("a",), {"api_key": lambda: "sk-123456789012345678901234"}),
    "masked": (lambda: ("a",), {"page_token": lambda: "page-2"}),
    "function": (lambda: ("a", lambda: None), {}),
    "long text": (lambda: ("a", "x" * 1_100_000), {}),
    "long list": (lambda: ("a", list(range(10_001))), {}),
}


@pytest.mark.parametrize("durability", ["async", "exit"])
@pytest.mark.parametrize("case", OPAQUE)
async def test_calls_below_an_argument_that_cannot_be_compared(world, case, durability):
    """The argument of the flow is another object in each process; what it calls is plain."""
    args, kwargs = OPAQUE[case]

    @rt.function_node
    async def main(*args, **kwargs):
        found = [await rt.call(world.step, name) for name in "abc"]
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    flow = flow_of(main, durability=durability, logging_setting="NONE")
    with pytest.raises(ValueError, match="gate"):
        await flow.ainvoke(*args(), **{name: make() for name, make in kwargs.items()})
    for _ in range(2):
        world.ran()
        with pytest.raises(ValueError, match="gate"):
            await flow.aresume("run", *args(), **{name: make() for name, make in kwargs.items()})
        assert world.ran() == ["gate"]
    world.broken.clear()
    assert await flow.aresume("run", *args(), **{name: make() for name, make in kwargs.items()}) == ["a!", "b!", "c!"]
    assert world.ran() == ["gate"]


@pytest.mark.parametrize("form", ["method", "in thread", "lambda", "partial"])
async def test_calls_below_a_step_that_has_no_key(world, form):
    def step():
        bank = Bank(world)
        return {
            "method": bank.pay,
            "in thread": bank.pay_in_thread,
            "lambda": rt.function_node(lambda name: bank.pay(name)),
            "partial": functools.partial(Bank.pay, bank),
        }[form]

    @rt.function_node
    async def main():
        found = [await rt.call(step(), name) for name in ("a", "b", "a")]
        await rt.call(world.gate)
        return found

    await failing_once(flow_of(main), world, "gate")
    result, session = await resumed(flow_of(main))
    assert result == ["a!", "b!", "a!"]
    assert world.ran() == ["gate"]
    assert [d.name for d in session.info.resumed if d.reused] == ["step"] * 3


async def unchanged(order, how, body):
    return await body()


async def added(order, how, discount, body):
    return await body()


async def removed(order, body):
    return await body()


async def default(order, how, body, discount=0):
    return await body()


CHANGED: dict[str, Any] = {
    "version": (unchanged, "checkout", "2", ("o1", "card")),
    "name": (unchanged, "buy", "1", ("o1", "card")),
    "version and name": (unchanged, "buy", "2", ("o1", "card")),
    "added": (added, "checkout", "1", ("o1", "card", 5)),
    "removed": (removed, "checkout", "1", ("o1",)),
    "default": (default, "checkout", "1", ("o1", "card")),
}
"""What becomes of ``checkout`` in version 1."""


@pytest.mark.parametrize("changed", CHANGED)
async def test_calls_below_a_caller_that_was_changed(world, changed):
    """What it calls is found; it runs again itself. The third attempt finds it as it is now."""

    def node(function, name, version):
        function.__qualname__ = function.__name__ = name
        return rt.function_node(function, version=version, ignore=("body",))

    async def body():
        found = await rt.call(world.steps, "a", "b")
        await rt.call(world.gate)
        return found

    versions: list[Any] = [(unchanged, "checkout", "1", ("o1", "card"))]

    @rt.function_node
    async def main():
        *described, args = versions[-1]
        return await rt.call(node(*described), *args, body=body)

    world.broken.add("gate")
    await failing(flow_of(main))
    function, name, version, args = CHANGED[changed]
    versions.append((function, name, version, args))
    world.ran()
    await resumed_badly(flow_of(main))
    assert world.ran() == ["gate"]
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == ["a!", "b!"]
    assert world.ran() == ["gate"]


DIFFERENT = {
    "argument": (lambda pay: pay, ("a", Client()), lambda pay: pay, ("b", Client())),
    "kind of client": (lambda pay: pay, ("a", Client()), lambda pay: pay, ("a", Bank(None))),
    "version and argument": (
        lambda pay: rt.function_node(pay, version="1"), ("a", 1),
        lambda pay: rt.function_node(pay, version="2"), ("a", 2),
    ),
    "bound argument": (
        lambda pay: functools.partial(pay, "a"), (Client(),),
        lambda pay: functools.partial(pay, "b"), (Client(),),
    ),
    "bound plain argument": (
        lambda pay: functools.partial(pay, "a"), (1,),
        lambda pay: functools.partial(pay, "b"), (1,),
    ),
    "given and masked": (lambda pay: pay, ("a", Client()), lambda pay: pay, ("a", 5)),
    "name": (lambda pay: pay, ("a", 1), lambda pay: rt.function_node(pay, name="other", key="other"), ("a", 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
async def test_calls_below_another_argument_are_not_used(world, case):
    """What differs in anything that can be compared is another call, and what it calls is done for it."""
    make, args, make_other, other_args = DIFFERENT[case]

    @rt.function_node
    async def pay(name, client):
        return await rt.call(world.step, "paid")

    calls = [(make, args), (make_other, other_args)]

    @rt.function_node
    async def main():
        made, arguments = calls[0]
        await rt.call(made(pay.func), *arguments)
        await rt.call(world.gate)

    await failing_once(flow_of(main), world, "gate")
    calls.pop(0)
    await resumed(flow_of(main))
    assert world.ran() == ["paid", "gate"]


async def test_call_of_another_function_takes_nothing(world):
    """Both functions are defined in a function, so their modules do not have them."""

    @rt.function_node
    async def charge(order):
        return await rt.call(world.step, order)

    @rt.function_node
    async def refund(order):
        return await rt.call(world.step, order)

    calls = [charge]

    @rt.function_node
    async def main():
        for node in calls:
            await rt.call(node, "o1")
        await rt.call(world.gate)

    await failing_once(flow_of(main), world, "gate")
    calls.insert(0, refund)
    await resumed(flow_of(main))
    assert world.ran() == ["o1", "gate"]


async def test_concurrent_calls_that_cannot_be_compared(world):
    """Which is which is not known, but each of their calls is made once."""

    @rt.function_node
    async def work(client, kind):
        await anyio.sleep(client.delay)
        found = await rt.call(world.step, client.name)
        return found, await rt.call(world.step, kind)

    def clients(delays):
        for name, seconds in zip("abcd", delays, strict=True):
            client = Client()
            client.name, client.delay = name, seconds
            yield client

    delays = [1, 2, 3, 4]

    @rt.function_node
    async def main():
        found = await rt.call_batch(work, list(clients(delays)), ["x", "y", "x", "y"])
        await rt.call(world.gate)
        return found

    await failing_once(flow_of(main), world, "gate")
    delays.reverse()
    result, _ = await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert result == [("a!", "x!"), ("b!", "y!"), ("c!", "x!"), ("d!", "y!")]


@pytest.mark.slow
async def test_many_equal_calls_that_cannot_be_compared(world, monkeypatch):
    """Finding what is below them takes linear time: steps are counted, not timed."""
    from railtracks._resume import _history

    looks: list[object] = []
    original: Any = _history.HistoryNode

    def get(self):
        looks.append(self)
        return original.is_taken.__get__(self)

    def put(self, value):
        original.is_taken.__set__(self, value)

    counting = type("Counting", (original,), {"__slots__": (), "is_taken": property(get, put)})
    count = 500

    @rt.function_node
    async def work(client, number):
        return await rt.call(world.step, number)

    numbers = [0] * count

    @rt.function_node
    async def main():
        for number in numbers:
            await rt.call(work, Client(), number)
        await rt.call(world.gate)

    await failing_once(flow_of(main, logging_setting="NONE"), world, "gate")
    monkeypatch.setattr(_history, "HistoryNode", counting)
    await resumed(flow_of(main, logging_setting="NONE"))
    assert world.ran() == ["gate"]
    assert len(looks) < 20 * count


async def test_many_calls_of_methods(world, monkeypatch):
    """A bound method is another object each time, but its arguments are compared once."""
    from railtracks._resume._canonical import CanonicalForms

    compared = []
    original = CanonicalForms.by_parameter

    def compare(self, inputs):
        compared.append(inputs)
        return original(self, inputs)

    monkeypatch.setattr(CanonicalForms, "by_parameter", compare)
    count = 200

    @rt.function_node
    async def main():
        for number in range(count):
            await rt.call(Bank(world).pay, number)
        await rt.call(world.gate)

    await failing_once(flow_of(main, logging_setting="NONE"), world, "gate")
    await resumed(flow_of(main, logging_setting="NONE"))
    assert world.ran() == ["gate"]
    assert len(compared) < 4 * count


async def test_calls_of_a_renamed_function_do_not_wait(world, logged):
    """The places of equal calls of the old one are not waited for."""

    async def old(order):
        return await rt.call(world.step, order), await rt.call(world.step, order)

    async def new(order):
        return await rt.call(world.step, order), await rt.call(world.step, order)

    old.__qualname__, new.__qualname__ = "old", "new"
    functions = [old]

    @rt.function_node
    async def main():
        for _ in range(3):
            await rt.call(functions[-1], "o1")
        await rt.call(world.gate)

    await failing_once(flow_of(main), world, "gate")
    functions.append(new)
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert anyio.current_time() == started
    assert not [each for each in logged("WARNING") if "was not made again" in each]


# ---- ignore=


async def test_ignored_argument_does_not_count(world):
    """A call with it is replayed as a whole."""

    @rt.function_node(ignore=("client",))
    async def charge(client, order, *, retries=0):
        world.note((order, retries))
        return f"receipt {order}"

    @rt.function_node
    async def main():
        found = [
            await rt.call(charge, Client(), "o1"),
            await rt.call(charge, order="o2", client=Client()),
            await rt.call(charge, Client(), "o2", retries=1),
        ]
        await rt.call(world.gate)
        return found

    await failing_once(flow_of(main), world, "gate")
    result, session = await resumed(flow_of(main))
    assert result == ["receipt o1", "receipt o2", "receipt o2"]
    assert world.ran() == ["gate"]
    assert set(reasons(session.info)) == {"main", "gate"}
    assert "Client" not in (await anyio.Path(".railtracks/run.json").read_text())


async def test_flow_whose_arguments_are_ignored_needs_them_again(world):
    @rt.function_node(ignore="client")
    async def main(client, order):
        assert isinstance(client, Client)
        found = await rt.call(world.step, order)
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    flow = flow_of(main)
    await failing(flow, Client(), "o1")
    world.broken.clear()
    world.ran()
    with pytest.raises(rt.exceptions.StateError) as caught:
        await flow.aresume("run")
    assert str(caught.value) == (
        "the call of main in the run 'run' needs client, which is not on record, as the node has ignore=('client',); "
        "it cannot be resumed, or recovered by rt.recover, without: use flow.resume('run', client=...), which takes "
        "the other arguments from the record"
    )
    assert world.ran() == []
    result, session = await resumed(flow, "run", Client(), "o1")
    assert (result, world.ran()) == ("o1!", ["gate"])
    assert reasons(session.info)["main"] == "it had failed"
    assert (await resumed(flow, "run", Client(), "o1"))[0] == "o1!"


@pytest.mark.parametrize("form", ["position", "keyword", "default", "further"])
async def test_flow_takes_what_it_does_not_ignore_from_the_record(world, form):
    got = []

    @rt.function_node(ignore=("client", "log"))
    async def main(order, client=None, /, *more, log=None, **rest):
        got.append((order, client, more, log, rest))
        await rt.call(world.gate)

    @rt.function_node(ignore=("client", "log"))
    async def by_name(order, client=None, log=None, **rest):
        got.append((order, client, (), log, rest))
        await rt.call(world.gate)

    client, log = Client(), Client()
    args, kwargs, given, node = {
        "position": (("o1", Client(), 5), {"log": Client(), "x": 1}, {"client": client, "log": log}, main),
        "keyword": ((), {"client": Client(), "order": "o1", "x": 1}, {"client": client}, by_name),
        "default": (("o1",), {}, {"client": client}, by_name),
        "further": (("o1",), {}, {"log": log}, main),
    }[form]
    flow = flow_of(node)
    world.broken.add("gate")
    await failing(flow, *args, **kwargs)
    world.broken.clear()
    await flow.aresume("run", **given)
    expected = {
        "position": ("o1", client, (5,), log, {"x": 1}),
        "keyword": ("o1", client, (), None, {"x": 1}),
        "default": ("o1", client, (), None, {}),
        "further": ("o1", None, (), log, {}),
    }
    assert got[-1] == expected[form]


async def test_recovering_a_flow_with_ignored_arguments_says_how(world, caplog):
    @rt.function_node(ignore="client")
    async def main(client, order):
        await rt.call(world.die)

    flow = flow_of(main)
    await flow.ainvoke(Client(), "o1")
    [run] = await rt.arecover(flows=[flow])
    assert isinstance(run.exception, rt.exceptions.StateError)
    assert "recovered by rt.recover, without: use flow.resume('dead', client=...)" in caplog.text
    await flow.aresume("dead", client=Client())


async def test_flow_with_ignored_arguments_that_goes_on(world):
    @rt.function_node(ignore="client")
    async def main(client, order):
        return await rt.call(world.step, order), await rt.call(world.gate)

    world.broken.add("gate")
    flow = flow_of(main, if_exists="resume")
    await failing(flow, Client(), "o1")
    world.broken.clear()
    with pytest.raises(rt.exceptions.StateError, match="o1"):
        await flow.ainvoke(Client(), "o2")
    world.ran()
    assert await flow.ainvoke(Client(), "o1") == ("o1!", None)
    assert world.ran() == ["gate"]
    assert await flow.ainvoke(Client(), "o1") == ("o1!", None)
    assert world.ran() == []


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        (("customer",), r"ignore has 'customer', which is not a parameter of charge; it has client, order"),
        ((5,), "ignore has 5"),
        ("order, client", "ignore has 'order, client'"),
    ],
    ids=str,
)
def test_ignore_names_parameters(ignore, message):
    async def charge(client, order): ...

    with pytest.raises(NodeCreationError, match=message):
        rt.function_node(charge, ignore=ignore)


async def test_ignored_argument_of_a_method_and_of_further_keywords(world):
    class Shop:
        @rt.function_node(ignore=("client", "trace"))
        async def charge(self, order, client=None, **more):
            world.note(order)
            return order

    @rt.function_node
    async def main():
        charge: Any = Shop.charge
        found = [await rt.call(charge, "shop", "o1", Client(), trace=Client(), x=1)]
        await rt.call(world.gate)
        return found

    await failing_once(flow_of(main), world, "gate")
    assert (await resumed(flow_of(main)))[0] == ["o1"]
    assert world.ran() == ["gate"]


async def test_journal_of_a_killed_run_links_too(world):
    @rt.function_node
    async def main(client):
        found = await rt.call(world.steps, "a", "b")
        await rt.call(world.die)
        return found

    await flow_of(main).ainvoke(Client())
    world.ran()
    result, _ = await resumed(flow_of(main), "dead", Client())
    assert (result, world.ran()) == (["a!", "b!"], ["die"])


@pytest.mark.parametrize("other", [False, True])
async def test_calls_below_an_argument_that_had_no_written_form_before(world, other):
    """Earlier releases recorded only the type and the ``repr`` of an address, as of this class here."""

    def refuse(self):
        raise NotImplementedError

    former = type(
        "IPv4Address", (), {"__module__": "ipaddress", "__str__": refuse, "__repr__": lambda self: "an address"}
    )
    given = [{"at": former()}, 1]

    async def main():
        return await rt.call(reach, *given)

    async def reach(address, port):
        return await rt.call(world.steps, "a", "x")

    reach = rt.function_node(reach)
    flow = flow_of(main)
    await failing_once(flow, world, "x")
    given[:] = [{"at": ipaddress.ip_address("10.0.0.1")}, 2 if other else 1]
    await resumed(flow)
    assert world.ran().count("a") == other
