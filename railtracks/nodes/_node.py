"""Class nodes: ``__init__`` takes the arguments, ``invoke`` does the work."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from railtracks._policies import Policies, PolicyOptions, changed_policies, policies_of

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
N = TypeVar("N", bound="Node[Any]")


class RunnableFlow(Protocol[P, T_co]):
    """A flow, which is called like a node, as a nested run."""

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...


class WithPolicies(functools.partial[T]):
    """A node class, or a partial of one, with policies for single calls; made by ``options``."""

    policies: Policies | None = None

    def options(self, **policies: Unpack[PolicyOptions]) -> WithPolicies[T]:
        """Return the same with other policies; see ``Node.options``."""
        func, given = self.func._with_arguments(policies, "options")  # type: ignore[attr-defined]
        return with_policies(func, changed_policies(self.policies, given, "options"))


def with_policies(cls: Callable[..., T], policies: Policies | None) -> WithPolicies[T]:
    """Return a node class with policies for single calls."""
    made = WithPolicies(cls)
    made.policies = policies
    return made


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
    def policies(cls) -> PolicyOptions:
        """Return its policies by name, such as ``{"timeout": 5, "retries": 3}``; see ``rt.function_node``."""
        return {}

    @classmethod
    def options(cls: Callable[P, N], **policies: Unpack[PolicyOptions]) -> Callable[P, N]:
        """Return the class with other policies, for single calls: ``await rt.call(Greet.options(timeout=5), "Ada")``.

        Args:
            **policies: See ``rt.function_node``. Those that are not given stay as they are.

        Raises:
            ConfigError: a value is not allowed, or there is no such policy.
        """
        own: Any = cls  # for type checkers it is a function that makes instances, so that they know its parameters
        what = f"{own.__name__}.options"
        declared = policies_of(own.policies(), f"{own.__name__}.policies()")
        changed, given = own._with_arguments(policies, what)
        return with_policies(changed, changed_policies(declared, given, what))

    @classmethod
    def _with_arguments(cls, given: Any, what: str) -> tuple[Any, Any]:  # noqa: ARG003 (agents use it)
        """Return the class with what is given to ``options`` beside policies, and the policies.

        Args:
            given: What is given.
            what: What it is given to, for errors.
        """
        return cls, given

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
