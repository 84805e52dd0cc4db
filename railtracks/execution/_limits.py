"""The limits of calls: what a call must have before it runs, and what it waits for until then.

Each limit on how many calls run at once is a pool of slots (``_concurrency/_slots.py``), in which a call that waits for
calls that it has made does not count. ``max_concurrency`` is one pool for all calls of the session, a number that a
node has as its ``limit`` is one for the function in the session, and an ``rt.Limit`` is shared by name. A call takes
what it needs in this order, and a rate last. So whatever waits for a slot of a later pool waits for calls that have
what they need of the earlier ones, and no two calls wait for each other, unless the nodes of two limits call each
other both ways, or a call waits for an equal one that is cached. Such circles are noticed
(``_concurrency/_wait_graph.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from railtracks._concurrency._single_flight import inside
from railtracks._concurrency._slots import Place, SlotPool
from railtracks._concurrency._wait_graph import CircleError, Wait, resolve
from railtracks._context_variable import current
from railtracks._policies import Limit, Policies
from railtracks.execution._calls_above import calls_above
from railtracks.execution._gates import Gate, LimitedSession, LimitWait, stored_limit
from railtracks.execution._limit_texts import exceeded, not_allowed, warn_of_congestion, would_block
from railtracks.execution._shared_limits import shared_limit, shown_limit
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord

PATIENCE = 60.0
"""Seconds that a call may wait for a limit before the wait is reported."""


class SessionLimits:
    """The limits of the calls of one session. For use in the thread of its event loop.

    Args:
        session: Its coordinator.

    Attributes:
        waiting: The calls that wait, each with the limit and the task that it is in.
        calls: How many calls were counted for ``max_calls``.
        depth: In a worker, how many calls are above the one that was sent there; 0 elsewhere.
    """

    __slots__ = (
        "_everything",
        "_gates",
        "_is_bare",
        "_lent",
        "_max_calls",
        "_max_depth",
        "_outer",
        "_state",
        "calls",
        "depth",
        "waiting",
    )

    def __init__(self, session: LimitedSession) -> None:
        config = session.config
        self._state = session.state
        self._outer = session.call_log
        self._max_calls = config.max_calls
        self._max_depth = config.max_depth
        self.calls: int = 0
        self.depth: int = 0
        total = config.max_concurrency
        self._everything = None if total is None else Gate(f"max_concurrency={total}", SlotPool(), total)
        self._is_bare = total is None and self._max_calls is None and self._max_depth is None
        self._gates: dict[int, tuple[object, Gate]] = {}  # by the id of a limit or a function, which is kept here
        self._lent: dict[str, SlotPool] = {}  # in a worker: the slots that the call which was sent has at home, by name
        self.waiting: dict[CallRecord, tuple[Gate, object]] = {}

    def acquire_nowait(
        self, policies: Policies, node: FunctionNode[..., Any], record: CallRecord
    ) -> tuple[Place, ...] | None:
        """Take what a call needs before it runs, if it need not wait for it. Return that, or None.

        Args:
            policies: The policies of its node.
            node: Its node.
            record: Its record.

        Raises:
            LimitExceededError: the session may not make the call at all.
        """
        limit = policies.limit
        if limit is None or limit == math.inf:
            limit = None
        elif self._is_bare and not isinstance(limit, Limit):  # the most frequent case, for speed alone
            known = self._gates.get(id(node.target))
            pool = None if known is None else known[1].pool
            if pool is not None and not pool.holders:
                place = Place(pool, record, node.name)
                return (place,) if pool.acquire_nowait(place, limit) else None
        if self._max_calls is not None or self._max_depth is not None:
            self._check(record)
        places: tuple[Place, ...] = ()
        if self._everything is not None:
            found = self._take_slot(self._everything, node, record)
            if found is None:
                return None
            places = found
        if limit is None:
            return places
        gate = self._gate(limit, node)
        own: tuple[Place, ...] | None = None
        if gate.file is None:
            own = () if gate.pool is None else self._take_slot(gate, node, record)
            if own is not None and (gate.rate is None or gate.rate.take_nowait()):
                return (*places, *own) if places else own
        self.release((*places, *(own or ())))
        return None

    def _take_slot(self, gate: Gate, node: FunctionNode[..., Any], record: CallRecord) -> tuple[Place, ...] | None:
        pool = gate.pool
        assert pool is not None
        place = Place(pool, record, node.name)
        if pool.holders:
            place.above = self._place_above(pool, record)
        return (place,) if pool.acquire_nowait(place, gate.total) else None

    @staticmethod
    def release(places: tuple[Place, ...]) -> None:
        """Give back what a call has taken."""
        for place in places[::-1]:
            place.pool.release(place)

    def forget_shared(self) -> None:
        """Refer to no limit that several nodes share any more: the session is over."""
        self._gates = {key: known for key, known in self._gates.items() if known[1].limit is None}

    def _gate(self, limit: float | Limit, node: FunctionNode[..., Any]) -> Gate:
        """Return the limit of a node."""
        if type(limit) is Limit:
            known = self._gates.get(id(limit))
            return known[1] if known is not None else self._shared_gate(limit)
        function = node.target
        if type(function) is MethodType:  # it is bound anew each time
            function = function.__func__
        known = self._gates.get(id(function))
        if known is None:
            known = self._gates[id(function)] = function, Gate(f"limit={limit}", SlotPool(), limit)
        gate = known[1]
        return gate if gate.total == limit else gate._replace(label=f"limit={limit}", total=limit)

    def _shared_gate(self, limit: Limit) -> Gate:
        session: LimitedSession = current.get().coordinator
        shared = shared_limit(limit, session.clock)
        label, total = f"limit {limit.name}", math.inf if limit.concurrency is None else limit.concurrency
        if session.outbox is not None and limit.name in session.outbox.held_limits:
            gate = Gate(label, self._lent_slot(limit.name), 1, shared.rate, limit)
        else:
            gate = Gate(label, shared.pool, total, shared.rate, limit, stored_limit(limit, session))
        self._gates[id(limit)] = limit, gate
        return gate

    def _lent_slot(self, name: str) -> SlotPool:
        """Return the one slot of a limit that the call which was sent to this worker has: it lends it to those below.

        Calls here that wait for another slot could wait for ever for the one that their own caller has.
        """
        pool = self._lent.get(name)
        if pool is None:
            pool, sent = SlotPool(), self._state.records[0]
            pool.acquire_nowait(Place(pool, sent, sent.name), 1)
            self._lent[name] = pool
        return pool

    def held_by(self, record: CallRecord) -> list[str]:
        """Return the names of the limits on how many calls run at once, of which a call or one above it has a slot."""
        shared = [(gate.limit, gate.pool) for _, gate in self._gates.values()]
        return sorted({limit.name for limit, pool in shared if limit and pool and self._has_place(pool, record)})

    def _has_place(self, pool: SlotPool, record: CallRecord) -> bool:
        return record in pool.holders or self._place_above(pool, record) is not None

    def _place_above(self, pool: SlotPool, record: CallRecord) -> Place | None:
        """Return the place of the nearest call above one that has a place in a pool; also in a session around it."""
        for caller in calls_above(record, self._state, self._outer):
            place = pool.holders.get(caller)
            if place is not None:
                return place
        return None

    # ---- the limits over which calls fail

    def _check(self, record: CallRecord) -> None:
        """Count a call, and check that the session may make it."""
        self.calls += 1
        if self._max_calls is not None and self.calls > self._max_calls:
            raise exceeded("max_calls", self._max_calls, f"{record.name} would be call {self.calls} of its session")
        if self._max_depth is not None:
            depth = self.depth_of(record)
            if depth > self._max_depth:
                raise exceeded("max_depth", self._max_depth, f"{record.name} would be at depth {depth} of its session")

    def depth_of(self, record: CallRecord) -> int:
        """Return how deep a call is nested: 1 for a top-level call. 1 for all calls without ``max_depth``."""
        depth, caller = 1 + self.depth, None if self._max_depth is None else self._state.caller(record)
        while caller is not None:
            depth, caller = depth + 1, self._state.caller(caller)
        return depth

    # ---- waiting

    async def acquire(self, policies: Policies, node: FunctionNode[..., Any], record: CallRecord) -> tuple[Place, ...]:
        """Wait for what a call needs before it runs. Return that.

        The arguments are those of :meth:`acquire_nowait`.

        Raises:
            LimitExceededError: the call may not wait, or has waited as long as it may.

        Cancellation: the wait ends, and nothing is taken.
        """
        gates = [] if self._everything is None else [self._everything]
        if policies.limit is not None and policies.limit != math.inf:
            gates.append(self._gate(policies.limit, node))
        taken: list[Place] = []
        try:
            for gate in gates:
                await self._pass(gate, node, record, taken)
        except BaseException:
            self.release(tuple(taken))
            raise
        return tuple(taken)

    async def _pass(self, gate: Gate, node: FunctionNode[..., Any], record: CallRecord, taken: list[Place]) -> None:
        """Wait until a call has passed a limit, and note that it waits, and for how long it has."""
        if gate.file is None and self._pass_nowait(gate, node, record, taken):
            return
        with LimitWait(self.waiting, gate, record) as wait:
            if gate.file is None:
                wait.begin()
            await self._wait(gate, node, record, taken, wait.begin)
            wait.has_passed = True
        if not wait.has_passed:
            limit = gate.limit
            assert limit is not None
            raise not_allowed(record, limit, f"is reached, and it has waited {gate.patience:g} s, as its `wait` says")

    def _pass_nowait(self, gate: Gate, node: FunctionNode[..., Any], record: CallRecord, taken: list[Place]) -> bool:
        """Pass a limit that is not shared with other processes, if that is possible now. Return whether it is."""
        place = None
        if gate.pool is not None:
            place = self._place(gate, gate.pool, node, record)
            if not gate.pool.acquire_nowait(place, gate.total):
                return False
        if gate.rate is not None and not gate.rate.take_nowait():
            if place is not None:
                place.pool.release(place)
            return False
        taken += [] if place is None else [place]
        return True

    async def _wait(
        self,
        gate: Gate,
        node: FunctionNode[..., Any],
        record: CallRecord,
        taken: list[Place],
        on_wait: Callable[[], object],
    ) -> None:
        """Pass a limit. ``on_wait`` is called before each wait for others; until it ends the call keeps its turn."""
        session: LimitedSession = current.get().coordinator
        pool, file = gate.pool, gate.file
        if pool is not None:
            place = self._place(gate, pool, node, record)
            warn = partial(self._warn, gate, record, session)
            if not pool.acquire_nowait(place, gate.total):
                on_wait()
                await self._wait_for_slot(gate, pool, place, record, warn)
            taken.append(place)
            if file is not None and place.permit is None:
                assert gate.limit is not None
                turns = shared_limit(gate.limit, session.clock).turns(file.group)
                place.permit = await file.take_slot(turns, on_wait, PATIENCE, partial(warn, place))
        if gate.rate is not None:
            await gate.rate.take(None if file is None else file.take_rate, on_wait)

    async def _wait_for_slot(
        self, gate: Gate, pool: SlotPool, place: Place, record: CallRecord, warn: Callable[[], None]
    ) -> None:
        """Wait for a slot, unless that would never end."""
        owners = (record, *calls_above(record, self._state, self._outer), *inside.get())
        let_go = partial(pool.refuse, place) if gate.patience == math.inf else None
        place.noted = Wait(pool, owners, f"{record.name} for the {gate.label}", let_go)
        try:
            resolve(pool)
            await pool.acquire(place, gate.total, PATIENCE, warn)
        except CircleError as exc:
            name = gate.label.partition("=")[0] if gate.limit is None else gate.limit.name
            raise would_block(record, gate.label, name, str(exc)) from None
        finally:
            place.noted.end()

    def _place(self, gate: Gate, pool: SlotPool, node: FunctionNode[..., Any], record: CallRecord) -> Place:
        place = Place(pool, record, node.name)
        place.above = self._place_above(pool, record)
        if gate.file is not None:
            place.group = gate.file.group
        return place

    @staticmethod
    def _warn(gate: Gate, record: CallRecord, session: LimitedSession, own: Place | None = None) -> None:
        """Warn that a call has waited very long for a slot, which another process has if it has its place here."""
        assert gate.pool is not None
        holders = [*gate.pool.holders.values()]
        running = [place.name for place in holders if not place.below and place is not own]
        running += ["calls of other processes"] * (own is not None)
        shown = gate.label if gate.limit is None else shown_limit(gate.limit)
        warn_of_congestion(session, record, PATIENCE, shown, running)

    def blocked(self) -> dict[CallRecord, object]:
        """Return the calls that can go on only when another call of this session has ended, each with its task."""
        return {
            record: task
            for record, (gate, task) in self.waiting.items()
            if gate.pool is not None and any(place.holder is record for place in gate.pool.queue)
            if all(self._state.has(holder) for holder in [*gate.pool.holders])
        }
