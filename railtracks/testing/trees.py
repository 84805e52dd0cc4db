"""Call trees as data: flows that do something with calls, time and errors, and nothing else.

A tree is callable, so ``rt.call``, ``simulate`` and ``rt.Flow`` accept it. Each of its nodes is one call. Its repr is
the code that makes it::

    simulate(Sequence(Sleep(1), Raise("disk on fire")))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Unpack

import anyio
import attrs

from railtracks import Session, broadcast, call, call_batch, call_sync, context
from railtracks._test_probe import PolicyOptions
from railtracks.exceptions import FatalError
from railtracks.nodes import FunctionNode, function_node
from railtracks.testing._trace import ReprAsCode, policy_code

__all__ = [
    "Batch", "Broadcast", "Fatal", "Hang", "Nested", "Parallel", "Put", "Race", "Raise", "Retry", "Return", "Sequence",
    "Shield", "Sleep", "Swallow", "Thread", "Timeout", "Tree", "TreeError", "Try", "WithPolicies",
]  # fmt: skip


class TreeError(Exception):
    """The exception that ``Raise`` raises."""


class Tree(ReprAsCode, ABC):
    """A node of a call tree, which runs when it is called."""

    @property
    def children(self) -> tuple[Tree, ...]:
        """The trees below it."""
        return ()

    @property
    def size(self) -> int:
        """The number of calls that it makes at least if all goes well, including its own."""
        return 1 + sum(child.size for child in self.children)

    @abstractmethod
    def __call__(self) -> Any:
        """Run the tree. This is an ``async def``, except in trees that run in a thread."""


# ---- leaves


@attrs.frozen(repr=False)
class Return(Tree):
    """A leaf that returns a value at once."""

    value: Any = 0

    async def __call__(self) -> Any:
        """Return ``value``."""
        return self.value


@attrs.frozen(repr=False)
class Raise(Tree):
    """A leaf that raises ``TreeError`` at once."""

    text: str = "leaf"

    async def __call__(self) -> Any:
        """Raise ``TreeError(text)``."""
        raise TreeError(self.text)


@attrs.frozen(repr=False)
class Fatal(Tree):
    """A leaf that ends the session with a ``FatalError``."""

    text: str = "fatal"

    async def __call__(self) -> Any:
        """Raise ``FatalError(text)``."""
        raise FatalError(self.text)


@attrs.frozen(repr=False)
class Sleep(Tree):
    """A leaf that sleeps."""

    seconds: float = 1

    async def __call__(self) -> Any:
        """Sleep, and return ``seconds``."""
        await anyio.sleep(self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Hang(Tree):
    """A leaf that waits until it is cancelled."""

    async def __call__(self) -> Any:
        """Wait for ever."""
        await anyio.sleep_forever()


@attrs.frozen(repr=False)
class Shield(Tree):
    """A leaf that cannot be cancelled while it sleeps."""

    seconds: float = 1

    async def __call__(self) -> Any:
        """Sleep in a shielded scope, and return ``seconds``."""
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Swallow(Tree):
    """A leaf that swallows its cancellation."""

    seconds: float = 1

    async def __call__(self) -> Any:
        """Sleep, and return ``seconds``, or "swallowed" when it is cancelled."""
        try:
            await anyio.sleep(self.seconds)
        except anyio.get_cancelled_exc_class():
            return "swallowed"
        return self.seconds


_sleep = function_node(anyio.sleep, name="sleep")


@attrs.frozen(repr=False)
class Thread(Tree):
    """A leaf that runs in a worker thread."""

    seconds: float = 0

    def __call__(self) -> Any:  # a plain def, because that runs in a thread
        """Sleep by a call, and return ``seconds``."""
        if self.seconds:
            call_sync(_sleep, self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Put(Tree):
    """A leaf that changes the context."""

    key: str = "key"
    value: Any = 0

    async def __call__(self) -> Any:
        """Put ``value`` into the context under ``key``, and return it."""
        context.put(self.key, self.value)
        return self.value


@attrs.frozen(repr=False)
class Broadcast(Tree):
    """A leaf that broadcasts."""

    item: Any = 0

    async def __call__(self) -> Any:
        """Broadcast ``item``, and return it."""
        await broadcast(self.item)
        return self.item


# ---- branches


def _node(tree: Tree) -> FunctionNode[..., Any]:
    return function_node(tree, name=type(tree).__name__)


@attrs.frozen(repr=False, init=False)
class _Many(Tree):
    """A branch with any number of parts."""

    parts: tuple[Tree, ...]

    def __init__(self, *parts: Tree) -> None:
        self.__attrs_init__(parts)

    @property
    def children(self) -> tuple[Tree, ...]:
        return self.parts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([*map(repr, self.parts), *self._options()])})"

    def _options(self) -> list[str]:
        return []


class Sequence(_Many):
    """A branch that calls its parts one after the other."""

    async def __call__(self) -> Any:
        """Call the parts, and return a list of their results."""
        return [await call(_node(part)) for part in self.parts]


class Parallel(_Many):
    """A branch that calls its parts at the same time, each in a task of its own."""

    async def __call__(self) -> Any:
        """Call the parts, and return None."""
        async with anyio.create_task_group() as group:
            for part in self.parts:
                group.start_soon(call, _node(part))


class Race(_Many):
    """A branch that calls its parts at the same time until the first returns; the others are cancelled."""

    async def __call__(self) -> Any:
        """Call the parts, and return the result of the first; None if there are no parts."""
        results: list[Any] = []

        async def run(part: Tree) -> None:
            results.append(await call(_node(part)))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for part in self.parts:
                group.start_soon(run, part)
        return results[0] if results else None


async def _run_part(tree: Tree) -> Any:
    """Run a part by one function for all kinds: a batch has one node, and a limit counts the calls of one."""
    return await (call(_node(tree)) if isinstance(tree, Thread) else tree())


_part = function_node(_run_part, name="part")


@attrs.frozen(repr=False, init=False)
class Batch(_Many):
    """A branch that calls its parts in one ``call_batch``.

    Args:
        *parts: Trees.
        limit: As for ``call_batch``.
        strict: Whether the first error cancels the rest and is raised.
    """

    limit: int | None = None
    strict: bool = False

    def __init__(self, *parts: Tree, limit: int | None = None, strict: bool = False) -> None:
        self.__attrs_init__(parts, limit, strict)

    async def __call__(self) -> Any:
        """Call the parts, and return their number."""
        return len(await call_batch(_part, self.parts, limit=self.limit, return_exceptions=not self.strict))

    def _options(self) -> list[str]:
        limit = [] if self.limit is None else [f"limit={self.limit}"]
        return limit + (["strict=True"] if self.strict else [])


@attrs.frozen(repr=False)
class _One(Tree):
    """A branch with one part."""

    part: Tree

    @property
    def children(self) -> tuple[Tree, ...]:
        return (self.part,)


@attrs.frozen(repr=False)
class Retry(_One):
    """A branch that calls its part until it does not raise, up to ``times`` times."""

    times: int = 2

    async def __call__(self) -> Any:
        """Call the part, and return its result, or raise its last exception."""
        for _ in range(self.times - 1):
            try:
                return await call(_node(self.part))
            except Exception:  # noqa: S112  (retrying is the purpose; the last exception is raised)
                continue
        return await call(_node(self.part))


class Try(_One):
    """A branch that catches the exception of its part."""

    async def __call__(self) -> Any:
        """Call the part, and return its result, or "caught" if it raises."""
        try:
            return await call(_node(self.part))
        except Exception:
            return "caught"


@attrs.frozen(repr=False)
class Timeout(_One):
    """A branch with a timeout for its part."""

    seconds: float = 1

    async def __call__(self) -> Any:
        """Call the part, and return its result, or raise TimeoutError after ``seconds``."""
        with anyio.fail_after(self.seconds):
            return await call(_node(self.part))


@attrs.frozen(repr=False, init=False)
class Nested(_One):
    """A branch that calls its part in a session of its own, with these options."""

    options: Mapping[str, Any]

    def __init__(self, part: Tree, **options: Any) -> None:
        self.__attrs_init__(part, MappingProxyType(options))

    async def __call__(self) -> Any:
        """Open a session, call the part, and return its result."""
        async with Session(**self.options):
            return await call(_node(self.part))

    def __repr__(self) -> str:
        return f"Nested({', '.join([repr(self.part), *(f'{key}={value!r}' for key, value in self.options.items())])})"

    def __reduce__(self) -> Any:
        return _nested, (self.part, dict(self.options))


def _nested(part: Tree, options: dict[str, Any]) -> Nested:
    return Nested(part, **options)


@attrs.frozen(repr=False, init=False)
class WithPolicies(_One):
    """A branch that calls its part with these policies: ``timeout``, ``retries``, ``limit``, ``cache`` and ``where``.

    All these parts have one function. So a number as their ``limit`` counts them all in a session, and with
    ``cache=rt.Cache(key=repr)`` equal parts are equal calls.
    """

    policies: Mapping[str, Any]

    def __init__(self, part: Tree, **policies: Unpack[PolicyOptions]) -> None:
        self.__attrs_init__(part, MappingProxyType(policies))

    async def __call__(self) -> Any:
        """Call the part, and return its result."""
        node = function_node(_run_part, name=type(self.part).__name__)
        return await call(node.options(**self.policies), self.part)

    def __repr__(self) -> str:
        policies = [f"{name}={policy_code(value)}" for name, value in self.policies.items()]
        return f"WithPolicies({', '.join([repr(self.part), *policies])})"

    def __reduce__(self) -> Any:
        return _with_policies, (self.part, dict(self.policies))


def _with_policies(part: Tree, policies: PolicyOptions) -> WithPolicies:
    return WithPolicies(part, **policies)
