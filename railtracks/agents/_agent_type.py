"""The type of agents, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeVar

from railtracks._policies import Cache, Limit, Retry
from railtracks.agents._agent import AgentNode
from railtracks.agents._agent_options import ModelSource, SystemSource
from railtracks.agents._spec import HistoryProcessor
from railtracks.agents._tools import ToolManifest
from railtracks.llm._messages import Message

T_co = TypeVar("T_co", covariant=True)


class AgentType(Protocol[T_co]):
    """The type of what ``rt.agent_node`` returns: a class whose instances are calls of the agent."""

    manifest: ToolManifest

    def __call__(self, user_input: str | Message | Sequence[Message]) -> AgentNode[T_co]:
        """Make a call of the agent; see :class:`AgentNode`. To run it, write ``await rt.call(MyAgent, ...)``."""

    def name(self) -> str:
        """Return the name that was passed to ``rt.agent_node``."""

    def options(
        self,
        *,
        llm: ModelSource = ...,
        system_message: SystemSource = ...,
        max_tool_calls: int | None = ...,
        max_requests: int | None = ...,
        max_tokens: int | None = ...,
        max_cost: float | Decimal | None = ...,
        repairs: int = ...,
        tool_errors: Literal["model", "raise"] = ...,
        history_processors: Iterable[HistoryProcessor] = ...,
        timeout: float | None = None,
        retries: int | Retry | None = None,
        limit: float | Limit | None = None,
        cache: bool | Cache | None = None,
        where: str | None = None,
        **settings: Any,
    ) -> Callable[[str | Message | Sequence[Message]], AgentNode[T_co]]:
        """Return the agent with other policies, bounds or settings, for single calls.

        ::

            await rt.call(MyAgent.options(temperature=0, llm=another_model, retries=0), "Hello")

        On record it is the same agent, unless its model, settings or instructions change. A resumed run asks the model
        again then.

        Args:
            llm: See ``rt.agent_node``, as for all that follow. What is not given stays as it is.
            system_message: See there.
            max_tool_calls: See there.
            max_requests: See there.
            max_tokens: See there. It bounds the run; for the setting of a model that is called so, write
                ``llm=model.with_settings(max_tokens=...)``.
            max_cost: See there.
            repairs: See there.
            tool_errors: See there.
            history_processors: See there.
            timeout: See there. None is as if it was not given, as for the next four.
            retries: See there.
            limit: See there.
            cache: See there.
            where: See there.
            **settings: Settings of the model, such as ``temperature``. None: the setting has its default, or is not
                sent.

        Raises:
            ConfigError: A policy or a setting is not allowed, the model takes no settings for single calls, or the
                argument is one that makes another agent, such as ``tool_nodes``.
            NodeCreationError: Another argument is not allowed.
        """
