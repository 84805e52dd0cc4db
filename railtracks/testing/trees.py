"""Call trees as data: flows that do something with calls, time and errors, and nothing else.

A tree is a callable, so ``rt.call``, ``simulate`` and ``rt.Flow`` take it; each of its nodes is one call. Its repr is
the code that makes it::

    simulate(Sequence(Sleep(1), Raise("disk on fire")))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import anyio
import attrs

from railtracks import context
from railtracks._calls._batch import call_batch
from railtracks._calls._broadcast import broadcast
from railtracks._calls._call import call, call_sync
from railtracks._session._session import Session
from railtracks.exceptions import FatalError
from railtracks.nodes import FunctionNode, function_node
from railtracks.testing._trace import ReprAsCode

__all__ = [
    "Batch", "Broadcast", "Fatal", "Hang", "Nested", "Parallel", "Put", "Race", "Raise", "Retry", "Return", "Sequence",
    "Shield", "Sleep", "Swallow", "Thread", "Timeout", "Tree", "TreeError", "Try",
]  # fmt: skip


class TreeError(Exception):
    """What ``Raise`` raises."""


class Tree(ReprAsCode, ABC):
    """A node of a call tree; calling it runs it."""

    @property
    def children(self) -> tuple[Tree, ...]:
        """The trees below it."""
        return ()

    @property
    def size(self) -> int:
        """How many calls it makes at the least if all goes well, its own included."""
        return 1 + sum(child.size for child in self.children)

    @abstractmethod
    def __call__(self) -> Any:
        """Run it; an ``async def``, but for what runs in a thread."""


# ---- leaves


@attrs.frozen(repr=False)
class Return(Tree):
    """Returns ``value`` at once."""

    value: Any = 0

    async def __call__(self) -> Any:
        return self.value


@attrs.frozen(repr=False)
class Raise(Tree):
    """Raises ``TreeError(text)`` at once."""

    text: str = "leaf"

    async def __call__(self) -> Any:
        raise TreeError(self.text)


@attrs.frozen(repr=False)
class Fatal(Tree):
    """Raises ``FatalError``, which ends the session."""

    text: str = "fatal"

    async def __call__(self) -> Any:
        raise FatalError(self.text)


@attrs.frozen(repr=False)
class Sleep(Tree):
    """Sleeps, and returns the seconds."""

    seconds: float = 1

    async def __call__(self) -> Any:
        await anyio.sleep(self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Hang(Tree):
    """Waits for ever."""

    async def __call__(self) -> Any:
        await anyio.sleep_forever()


@attrs.frozen(repr=False)
class Shield(Tree):
    """Sleeps, and cannot be cancelled while it does."""

    seconds: float = 1

    async def __call__(self) -> Any:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Swallow(Tree):
    """Sleeps, and returns as if nothing had been when it is cancelled."""

    seconds: float = 1

    async def __call__(self) -> Any:
        try:
            await anyio.sleep(self.seconds)
        except anyio.get_cancelled_exc_class():
            return "swallowed"
        return self.seconds


_sleep = function_node(anyio.sleep, name="sleep")


@attrs.frozen(repr=False)
class Thread(Tree):
    """Runs in a worker thread, and sleeps there, by a call."""

    seconds: float = 0

    def __call__(self) -> Any:  # a plain def runs in a thread
        if self.seconds:
            call_sync(_sleep, self.seconds)
        return self.seconds


@attrs.frozen(repr=False)
class Put(Tree):
    """Puts ``value`` into the context."""

    key: str = "key"
    value: Any = 0

    async def __call__(self) -> Any:
        context.put(self.key, self.value)
        return self.value


@attrs.frozen(repr=False)
class Broadcast(Tree):
    """Broadcasts ``item``."""

    item: Any = 0

    async def __call__(self) -> Any:
        await broadcast(self.item)
        return self.item


# ---- branches


def _node(tree: Tree) -> FunctionNode[..., Any]:
    return function_node(tree, name=type(tree).__name__)


@attrs.frozen(repr=False, init=False)
class _Many(Tree):
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
    """Calls its parts one after the other, and returns what they return."""

    async def __call__(self) -> Any:
        return [await call(_node(part)) for part in self.parts]


class Parallel(_Many):
    """Calls its parts at the same time, each in a task of its own."""

    async def __call__(self) -> Any:
        async with anyio.create_task_group() as group:
            for part in self.parts:
                group.start_soon(call, _node(part))


class Race(_Many):
    """Calls its parts at the same time; the first to return wins, and the others are cancelled."""

    async def __call__(self) -> Any:
        results: list[Any] = []

        async def run(part: Tree) -> None:
            results.append(await call(_node(part)))
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for part in self.parts:
                group.start_soon(run, part)
        return results[0] if results else None


@function_node(name="part")
async def _part(tree: Tree) -> Any:
    """A batch has one node, and its parts are of many kinds."""
    return await (call(_node(tree)) if isinstance(tree, Thread) else tree())


@attrs.frozen(repr=False, init=False)
class Batch(_Many):
    """Calls its parts in one ``call_batch``, and returns how many there were.

    Args:
        *parts: Trees.
        limit: As for ``call_batch``.
        strict: The first error cancels the rest and is raised.
    """

    limit: int | None = None
    strict: bool = False

    def __init__(self, *parts: Tree, limit: int | None = None, strict: bool = False) -> None:
        self.__attrs_init__(parts, limit, strict)

    async def __call__(self) -> Any:
        return len(await call_batch(_part, self.parts, limit=self.limit, return_exceptions=not self.strict))

    def _options(self) -> list[str]:
        limit = [] if self.limit is None else [f"limit={self.limit}"]
        return limit + (["strict=True"] if self.strict else [])


@attrs.frozen(repr=False)
class _One(Tree):
    part: Tree

    @property
    def children(self) -> tuple[Tree, ...]:
        return (self.part,)


@attrs.frozen(repr=False)
class Retry(_One):
    """Calls its part, up to ``times`` times, until it does not raise."""

    times: int = 2

    async def __call__(self) -> Any:
        for _ in range(self.times - 1):
            try:
                return await call(_node(self.part))
            except Exception:  # noqa: S112  (that is what it is for; the last one is raised)
                continue
        return await call(_node(self.part))


class Try(_One):
    """Calls its part, and returns "caught" if it raises."""

    async def __call__(self) -> Any:
        try:
            return await call(_node(self.part))
        except Exception:
            return "caught"


@attrs.frozen(repr=False)
class Timeout(_One):
    """Calls its part in a scope with a timeout of its own, and raises TimeoutError when that is over."""

    seconds: float = 1

    async def __call__(self) -> Any:
        with anyio.fail_after(self.seconds):
            return await call(_node(self.part))


@attrs.frozen(repr=False, init=False)
class Nested(_One):
    """Calls its part in a session of its own, with these options."""

    options: Mapping[str, Any]

    def __init__(self, part: Tree, **options: Any) -> None:
        self.__attrs_init__(part, MappingProxyType(options))

    async def __call__(self) -> Any:
        async with Session(**self.options):
            return await call(_node(self.part))

    def __repr__(self) -> str:
        return f"Nested({', '.join([repr(self.part), *(f'{key}={value!r}' for key, value in self.options.items())])})"
