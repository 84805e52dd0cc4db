"""Agents as nodes: their classes, and the versions by which a resumed run recognises them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from railtracks._policies import POLICIES, PolicyOptions
from railtracks.agents._agent_options import AgentOptions, check_bounds, check_tool_calls
from railtracks.agents._conversation import Conversation
from railtracks.agents._costs import cost_bound
from railtracks.agents._hand_off import HandOff, Spent
from railtracks.agents._models import model_of
from railtracks.agents._response import LLMResponse
from railtracks.agents._settled import settled
from railtracks.agents._spec import AgentSpec, digest
from railtracks.agents._system_messages import system_of
from railtracks.agents._tools import Tool, ToolManifest
from railtracks.exceptions import ConfigError, NodeInvocationError
from railtracks.llm._attachments import Attachment
from railtracks.llm._messages import Message, UserMessage
from railtracks.llm._settings import with_settings
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._callables import innermost
from railtracks.nodes._resolve import as_node
from railtracks.state._redaction._model_keys import keys_of
from railtracks.state._serialization._former_names import former_node
from railtracks.state._serialization._renaming import rename_in_key

T_co = TypeVar("T_co", covariant=True)


class AgentNode(Node[LLMResponse[T_co]], Generic[T_co]):
    """An agent, made by ``rt.agent_node`` and called like any node: ``await rt.call(MyAgent, "Hello")``.

    Args:
        user_input: The question: a text, a message, or a conversation (a list of messages), such as
            ``[*response.message_history, rt.llm.UserMessage("And then?")]``.

    Raises:
        NodeInvocationError: ``user_input`` is something else, or a conversation without messages.
    """

    definition: ClassVar[AgentSpec]
    """What the agent is made of."""
    manifest: ClassVar[ToolManifest]
    """The description of this agent for an agent that has it as a tool."""
    _version: ClassVar[str]
    _given_version: ClassVar[str | None]
    _key: ClassVar[str | None]
    _policies: ClassVar[PolicyOptions]

    def __init__(self, user_input: str | Message | Sequence[Message], *, spent: Spent | None = None) -> None:
        self._spent = spent  # passed where a conversation is handed over
        self._given = _messages(user_input, self.definition.name)

    async def invoke(self) -> LLMResponse[T_co]:
        """Ask the model, and call the tools that it asks for, until it has answered.

        Raises:
            LLMError: The model gave no valid answer.
            Exception: What the provider's SDK raises, unchanged.

        Cancellation: Cancels the request, or the tools, in progress.
        """
        return await Conversation(await settled(self.definition), self._given, self._spent).run()

    @classmethod
    def name(cls) -> str:
        """Return the name that was passed to ``rt.agent_node``."""
        return cls.definition.name

    @classmethod
    def type(cls) -> str:
        """Return "Agent"."""
        return "Agent"

    @classmethod
    def key(cls) -> str | None:
        """Return the ``key`` that was passed to ``rt.agent_node``."""
        return cls._key

    @classmethod
    def policies(cls) -> PolicyOptions:
        """Return the policies that were passed to ``rt.agent_node``."""
        return cls._policies

    @classmethod
    def version(cls) -> str | None:
        """Return a text that changes with everything that the agent is made of, but for its policies.

        So a resumed run does not replay the answers of an agent that was different.
        """
        return cls._version

    @classmethod
    def version_with(cls, rename: Callable[[str], str]) -> str:
        """Return the version that the agent would have if what its tools are made of had other paths.

        Args:
            rename: Returns the other path.
        """
        return full_version(cls.definition, cls._given_version, rename)

    @classmethod
    def secrets(cls) -> tuple[str, ...]:
        """Return the key of its model, and the secrets of its tools."""
        nodes = [tool.node for tool in cls.definition.tools.values()]
        nodes += [as_node(each.agent) for each in cls.definition.hand_offs.values() if not each.is_later]
        nodes += [guard.node for guard in (*cls.definition.input_guards, *cls.definition.output_guards)]
        if cls.definition.system_node is not None:
            nodes.append(cls.definition.system_node)
        return (*(text for node in nodes for text in node.secrets), *keys_of(cls.definition.model))

    @classmethod
    def _with_arguments(cls, given: dict[str, Any], what: str) -> tuple[Any, dict[str, Any]]:
        policies = {name: value for name, value in given.items() if name in POLICIES}
        others = {name: value for name, value in given.items() if name not in POLICIES}
        return (_changed_agent(cls, others, what) if others else cls), policies

    @classmethod
    def memo(cls) -> bool:
        """Return the ``memo`` that was passed to ``rt.agent_node``."""
        return cls.definition.memo


def _messages(given: object, agent: str) -> list[Message]:
    if isinstance(given, str):
        return [UserMessage(given)]
    messages = [given] if isinstance(given, Message) else list(given) if isinstance(given, Iterable) else []
    if not messages or not all(isinstance(each, Message) and isinstance(each.content, str) for each in messages):
        raise NodeInvocationError(
            f"the agent {agent} was given {given!r}; expected a text, a message with a text such as "
            f"rt.llm.UserMessage('...'), or a list of messages that is not empty"
            f"{_how_to_make_messages(given, messages)}"
        )
    return messages


def _how_to_make_messages(given: object, messages: list[Any]) -> str:
    if any(isinstance(each, Attachment) for each in (given, *messages)):
        return "; an image goes along with a text: rt.llm.UserMessage('...', attachments=[...])"
    if any(isinstance(each, Mapping) for each in (given, *messages)):
        return "; messages in JSON, a list of dicts, become such a list by rt.llm.MessageHistory.from_json(text)"
    return ""


_CHANGEABLE = frozenset(
    {"llm", "system_message", "max_tool_calls", "max_requests", "max_tokens", "max_cost", "repairs", "tool_errors"}
    | {"history_processors"}
)
"""The arguments that ``options`` takes. Others would make another agent."""


def _changed_agent(cls: type[AgentNode[Any]], given: Mapping[str, Any], what: str) -> type[AgentNode[Any]]:
    """Return an agent with some of its arguments, or with settings of its model, changed."""
    spec = cls.definition
    known = {"name", "llm", "output_schema", *AgentOptions.__annotations__}
    fixed = [name for name in given if name in known and name not in _CHANGEABLE]
    if fixed:
        raise ConfigError(
            f"{what}: {fixed[0]} cannot be changed for single calls; make another agent: rt.agent_node(...)"
        )
    changes = {name: value for name, value in given.items() if name in known}
    settings = {name: value for name, value in given.items() if name not in known}
    model = model_of(spec.name, changes.pop("llm")) if "llm" in changes else spec.model
    if settings:
        model = with_settings(model, settings, what)
    if "system_message" in changes:
        changes["system"], changes["system_node"] = system_of(changes.pop("system_message"))
    check_tool_calls(changes.get("max_tool_calls"))
    bounds = {name: changes.get(name, getattr(spec, name)) for name in ("max_requests", "max_tokens", "repairs")}
    changes["max_cost"] = cost_bound(changes.get("max_cost", spec.max_cost), spec.name, model)
    processors = changes.pop("history_processors", spec.history_processors)
    tool_errors = changes.get("tool_errors", spec.tool_errors)
    processors = check_bounds(**bounds, tool_errors=tool_errors, processors=processors)
    spec = attrs.evolve(spec, model=model, history_processors=processors, **changes)
    same = {"_key": cls._key, "_given_version": cls._given_version, "_policies": cls._policies}
    version = full_version(spec, cls._given_version)
    return node_class(spec, cls.manifest, cls.__module__, {**same, "_version": version})


def node_class(spec: AgentSpec, manifest: ToolManifest, module: str, given: dict[str, Any]) -> type[AgentNode[Any]]:
    async def invoke(self: AgentNode[Any]) -> LLMResponse[Any]:
        return await AgentNode.invoke(self)

    # A resumed run structures the recorded result as this annotation says.
    invoke.__annotations__ = {"return": LLMResponse[spec.result_type]}  # type: ignore[name-defined]
    body = {
        "__module__": module,
        "__doc__": f"The agent {spec.name}.",
        "definition": spec,
        "manifest": manifest,
        "invoke": invoke,
        **given,
    }
    return type(spec.name, (AgentNode,), body)


def full_version(spec: AgentSpec, given: str | None, rename: Callable[[str], str] | None = None) -> str:
    # With former names of tools: the digest of an agent is on record, and must stay the same.
    tools = [repr(key and former_node(key)) for key in (_tool_key(tool.node, rename) for tool in spec.tools.values())]
    asked = [
        f"needs_approval {name} {_approval(tool, rename)}" for name, tool in spec.tools.items() if tool.needs_approval
    ]
    if spec.system_node is not None:
        asked.append(f"system_message {_tool_key(spec.system_node, rename)!r}")
    asked += [f"hand_off {name} {_hand_off(each, rename)}" for name, each in spec.hand_offs.items()]
    asked += [f"input_guard {_tool_key(guard.node, rename)}" for guard in spec.input_guards]
    asked += [f"output_guard {_tool_key(guard.node, rename)}" for guard in spec.output_guards]
    own = digest(spec.fingerprint, repr(spec.system), repr(spec.max_tool_calls), *tools, *asked)
    return own if given is None else f"{given}-{own}"


def _approval(tool: Tool, rename: Callable[[str], str] | None) -> str | None:
    decides = tool.needs_approval
    return "always" if isinstance(decides, bool) else _tool_key(decides, rename)


def _hand_off(given: HandOff, rename: Callable[[str], str] | None) -> str | None:
    return "later" if given.is_later else _tool_key(as_node(given.agent), rename)


def _tool_key(node: FunctionNode[..., Any], rename: Callable[[str], str] | None) -> str | None:
    key = node.key
    if rename is None or key is None:
        return key
    cls = innermost(node.target)
    if isinstance(cls, type) and issubclass(cls, AgentNode):
        key = f"{key.removesuffix(cls._version)}{cls.version_with(rename)}"
    return rename_in_key(key, rename)


def manifest_of(node: Any) -> ToolManifest | None:
    node = innermost(node)
    return node.manifest if isinstance(node, type) and issubclass(node, AgentNode) else None
