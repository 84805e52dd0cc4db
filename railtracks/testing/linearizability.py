"""Linearizability: whether what concurrent calls returned can be explained by an order in which they took effect.

A history is linearizable (Herlihy and Wing, 1990) if each operation can be given one moment between its begin and its
end, so that a sequential model, which does them in the order of these moments, returns what they returned. It is found
by the search of Wing and Gong (1993), which tries the operations that may be next, one after another, and remembers,
after Lowe (2017), the pairs of operations that were done and of the state after them, as Porcupine does. The effect of
an operation that raised, was cancelled or never ended is not known: it may have happened at any time after its begin,
or not at all.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

import attrs

from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import check_function, unknown_name
from railtracks.testing._simulation._observed import CallKey, ObservedOperation
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._questions import InvariantError
from railtracks.testing._simulation._witness import Witness
from railtracks.testing._trace import format_arguments, stable_repr
from railtracks.testing.faults import as_nodes

__all__ = ["SequentialModel", "linearizable", "operation"]

MAX_STATES = 200_000
"""How many pairs of operations done and the state after them are tried for one history at most."""
State = TypeVar("State", bound=Hashable)


class SequentialModel(Protocol[State]):
    """What operations do if they come one after another."""

    def init(self) -> State:
        """Return the state before the first operation; it must be hashable."""

    def apply(self, state: State, operation: str, args: tuple[Any, ...]) -> tuple[State, Any]:
        """Return the state after an operation, and what the operation returns; must not change ``state``.

        Args:
            state: The state before it.
            operation: The name of the node, or of the operation.
            args: Its positional arguments.
        """


@attrs.frozen
class Operation:
    """One operation of a history."""

    name: str
    args: tuple[Any, ...]
    result: Any
    """What it returned; meaningless if its effect is not known."""
    begin: float
    """Its begin; all begins and ends of a history are different."""
    end: float
    """Its end; infinite if its effect is not known."""
    call: CallKey | None = None
    """The call that it is, or is part of."""

    @property
    def is_known(self) -> bool:
        """Whether it returned, so that it must have happened."""
        return not math.isinf(self.end)


@contextmanager
def operation(name: str, /, *args: Any) -> Iterator[ObservedOperation]:
    """Mark a block as an operation, for ``linearizable``. Outside of a simulated run, do nothing.

    Set the ``result`` of what it yields to what the operation returns; by default it is None. If the block raises or is
    cancelled, it is not known whether the operation has had its effect.

    Args:
        name: The name of the operation.
        *args: Its arguments.

    Raises:
        ConfigError: ``name`` is not a string.
    """
    if not isinstance(name, str):
        raise ConfigError(f"operation: {stable_repr(name)} is not a name; write operation('read', ...)")
    observed = ObservedOperation(name, args)
    observer = runtime_hooks.get().observer
    if not isinstance(observer, Witness):
        yield observed
        return
    observer.begin_operation(observed)
    yield observed
    observer.end_operation(observed)


def linearizable(
    model: SequentialModel[Any] | type[SequentialModel[Any]],
    *,
    nodes: Iterable[Any],
    key: Callable[[str, tuple[Any, ...]], Hashable] | None = None,
) -> Callable[[Outcome], None]:
    """Return an invariant that holds if the calls of some nodes are linearizable.

    The calls take effect in one order, each at some moment while it ran, and return what ``model`` returns in that
    order. A call that raised, was cancelled or never ended may have had its effect, at any time after its begin, or
    not. The time that this takes grows fast with the number of calls that overlap.

    Args:
        model: What the calls do if they come one after another, or a class that can be made without arguments.
        nodes: The nodes, or their names, or the names of blocks that are marked by ``operation``.
        key: Returns what a call is about, for its name and arguments. Calls about different things are independent, so
            the model is given those of one key only, and the check is quicker.

    Raises:
        ConfigError: ``nodes`` is empty or not a list of nodes and names, or ``model`` lacks a method. The invariant
            raises it if ``apply`` does not return a pair, a state is not hashable, a call has keyword arguments, or so
            many calls overlap that there is no answer after 200,000 steps; and, where nothing went wrong, if a name in
            ``nodes`` seems to be misspelt.
    """
    given = as_nodes("linearizable", nodes)
    names = _names(given)
    texts = [each for each in given if isinstance(each, str)]
    if key is not None:
        check_function("linearizable", "key", key, "write a function of a name and arguments")
    sequential: SequentialModel[Any] = model() if isinstance(model, type) else model
    for method in ("init", "apply"):
        if not callable(getattr(sequential, method, None)):
            raise ConfigError(
                f"linearizable: the model {sequential!r} has no method {method}; write init(self), which returns a "
                f"state, and apply(self, state, operation, args), which returns a state and a result"
            )

    def calls_are_linearizable(outcome: Outcome) -> None:
        _check_called(outcome, names, texts)
        parts: dict[Hashable, list[Operation]] = {}
        for each in history(outcome, names):
            parts.setdefault(None if key is None else key(each.name, each.args), []).append(each)
        for operations in parts.values():
            unexplained = find_unexplained(sequential, operations)
            if unexplained is not None:
                calls = [each.call for each in operations if each.call is not None]
                raise InvariantError(_describe(unexplained), *calls)

    return calls_are_linearizable


def _names(nodes: Sequence[Any]) -> frozenset[str]:
    names = frozenset(node if isinstance(node, str) else node.name for node in nodes)
    if not names:
        raise ConfigError("linearizable: nodes is empty; write the nodes whose calls are operations")
    return names


def _check_called(outcome: Outcome, names: frozenset[str], texts: Sequence[str]) -> None:
    """Raise ConfigError if a name seems to be misspelt: nothing has it, in a run in which nothing went wrong.

    A node that is given itself cannot be misspelt. What is called may depend on the arguments of the flow, so of
    several names one may be missing, unless something that ran has almost its name.
    """
    if outcome.faults or outcome.exception is not None or outcome.before is not None or "resume" in outcome.options:
        return
    top = outcome.calls.get((outcome.info.session_id, 0))
    ran = dict.fromkeys(observed.name for observed in outcome.calls.values() if observed is not top)
    ran.update(dict.fromkeys(marked.name for marked in outcome.operations))
    others = [name for name in ran if name not in names]
    for text in texts:
        is_alone = others == [*ran] and names == {*texts}
        if text not in ran and others and (is_alone or get_close_matches(text, others)):
            raise ConfigError(
                f"linearizable: {unknown_name(text, others if is_alone else ran)}; "
                f"a node that may not be called is given itself: nodes=[node]"
            )


def _applied(model: SequentialModel[Any], state: Any, operation: Operation) -> tuple[Any, Any]:
    """Return the state after an operation, and what the operation returns, as the model says."""
    answer: object = model.apply(state, operation.name, operation.args)
    if inspect.iscoroutine(answer):
        answer.close()  # or Python would warn that it was never awaited
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ConfigError(
            f"linearizable: apply of the model returned {stable_repr(answer)} for {_call(operation)}; "
            f"return the state after the operation and its result: `return state, result`"
        )
    return answer


def history(outcome: Outcome, names: Iterable[str]) -> Iterator[Operation]:
    """Yield the calls of the nodes, and the operations, with these names."""
    for call, observed in outcome.calls.items():
        if observed.name not in names:
            continue
        if observed.kwargs:
            raise ConfigError(
                f"linearizable: {observed.name} was called with {format_arguments((), observed.kwargs)}; pass all "
                f"arguments by position, as a model is given only those"
            )
        known = observed.outcome == "returned"
        end = observed.order if known else math.inf
        yield Operation(observed.name, observed.args, observed.value, observed.begin_order, end, call)
    for marked in outcome.operations:
        if marked.name in names:
            end = math.inf if marked.order is None else marked.order
            yield Operation(marked.name, marked.args, marked.result, marked.begin_order, end, marked.call)


@attrs.frozen
class Unexplained:
    """Why a history is not linearizable."""

    explained: tuple[Operation, ...]
    """The longest order of operations that the model explains."""
    result: tuple[Operation, Any] | None
    """An operation that may come next, and what it would have to return."""


def find_unexplained(model: SequentialModel[Any], operations: Sequence[Operation]) -> Unexplained | None:
    """Return why a history is not linearizable, or None if it is."""
    operations = sorted(operations, key=lambda each: each.begin)
    needed = sum(1 << index for index, each in enumerate(operations) if each.is_known)
    state = model.init()
    seen = {(0, _hashable(state))}
    stack = [(0, state, _next(operations, 0))]
    order: list[Operation] = []
    longest = Unexplained((), None)
    while stack:
        done, state, following = stack[-1]
        if done & needed == needed:
            return None
        index = next(following, None)
        if index is None:
            stack.pop()
            if order:
                order.pop()
            continue
        operation = operations[index]
        after, result = _applied(model, state, operation)
        if operation.is_known and result != operation.result:
            if longest.result is None or len(order) > len(longest.explained):
                longest = Unexplained(tuple(order), (operation, result))
            continue
        reached = done | 1 << index, _hashable(after)
        if reached not in seen:
            if len(seen) == MAX_STATES:
                raise ConfigError(
                    f"linearizable: {len(operations)} operations overlap in too many ways, {MAX_STATES:,} of them were "
                    f"tried; write key=..., or let fewer calls overlap"
                )
            seen.add(reached)
            stack.append((reached[0], after, _next(operations, reached[0])))
            order.append(operation)
    return longest


def _next(operations: Sequence[Operation], done: int) -> Iterator[int]:
    """Yield the operations that may be next: no other one that is left has ended before they began."""
    left = [index for index in range(len(operations)) if not done >> index & 1]
    first_end = min((operations[index].end for index in left), default=math.inf)
    return (index for index in left if operations[index].begin < first_end)


def _hashable(state: Any) -> Hashable:
    try:
        hash(state)
    except TypeError:
        raise ConfigError(
            f"linearizable: the state {stable_repr(state)} of the model is not hashable; use a tuple, a frozenset or a "
            f"frozen class"
        ) from None
    return state  # type: ignore[no-any-return]


def _describe(unexplained: Unexplained) -> str:
    text = "no order of the calls explains what they returned"
    if unexplained.result is not None:
        operation, result = unexplained.result
        before = ", ".join(map(_call, unexplained.explained))
        text += (
            f"; {f'after {before}' if before else 'at first'}, {_call(operation)} would have returned "
            f"{stable_repr(result)}"
        )
    return text


def _call(operation: Operation) -> str:
    call = f"{operation.name}({format_arguments(operation.args, {})})"
    return f"{call} -> {stable_repr(operation.result)}" if operation.is_known else f"{call} -> ?"
