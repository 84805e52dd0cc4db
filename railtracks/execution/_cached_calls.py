"""The cached calls of a session: those whose node has ``cache``.

A result is kept as its text, as that of a record is, and each call gets one that is made of it: a caller that changes
what it got changes nothing for the others, and both scopes give the same.

Of equal calls that are made at the same time one leads, and the others wait for it (``_single_flight.py``): for the
scope "session" in the session, for "store" in the process. Who waits holds no limit, and its timeout has not begun.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from railtracks._concurrency._single_flight import ALONE, NOTHING, Flight, SingleFlight, inside
from railtracks._context_variable import current, on_replayed
from railtracks._logging import SESSION
from railtracks._policies import Cache
from railtracks._resume._matching import restore_change
from railtracks.execution._cache_keys import CacheKeys, counted_closure
from railtracks.execution._cached_results import LOST, Result, StoredResults, Unfit, restored
from railtracks.execution._calls_above import calls_above
from railtracks.execution._noted_waits import NotedWait
from railtracks.execution._recorded_results import RecordedResults, RunHistory
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status, Store
from railtracks.state._records import DELETED, Change, Form, PolicyFacts, copy_record
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._guarding import guarded_repr
from railtracks.state._serialization._large_values import has_large
from railtracks.state._serialization._record_text import (
    form_in,
    is_lossy,
    member_text,
    result_text,
)
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._stores._cached_results import find_cache_store
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks._logging import SessionLog
    from railtracks._options import ExecutorConfig
    from railtracks.execution._call_log import CallLog
    from railtracks.execution._mailbox import SessionMailbox
    from railtracks.execution._outbox import Outbox

_PRUNE_FROM = 1_000
"""The least number of results in a session at which those that have expired are removed."""
_MAX_KEY = 100
"""The number of characters of a key of the context that a warning shows."""
_MAX_NAMES = 5
"""The number of variables that a warning names."""
_EQUAL = "an equal call"
"""What stands on record in place of the limit that a call waits for."""
_shared = SingleFlight()
"""The flights of all sessions for results in stores, by the store and the key of the call."""


class CachingSession(Protocol):
    """What has cached calls: the ``Coordinator``, which explains these members."""

    call_log: CallLog
    config: ExecutorConfig
    context: dict[str, Any]
    log: SessionLog
    mailbox: SessionMailbox | None
    outbox: Outbox | None
    redactor: Redactor
    session_id: str
    state: RTState
    store: Store | None

    @property
    def recorder(self) -> RunHistory | None: ...
    def now(self) -> float: ...
    def record_context_change(self, record: CallRecord | None, key: str, value: Any = ..., /) -> None: ...


class CachedCalls:
    """Gives calls the results of equal ones.

    Args:
        session: The session.

    Attributes:
        waiting: The calls that wait for an equal one in the session.
    """

    def __init__(self, session: CachingSession) -> None:
        self._session = session
        self._results: dict[str, Result] = {}
        self._expires: dict[str, float] = {}  # by the key of a result that expires, when
        self._prune_at = _PRUNE_FROM  # the number of results
        self._flights = SingleFlight()
        self._reading: dict[Flight, FunctionNode[..., Any]] = {}  # of those led here, without a key that is given
        self._changes: dict[Flight, dict[str, Change] | None] = {}  # of those led here; None: not all are on record
        self._keys = CacheKeys(session.redactor, session.config.max_value_bytes)
        self._recorded = RecordedResults(session.recorder)
        self._recorded_results: dict[str, Result] = {}
        self._warned: set[str] = set()
        store = None if session.store is None else find_cache_store(session.store)
        self._store = None if store is None else StoredResults(store, self._warn_once)
        self.waiting: dict[int, CallRecord] = {}

    async def run(
        self,
        cache: Cache,
        node: FunctionNode[..., Any],
        record: CallRecord,
        compute: Callable[[], Awaitable[Any]],
    ) -> Any:
        """Return the result of an equal call, or that of this one.

        Args:
            cache: The policy.
            node: The node.
            record: The record of the call.
            compute: Runs the call.

        Raises:
            BaseException: whatever the call raises, or the function ``key`` of the policy.

        Cancellation: passed on. If an equal call waits for this one, it runs.
        """
        scope = self._scope_of(cache, node)
        try:
            key = self._keys.of(cache, node, record, scope)
        except Unfit as exc:
            self._warn(node, f"a call of it {exc}")
            return await compute()
        if scope == "store":
            self._warn_of_closure(cache, node)
        known = None
        if scope == "session":
            known = self._results.get(key) or self._recorded_result(key, cache, node, record)
        if known is not None and self._is_fresh(known, cache):
            value = self._value_of(known, node)
            if value is not NOTHING:
                return self._use(record, known, value, scope)
        return await self._join(cache, scope, key, node, record, compute)

    async def _join(
        self,
        cache: Cache,
        scope: str,
        key: str,
        node: FunctionNode[..., Any],
        record: CallRecord,
        compute: Callable[[], Awaitable[Any]],
    ) -> Any:
        stored = self._store if scope == "store" else None
        flights, name = (self._flights, key) if stored is None else (_shared, f"{stored.location}\n{key}")
        session = self._session
        flight, waiter = flights.join(
            name,
            lambda: (record, *calls_above(record, session.state, session.call_log)),
            f"{record.name} for {_EQUAL}",
        )
        if flight is None:
            return await compute()
        if waiter is not None:
            known = await self._wait(record, partial(flights.wait, name, flight, waiter), stored is None)
            if known is ALONE:
                return await compute()
            if known is not NOTHING:  # who led it has a result
                value = NOTHING if known is None else self._value_of(known, node)
                return await compute() if value is NOTHING else self._use(record, known, value, scope)
        outcome: Any = NOTHING
        try:
            if stored is not None and (known := await stored.read(key)) is not None:
                value = self._value_of(known, node) if self._is_fresh(known, cache) else NOTHING
                if value is not NOTHING:
                    outcome = known
                    return self._use(record, known, value, scope)
            if cache.key is None:
                self._reading[flight] = node
            result, made = await self._lead(flight, node, compute)
            if made is not None:
                if stored is None:
                    self._keep(key, made, cache)
                else:
                    await stored.write(key, made, cache.ttl)
            outcome = made
            return result
        finally:
            flights.leave(name, flight, outcome)

    async def _wait(self, record: CallRecord, wait: Callable[[], Awaitable[Any]], in_session: bool) -> Any:
        """Wait for an equal call, and note that a call waits, and for how long it has."""
        with NotedWait(self._session, record, _EQUAL) as noted:
            known = await (self._wait_in_session(record, wait, noted.announce) if in_session else wait())
            noted.has_passed = True
        return known

    async def _wait_in_session(
        self, record: CallRecord, wait: Callable[[], Awaitable[Any]], announce: Callable[[], None]
    ) -> Any:
        """Wait for a call of the session; `execution/_idle.py` knows this function by its name."""
        self.waiting[record.index] = record
        announce()
        try:
            return await wait()
        finally:
            del self.waiting[record.index]

    async def _lead(
        self, flight: Flight, node: FunctionNode[..., Any], compute: Callable[[], Awaitable[Any]]
    ) -> tuple[Any, Result | None]:
        """Run a call that others may wait for. Return its result, and what is kept of it; None if nothing can be."""
        enclosing = inside.get()
        self._changes[flight] = {}
        inside.set((*enclosing, flight))
        try:
            result = await compute()
        finally:
            inside.set(enclosing)
            changes = self._changes.pop(flight)
            self._reading.pop(flight, None)
        if type(result) is CoroutineType:  # which fails the call
            return result, None
        output = result_text(result, self._session.redactor, self._session.config.max_value_bytes)
        try:
            if changes is None:
                raise Unfit("has changed the context to a value that is not all on record")
            if is_lossy(form := form_in(output)):
                raise Unfit(f"has returned what {LOST.get(form, 'is not all on record')}")
            made = Result(output, tuple(changes.values()), self._session.now())
            restored(made, node)
        except Unfit as exc:
            self._warn(node, f"a call of it {exc}")
            return result, None
        return result, made

    # ---- using a result

    def _is_fresh(self, known: Result, cache: Cache) -> bool:
        return cache.ttl is None or self._session.now() - known.stored < cache.ttl

    def _value_of(self, known: Result, node: FunctionNode[..., Any]) -> Any:
        """Return the value of a result; ``NOTHING``, with a warning, if it cannot be made."""
        try:
            return restored(known, node)
        except Unfit as exc:
            self._warn(node, f"a call of it {exc}")
            return NOTHING

    def _use(self, record: CallRecord, known: Result, value: Any, scope: str) -> Any:
        """Give a call a result: apply the changes of the context that belong to it, and note where it came from."""
        for change in known.changes:
            if change.value is None:
                if change.key in self._session.context:
                    del self._session.context[change.key]
                    self._session.record_context_change(record, change.key)
            else:
                put = self._session.context[change.key] = restore_change(change)
                self._session.record_context_change(record, change.key, put)
        _note(record, cached=scope)
        self._session.call_log.cached += 1
        if (notify := on_replayed.get()) is not None:  # the call is streamed
            notify(self._session.session_id, [copy_record(record, result=value)])
        return value

    def on_context_change(self, key: object, value: Any) -> None:
        """Note a change of the context by a call that others may wait for, or by one below it. Thread-safe."""
        flights = [flight for flight in inside.get() if flight in self._changes]
        if not flights:
            return
        if type(key) is not str or self._session.redactor.redact(key) != key:
            self._give_up(flights)
            return
        text, form, types = None, Form.PLAIN, None
        if value is not DELETED:
            text, form, types = member_text(key, value, self._session.redactor, self._session.config.max_value_bytes)
        self._note_changes(flights, [Change(0, key, text, form, types)])

    def on_context_read(self, key: object) -> None:
        """Warn that a call whose result is to be kept, or one below it, reads what its key does not have. Thread-safe.

        What such a call has itself put into the context is made again with its result.
        """
        for flight in inside.get():
            node, changes = self._reading.get(flight), self._changes.get(flight)
            if node is None or changes is None or any(change.key == key for change in tuple(changes.values())):
                continue
            shown = self._session.redactor.redact(shorten(guarded_repr(key), _MAX_KEY))
            self._warn_once(
                f"read {node.name} {node.definition}",
                "%s has cache=, and reads %s from the context, which does not count for its cache: with equal "
                "arguments it has the same result, whatever is there; use rt.Cache(key=...), which says what counts",
                node.name, shown,
            )  # fmt: skip

    def on_replayed(self, changes: Sequence[Change]) -> None:
        """Note that a call was replayed, with the changes of the context that it and those below it had made."""
        flights = [flight for flight in inside.get() if flight in self._changes]
        if flights and changes:
            self._note_changes(flights, changes)

    def _note_changes(self, flights: Sequence[Flight], changes: Sequence[Change]) -> None:
        for change in changes:
            if is_lossy(change.form) or (change.value is not None and has_large(change.value)):
                self._give_up(flights)
                return
            for flight in flights:
                if (noted := self._changes.get(flight)) is not None:
                    noted.pop(change.key, None)  # the last one counts, at its place
                    noted[change.key] = change

    def _give_up(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            self._changes[flight] = None

    def remember(
        self, cache: Cache, node: FunctionNode[..., Any], record: CallRecord, changes: Sequence[Change]
    ) -> None:
        """Keep the result of a call that was replayed, as if it had run in this session."""
        if self._scope_of(cache, node) != "session":
            return
        try:
            key = self._keys.of(cache, node, record, "session")
        except Unfit:  # as it was in the run before, which has warned
            return
        if (made := _result_on_record(record, changes)) is not None:
            self._keep(key, made, cache)

    def _recorded_result(
        self, key: str, cache: Cache, node: FunctionNode[..., Any], record: CallRecord
    ) -> Result | None:
        """Return the result of an equal call in the run that is resumed; None for a call that had completed there.

        That runs again on purpose.
        """
        known = current.get().history_node
        closure = counted_closure(cache, node)
        if closure.values:  # those of the run before are not on record
            return None
        if cache.key is not None or (  # it needs the arguments themselves
            known is not None and known.record is not None and known.record.status is Status.COMPLETED
        ):
            return None
        for each, changes in self._recorded.take(node):
            of, made = self._keys.of_recorded(node, each), _result_on_record(each, changes)
            if of is not None and made is not None:
                self._recorded_results[of] = made
        if closure.objects:  # the run before had others in their place
            key = self._keys.of(cache, node, record, "store")
        return self._recorded_results.get(key)

    def _keep(self, key: str, made: Result, cache: Cache) -> None:
        """Keep a result in the session, and now and then remove those that have expired."""
        self._results[key] = made
        self._expires.pop(key, None)
        if cache.ttl is not None:
            self._expires[key] = made.stored + cache.ttl
        if len(self._results) >= self._prune_at:
            now = self._session.now()
            for each in [each for each, expires in self._expires.items() if expires <= now]:
                del self._expires[each], self._results[each]
            self._prune_at = max(_PRUNE_FROM, 2 * len(self._results))

    # ---- the store

    def _scope_of(self, cache: Cache, node: FunctionNode[..., Any]) -> str:
        """Return where results are kept: in the session, with a warning, if its store cannot keep them."""
        if cache.scope == "session" or self._store is not None:
            return cache.scope
        if self._session.outbox is not None:
            self._warn_once(
                "scope", 'rt.Cache(scope="store"): calls in a worker find no results in the store, and leave none '
                "there; call %s where the session is, with where= if it is to run in a worker", node.name,
            )  # fmt: skip
            return "session"
        store = self._session.store
        why = "saves nothing (save_state=False)" if store is None else f"has a store that keeps none, {store!r}"
        self._warn_once("scope", 'rt.Cache(scope="store"): results are kept in the session only, as it %s', why)
        return "session"

    def _warn_of_closure(self, cache: Cache, node: FunctionNode[..., Any]) -> None:
        """Warn that a node uses objects of the function around it, which no other session has."""
        names = [name for name, each in counted_closure(cache, node).objects if not isinstance(each, CodeType)]
        if names:
            self._warn_once(
                f"closure {node.name} {node.definition}",
                '%s has rt.Cache(scope="store"), and uses %s of the function around it, which does not count for its '
                "cache: with equal arguments it has the same result, whatever is there; use rt.Cache(key=...), which "
                "says what counts",
                node.name, ", ".join(names[:_MAX_NAMES]),
            )  # fmt: skip

    def _warn(self, node: FunctionNode[..., Any], why: str) -> None:
        self._warn_once(
            f"node {node.name} {node.definition}", "%s has cache=, but results of it are not cached: %s", node.name, why
        )

    def _warn_once(self, what: str, message: str, *args: object) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._session.log.log(logging.WARNING, message, *args, logger=SESSION)


def _result_on_record(record: CallRecord, changes: Sequence[Change]) -> Result | None:
    """Return what can be kept of the result of a call on record; None if nothing can be."""
    if record.policy is not None and record.policy.cached is not None:
        return None  # it is that of another call, since when it is kept
    if record.status is not Status.COMPLETED or record.output is None:
        return None
    if is_lossy(form_in(record.output)) or has_large(record.output) or any(is_lossy(c.form) for c in changes):
        return None
    assert record.ended is not None
    last = {change.key: change for change in changes}
    return Result(record.output, tuple(last.values()), record.ended)


def _note(record: CallRecord, **facts: Any) -> None:
    record.policy = (record.policy or PolicyFacts())._replace(**facts)
