"""Class nodes: arguments to ``__init__``, work in ``invoke``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Node(ABC, Generic[T_co]):
    """A step as a class. Each call makes an instance with the call's arguments and runs its ``invoke``::

    class Greet(rt.nodes.Node[str]):
        def __init__(self, name: str) -> None:
            self.name_to_greet = name

        async def invoke(self) -> str:
            return f"Hello, {self.name_to_greet}!"

    greeting = await rt.call(Greet, "Ada")
    """

    @abstractmethod
    def invoke(self) -> Awaitable[T_co] | T_co:
        """Do the work. An ``async def`` runs in the caller's task; a plain ``def`` in a worker thread."""

    @classmethod
    def name(cls) -> str:
        """The name in records and logs: the class's own unless overridden."""
        return cls.__name__

    @classmethod
    def type(cls) -> str:
        """The kind in records: "Tool", "Agent" or "Other"."""
        return "Other"

    @classmethod
    def version(cls) -> str | None:
        """Of the code; see ``rt.function_node``."""
        return None

    @classmethod
    def secrets(cls) -> tuple[str, ...]:
        """Texts that are never written, in any session that has called it: not to state, journal or logs."""
        return ()

    @classmethod
    def memo(cls) -> bool:
        """May a session that resumes another use a recorded result? See ``rt.function_node``."""
        return True
