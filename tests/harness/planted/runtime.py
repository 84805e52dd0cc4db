"""The runtime with one realistic mistake at a time. The promise alone must show that it is broken."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import anyio
import attrs
from hypothesis import strategies as st

import railtracks as rt
from railtracks._concurrency._work_item import WorkItem
from railtracks._context_variable import current
from railtracks._session._nursery import SessionNursery
from railtracks._session._session import Session
from railtracks.execution import Coordinator, _coordinator, _entering, _node_errors
from railtracks.execution._lifecycle import Lifecycle
from railtracks.pubsub._subscription import Subscription
from railtracks.state import Status
from railtracks.state._transitions import RTState
from railtracks.testing import trees as t
from railtracks.testing.faults import Cancel, Fault
from railtracks.testing.strategies import flows
from tests.harness.planted._planted import Case, Planted

PLANTED: list[Planted] = []


# ---- the flows that run on it


@rt.function_node
async def flow(tree):
    """Run a tree that was drawn, with this call as its root."""
    return await (rt.call(tree) if isinstance(tree, t.Thread) else tree())


@attrs.frozen(repr=False)
class Grumble(t.Tree):
    """A leaf that raises when it is cancelled."""

    async def __call__(self) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            raise t.TreeError("in the cleanup")


short = st.builds(t.Sleep, st.integers(0, 3))
leaves = st.one_of(st.builds(t.Return, st.integers(0, 9)), st.builds(t.Raise), short)
small = flows(max_leaves=2)
sleeps = st.lists(st.builds(t.Sleep, st.integers(1, 2)), max_size=4).map(lambda parts: t.Sequence(*parts))
sequences = st.lists(leaves, max_size=4).map(lambda parts: t.Sequence(*parts))


def heard(item):
    """Do nothing, as a ``broadcast_callback``."""


# ---- how a mistake is made


Replacement = Callable[..., Any]


def planted(
    name: str, defect: str, trees: st.SearchStrategy[t.Tree], into: list[Planted] = PLANTED, **options: Any
) -> Callable[[Callable[[], AbstractContextManager[Any]]], None]:
    """Add a mistake to the list ``into``. The decorated function returns a context manager that makes it."""

    def register(patched: Callable[[], AbstractContextManager[Any]]) -> None:
        def make(broken: bool) -> Case:
            return Case(flow, variant=patched()) if broken else Case(flow)

        plans = st.builds(
            lambda tree, given: {"args": (tree,), **given},
            trees,
            st.fixed_dictionaries(
                {key: v if isinstance(v, st.SearchStrategy) else st.just(v) for key, v in options.items()}
            ),
        )
        into.append(Planted(name, defect, make, plans))

    return register


@contextmanager
def replaced(owner: Any, **replacements: Replacement):
    """Replace methods of ``owner`` inside the block; each replacement gets the original as its first argument."""
    with ExitStack() as stack:
        for name, replacement in replacements.items():
            stack.enter_context(mock.patch.object(owner, name, _with_original(replacement, getattr(owner, name))))
        yield


@contextmanager
def _both(first: AbstractContextManager[Any], second: AbstractContextManager[Any]):
    with first, second:
        yield


def _with_original(replacement: Replacement, original: Any) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return method


# ---- cancellation


@planted(
    "lost cancellation", "end_on_error does not cancel the other calls",
    st.lists(st.one_of(leaves, st.just(t.Hang())), max_size=3).map(lambda parts: t.Batch(*parts, t.Raise())),
    end_on_error=True, timeout=math.inf,
)  # fmt: skip
def lost_cancellation():
    def fail(original, self, exc):
        with mock.patch.object(self.scopes, "_entered", {}):
            original(self, exc)

    return replaced(Coordinator, fail=fail)


@planted(
    "thread's call goes on", "what an abandoned thread has called is not cancelled with it",
    st.builds(t.Timeout, st.builds(t.Thread, st.integers(0, 4))),
)  # fmt: skip
def call_of_thread_goes_on():
    async def abandon(original, self, record):
        with mock.patch.object(self.scopes, "_entered", {}):
            await original(self, record)

    async def end_request(original, self):
        """Neither cancel what the thread waits for, nor wait for its end."""

    return _both(replaced(Coordinator, abandon=abandon), replaced(WorkItem, end_request=end_request))


@planted(
    "swallowed cancellation", "a cancellation from outside ends in a top-level call, which returns None",
    sequences, faults=st.builds(lambda call: [Fault(None, Cancel(), call=call)], st.integers(1, 4)),
)  # fmt: skip
def swallowed_cancellation():
    async def enter(original, *args):
        try:
            return await original(*args)
        except anyio.get_cancelled_exc_class():
            return None

    return replaced(_entering, _run_in_scope=enter)


@planted("pump left", "on asyncio the publisher's pumps are not stopped at the end", small, broadcast_callback=heard)
def pump_left():
    def stop(original, self):
        if rt.execution.running_library() == "trio":  # which does not end well without its tasks: the pump is shielded
            original(self)

    return replaced(Subscription, stop_pump=stop, cancel_pump=stop)


# ---- timeouts


@planted(
    "restarted deadline", "the timeout starts again with each call", sleeps, timeout=st.sampled_from([2.5, 3.5])
)  # fmt: skip
def restarted_deadline():
    def run(original, self, node, args, kwargs, caller, run, *more, **options):
        run.deadline = anyio.current_time() + run.timeout
        for scope in run.scopes:
            scope.cancel_scope.deadline = run.deadline
        return original(self, node, args, kwargs, caller, run, *more, **options)

    return replaced(Coordinator, run=run)


@planted("lost timeout", "a timeout cancels, and the caller gets None", sequences, timeout=1.5)
def lost_timeout():
    async def outcome(original, node, scope, root, coordinator, result, error, is_top):
        if scope.timed_out:
            return result
        return await original(node, scope, root, coordinator, result, error, is_top)

    return replaced(_entering, _outcome=outcome)


@planted(
    "invented timeout", "any TimeoutError that a node raises is taken for the session's",
    st.builds(t.Timeout, small, st.sampled_from([1.5, 3.5])),
)  # fmt: skip
def invented_timeout():
    async def outcome(original, node, scope, root, coordinator, result, error, is_top):
        if isinstance(error, TimeoutError):
            raise rt.exceptions.GlobalTimeOutError(root.timeout, "too long") from error
        return await original(node, scope, root, coordinator, result, error, is_top)

    return replaced(_entering, _outcome=outcome)


# ---- results and exceptions


@planted("lost result", "the result of a top-level call is not returned", small)
def lost_result():
    async def enter(original, *args):
        await original(*args)

    return replaced(_entering, _run_in_scope=enter)


@planted("group", "the caller gets the exception in a group, as it leaves a nursery", sequences)
def wrapped_in_a_group():
    async def outcome(original, node, scope, root, coordinator, result, error, is_top):
        if error is not None:
            async with anyio.create_task_group():
                raise error
        return await original(node, scope, root, coordinator, result, error, is_top)

    return replaced(_entering, _outcome=outcome)


@planted("copied exception", "the caller gets a copy of the exception", sequences)
def copied_exception():
    async def outcome(original, node, scope, root, coordinator, result, error, is_top):
        return await original(node, scope, root, coordinator, result, copy.copy(error), is_top)

    return replaced(_entering, _outcome=outcome)


@planted(
    "last error", "with end_on_error the last error is raised, not the first",
    st.lists(st.one_of(leaves, st.builds(Grumble)), max_size=4).map(lambda parts: t.Parallel(*parts)),
    end_on_error=True,
)  # fmt: skip
def last_error():
    async def run(original, self, *args, **kwargs):
        try:
            return await original(self, *args, **kwargs)
        except Exception as exc:
            if self.failure is not None:
                self.lifecycle.failure = exc
            raise

    return replaced(Coordinator, run=run)


@planted("swallowing exit", "leaving the session swallows the exception of its body", sequences)
def swallowing_exit():
    async def leave(original, self, *exc):
        await original(self, *exc)
        return True

    return replaced(Session, __aexit__=leave)


@planted(
    "harmless FatalError",
    "FatalError is an error like any other",
    st.builds(t.Try, st.one_of(leaves, st.builds(t.Fatal))),
)
def harmless_fatal():
    return mock.patch.object(_node_errors, "is_fatal", lambda exc: False)


# ---- records


@planted("wrong parent", "the parent on record is the previous call, not the caller", sequences)
def wrong_parent():
    def created(original, self, name, node_type, args, kwargs, parent, now):
        return original(self, name, node_type, args, kwargs, parent and self.records[-1], now)

    return replaced(RTState, created=created)


@planted(
    "skipped step",
    "a cancellation takes two steps",
    st.builds(t.Try, st.one_of(leaves, st.just(t.Hang()))),
    timeout=2.5,
)
def skipped_step():
    def cancelled(original, self, *args):
        original(self, *args)
        self.step += 1

    return replaced(RTState, cancelled=cancelled)


@planted("completed for failed", "the state says Completed, with the exception for a result", sequences)
def completed_for_failed():
    return replaced(RTState, failed=lambda original, self, record, exc, now: self.succeeded(record, exc, now))


@planted(
    "failed for cancelled", "the state says Failed, and a reason, for a call that was cancelled", small, timeout=2.5
)
def failed_for_cancelled():
    def cancelled(original, self, record, reason, now):
        original(self, record, reason, now)
        record.status = Status.FAILED

    return replaced(RTState, cancelled=cancelled)


async def save_nothing(shield):
    """Do nothing in place of saving."""


@planted("early save", "the state is saved before the session waits for its end", small)
def early_save():
    async def close(original, self, exc, finalize):
        session = finalize.__self__
        session._save()

        async def only_mark_the_end(shield):
            session._mark_end()

        await original(self, exc, only_mark_the_end)

    return replaced(SessionNursery, close=close)


@planted("save lost with an error", "a session whose body raised is not saved", sequences)
def save_lost():
    async def close(original, self, exc, finalize):
        await original(self, exc, finalize if exc is None else save_nothing)

    return replaced(SessionNursery, close=close)


# ---- the sessions around


@planted(
    "outer session forgotten",
    "after a nested session there is none, instead of the outer one",
    st.builds(t.Nested, small),
)
def outer_forgotten():
    def end(original, self):
        original(self)
        current.set(None)

    return replaced(Session, _end=end)


@planted("frame left behind", "a call that fails stays the current one", sequences)
def frame_left():
    class Leaky:
        def __getattr__(self, name):
            return getattr(real, name)

        def set(self, value):
            if not isinstance(sys.exc_info()[1], Exception):
                real.set(value)

    real = current
    return mock.patch.object(_coordinator, "current", Leaky())


@planted(
    "one failure for all",
    "the error that ended one session has ended all",
    st.builds(t.Try, st.builds(lambda part, end: t.Nested(part, end_on_error=end), leaves, st.booleans())),
)
def one_failure_for_all():
    failures: list[Any] = [None]

    def put(self, exc):
        failures[0] = exc

    return mock.patch.object(Lifecycle, "failure", property(lambda self: failures[0], put))
