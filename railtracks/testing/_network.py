"""Network: links between the members of a cluster that lose, delay, repeat and reorder messages, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from random import Random
from typing import Any, Literal, get_args

import anyio
import anyio.lowlevel
import attrs

from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import as_list
from railtracks.testing._numbered_faults import fault_at, note_fault, validate_faults
from railtracks.testing._trace import ReprAsCode
from railtracks.testing._virtual_time._timers import call_later

NetworkFault = Literal["lose", "delay", "duplicate", "reorder"]
"""What goes wrong with a message; see :class:`Network`."""
_FAULTS: tuple[str, ...] = get_args(NetworkFault)


def _groups(groups: Iterable[Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise ConfigError(f"Partition: groups is {groups!r}; write Partition([['a'], ['b', 'c']])")
    found = tuple((group,) if isinstance(group, str) else tuple(sorted(group)) for group in groups)
    names = [name for group in found for name in group]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"Partition: {', '.join(twice)} is in two groups; name each member once")
    return found


@attrs.frozen(repr=False)
class Partition(ReprAsCode):
    """A time in which members of different groups cannot reach each other.

    Args:
        groups: The groups, as lists of names. All others are in one more group.
        begins: When it begins, in virtual seconds since the network was first used in the run.
        ends: When it ends.
    """

    groups: tuple[tuple[str, ...], ...] = attrs.field(converter=_groups)
    begins: float = attrs.field(default=0.0)
    ends: float = attrs.field(default=float("inf"))

    def __attrs_post_init__(self) -> None:
        for value in (self.begins, self.ends):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"Partition: from {self.begins!r} s to {self.ends!r} s; use seconds, 0 or more")

    def __repr__(self) -> str:
        return super().__repr__().replace("=inf", "=float('inf')")

    def separates(self, one: str, other: str) -> bool:
        """Return whether two members are in different groups."""
        places = [
            next((place for place, group in enumerate(self.groups) if name in group), -1) for name in (one, other)
        ]
        return places[0] != places[1]


@attrs.define(eq=False)
class _Link:
    """The messages that are under way from one member to another."""

    in_order: deque[tuple[int, Any]] = attrs.field(factory=deque)
    """Those that do not overtake each other, with their numbers."""
    due: float = 0.0
    """When the last of these arrives."""
    held: tuple[int, Any] | None = None
    """One that arrives after the next."""


@attrs.define(eq=False)
class _Mailbox:
    """The messages that have arrived at a member, and an event for when there are some."""

    messages: deque[Any] = attrs.field(factory=deque)
    arrived: anyio.Event = attrs.field(factory=anyio.Event)


class Network:
    """A network for tests: members send each other messages, and not all of them arrive once, in order and in time.

    Messages are values of this process, and arrive in virtual time. Without faults each arrives once, in order of
    sending from one member to another. What goes wrong with a message:

    =========== =====================================================================
    "lose"      it does not arrive
    "delay"     it arrives up to ``delay`` seconds later, and others overtake it
    "duplicate" it arrives twice, the second time up to ``delay`` seconds later
    "reorder"   it arrives after the next message between the same two members;
                if none is sent, ``delay`` seconds later
    =========== =====================================================================

    A message is lost as well if a partition separates the two members when it is sent, or when it arrives. The network
    is as new in each event loop: what was sent in one run does not arrive in the next, and a run that is killed takes
    its messages with it::

        network = faults.Network({1: "lose"}, latency=0.1)

        async def member(name):
            me = network.member(name)
            await me.send("b", "hello")
            async for message in me:
                ...

    Args:
        plan: What goes wrong, by the number of the message, counted from 1 in the order of sending.
        chances: Of messages that are not in the plan: the share that goes wrong, by what goes wrong. Their sum is at
            most 1.
        partitions: When which members cannot reach each other.
        seed: Decides which share that is, and by how much messages are late.
        latency: Up to how many virtual seconds each message takes.
        delay: The greatest delay, in virtual seconds.

    Attributes:
        happened: What went wrong in this run, or in the last: the number of the message, and a ``NetworkFault`` or
            "partition".

    Raises:
        ConfigError: an argument is not allowed.
    """

    def __init__(
        self,
        plan: Mapping[int, NetworkFault] | None = None,
        *,
        chances: Mapping[NetworkFault, float] | None = None,
        partitions: Iterable[Partition] = (),
        seed: int = 0,
        latency: float = 0.0,
        delay: float = 10.0,
    ) -> None:
        self._plan: dict[int, NetworkFault] = dict(plan or {})
        self._chances: dict[NetworkFault, float] = dict(chances or {})
        self._planned = tuple(as_list("Network", "partitions", partitions, "write a list of faults.Partition"))
        self._seed, self._latency, self._delay = seed, latency, delay
        validate_faults("Network", _FAULTS, self._plan, self._chances, latency=latency, delay=delay)
        for each in self._planned:
            if not isinstance(each, Partition):
                raise ConfigError(
                    f"Network: {each!r} is not a Partition; write Partition([['a'], ['b', 'c']], begins=5)"
                )
        self._event_loop: Any = None
        self.reset()

    def reset(self) -> None:
        """Forget all messages, partitions and what happened, so that the next run begins as the first one did."""
        self.happened: list[tuple[int, str]] = []
        self._random = Random(f"{self._seed}/network")  # noqa: S311 (repeatable, not secret)
        self._count = 0
        self._began = 0.0
        self._run = object()  # of what is under way
        self._current: Partition | None = None
        self._links: dict[tuple[str, str], _Link] = {}
        self._mailboxes: dict[str, _Mailbox] = {}

    def member(self, name: str) -> Member:
        """Return a member, by its name. To be called in an event loop.

        Raises:
            ConfigError: ``name`` is not a text.
        """
        if not isinstance(name, str):
            raise ConfigError(f"Network: {name!r} is not the name of a member; use a string: network.member('a')")
        self._bind()
        return Member(self, name)

    def partition(self, *groups: Iterable[str]) -> None:
        """Separate groups of members from now on: ``network.partition(["a"], ["b", "c"])``; and end the one before.

        Args:
            *groups: The names of the members of each group. All others are in one more group.

        Raises:
            ConfigError: a member is in two groups.
        """
        self._bind()
        self._current = Partition(groups)

    def heal(self) -> None:
        """End what ``partition`` began. What was lost is lost."""
        self._current = None

    def __repr__(self) -> str:
        parts = [repr(self._plan)] if self._plan else []
        parts += [f"chances={self._chances!r}"] if self._chances else []
        parts += [f"partitions={[*self._planned]!r}"] if self._planned else []
        parts += [f"seed={self._seed}"] if self._seed else []
        parts += [f"latency={self._latency!r}"] if self._latency else []
        parts += [f"delay={self._delay!r}"] if self._delay != 10 else []
        return f"Network({', '.join(parts)})"

    # ---- in the event loop

    def _bind(self) -> None:
        """Begin anew if this is another event loop than before."""
        event_loop = anyio.lowlevel.current_token()
        if event_loop != self._event_loop:
            self.reset()
            self._event_loop = event_loop
            self._began = anyio.current_time()

    def _send(self, source: str, to: str, message: Any) -> None:
        self._count += 1
        number = self._count
        fault = fault_at(number, self._plan, self._chances, self._random)
        if self._is_separated(source, to):
            self._note(number, to, "partition")
            return
        if fault is not None:
            self._note(number, to, fault)
        if fault == "lose":
            return
        seconds = self._random.uniform(0, self._latency) if self._latency else 0.0
        link = self._links.setdefault((source, to), _Link())
        if fault == "reorder" and link.held is None:
            link.held = number, message
            self._later(seconds + self._delay, self._release, source, to, number)
        elif fault == "delay":
            self._later(seconds + self._random.uniform(0, self._delay), self._arrive, source, to, number, message)
        else:
            now = anyio.current_time()
            link.due = max(link.due, now + seconds)
            link.in_order.append((number, message))
            self._later(link.due - now, self._arrive_in_order, source, to)
        if fault == "duplicate":
            self._later(seconds + self._random.uniform(0, self._delay), self._arrive, source, to, number, message)

    def _note(self, number: int, to: str, fault: str) -> None:
        self.happened.append((number, fault))
        note_fault(f"message {number} to {to}: {fault}")

    def _later(self, seconds: float, func: Any, *args: Any) -> None:
        run, context = self._run, copy_context()  # that of the sender, whom the story names

        def call() -> None:
            if self._run is run:
                context.run(func, *args)

        call_later(seconds, call)

    def _arrive_in_order(self, source: str, to: str) -> None:
        link = self._links[source, to]
        self._arrive(source, to, *link.in_order.popleft())
        if link.held is not None:
            self._release(source, to, link.held[0])

    def _release(self, source: str, to: str, number: int) -> None:
        """Let a message arrive that was held, unless it has arrived."""
        link = self._links[source, to]
        if link.held is not None and link.held[0] == number:
            held, link.held = link.held, None
            self._arrive(source, to, *held)

    def _arrive(self, source: str, to: str, number: int, message: Any) -> None:
        if self._is_separated(source, to):
            self._note(number, to, "partition")
            return
        mailbox = self._mailbox(to)
        mailbox.messages.append(message)
        mailbox.arrived.set()

    def _mailbox(self, name: str) -> _Mailbox:
        return self._mailboxes.setdefault(name, _Mailbox())

    def _is_separated(self, one: str, other: str) -> bool:
        now = anyio.current_time() - self._began
        planned = [each for each in self._planned if each.begins <= now < each.ends]
        current = [] if self._current is None else [self._current]
        return any(each.separates(one, other) for each in (*planned, *current))


class Member:
    """A member of a network, as its own code sees it; made by ``Network.member``.

    Attributes:
        name: Its name.
    """

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self.name: str = name

    async def send(self, to: str, message: Any) -> None:
        """Send a message. Does not wait until it arrives, and does not say whether it does.

        Args:
            to: The name of a member, which may be this one. What is sent to one that does not exist waits for it.
            message: Any value. It is not copied.

        If it is cancelled, the message is not sent.
        """
        await anyio.lowlevel.checkpoint()
        self._network._bind()
        self._network._send(self.name, to, message)

    async def receive(self) -> Any:
        """Wait for the next message and return it. If it is cancelled, no message is lost."""
        await anyio.lowlevel.checkpoint()
        self._network._bind()
        mailbox = self._network._mailbox(self.name)
        while not mailbox.messages:
            mailbox.arrived = anyio.Event() if mailbox.arrived.is_set() else mailbox.arrived
            await mailbox.arrived.wait()
        return mailbox.messages.popleft()

    def __aiter__(self) -> Member:
        """Return itself: ``async for message in member`` receives messages, and does not end by itself."""
        return self

    async def __anext__(self) -> Any:
        """Receive the next message."""
        return await self.receive()

    def __repr__(self) -> str:
        return f"<member {self.name}>"
