"""Class nodes: ``__init__`` takes the arguments, ``invoke`` does the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Generic, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)


class RunnableFlow(Protocol[P, T_co]):
    """A flow, which is called like a node, as a nested run."""

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...


class Node(ABC, Generic[T_co]):
    """A node as a class.

    Each call makes an instance with the call's arguments and runs its ``invoke``::

    class Greet(rt.nodes.Node[str]):
        def __init__(self, name: str) -> None:
            self.name_to_greet = name

        async def invoke(self) -> str:
            return f"Hello, {self.name_to_greet}!"

    greeting = await rt.call(Greet, "Ada")
    """

    @abstractmethod
    def invoke(self) -> Awaitable[T_co] | T_co:
        """Do the work. An ``async def`` runs in the caller's task, a plain ``def`` in a worker thread."""

    @classmethod
    def name(cls) -> str:
        """Return the name in records and logs: by default that of the class."""
        return cls.__name__

    @classmethod
    def type(cls) -> str:
        """Return the kind in records: "Tool", "Agent" or "Other"."""
        return "Other"

    @classmethod
    def key(cls) -> str | None:
        """Return what identifies the node on record in place of its module and name; see ``rt.function_node``."""
        return None

    @classmethod
    def version(cls) -> str | None:
        """Return the version of the code; see ``rt.function_node``."""
        return None

    @classmethod
    def secrets(cls) -> tuple[str, ...]:
        """Return texts that are never written to state, journal or logs in a session that has called the node."""
        return ()

    @classmethod
    def memo(cls) -> bool:
        """Return whether a session that resumes another may use recorded results; see ``rt.function_node``."""
        return True
