"""``agent_node``: a model, its instructions and its tools as a node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypedDict, TypeVar, Unpack, overload

from railtracks.agents._conversation import Conversation, Definition, digest
from railtracks.agents._response import LLMResponse
from railtracks.agents._tools import ToolManifest, check_manifest, tools_of
from railtracks.exceptions import NodeCreationError, NodeInvocationError
from railtracks.llm._messages import Message, SystemMessage, UserMessage
from railtracks.llm._model import Model
from railtracks.llm._tool_schemas import output_schema as schema_of
from railtracks.nodes import Node
from railtracks.nodes._callables import innermost
from railtracks.state import Secret
from railtracks.state._serialization._former_names import former_node

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
MISSING = object()


class AgentNode(Node[LLMResponse[T_co]], Generic[T_co]):
    """An agent; made by ``rt.agent_node``, and called like any node: ``await rt.call(MyAgent, "Hello")``.

    Args:
        user_input: What the agent is asked: a text, a message, or a conversation (a list of messages), such as
            ``[*response.message_history, rt.llm.UserMessage("And then?")]``.

    Raises:
        NodeInvocationError: it is none of these, or a conversation without messages.
    """

    definition: ClassVar[Definition]
    manifest: ClassVar[ToolManifest]
    """How it looks to an agent that has it as a tool."""
    _version: ClassVar[str]

    def __init__(self, user_input: str | Message | Sequence[Message]) -> None:
        self._given = _messages(user_input, self.definition.name)

    async def invoke(self) -> LLMResponse[T_co]:
        """Ask the model, run the tools that it asks for, and so on until it has answered.

        Raises:
            LLMError: the model's answers were of no use.
            Exception: what the provider's SDK raises, as it is.
        Cancellation: of the request, or of the tools, that are under way.
        """
        return await Conversation(self.definition, self._given).run()

    @classmethod
    def name(cls) -> str:
        """As given to ``rt.agent_node``."""
        return cls.definition.name

    @classmethod
    def type(cls) -> str:
        """ "Agent"."""
        return "Agent"

    @classmethod
    def version(cls) -> str | None:
        """Changes with anything that the agent is made of: a run that is resumed uses no answer of another agent."""
        return cls._version

    @classmethod
    def secrets(cls) -> tuple[str, ...]:
        """The key of its model, and what its tools have of such."""
        own = cls.definition.model.api_key
        of_tools = (text for tool in cls.definition.tools.values() for text in tool.node.secrets)
        return (*of_tools, *(() if own is None else (own.value,)))

    @classmethod
    def memo(cls) -> bool:
        """As given to ``rt.agent_node``."""
        return cls.definition.memo


class AgentType(Protocol[T_co]):
    """What ``rt.agent_node`` returns, as type checkers see it: a class whose instances are calls of the agent."""

    manifest: ToolManifest

    def __call__(self, user_input: str | Message | Sequence[Message]) -> AgentNode[T_co]:
        """See :class:`AgentNode`; to run it, write ``await rt.call(MyAgent, ...)``."""

    def name(self) -> str:
        """As given to ``rt.agent_node``."""


def _messages(given: object, agent: str) -> list[Message]:
    if isinstance(given, str):
        return [UserMessage(given)]
    messages = [given] if isinstance(given, Message) else list(given) if isinstance(given, Iterable) else []
    if not messages or not all(isinstance(each, Message) and isinstance(each.content, str) for each in messages):
        raise NodeInvocationError(
            f"the agent {agent} was given {given!r}; give it a text, a message with a text such as "
            f"rt.llm.UserMessage('...'), or a list of messages that is not empty"
        )
    return messages


class AgentOptions(TypedDict, total=False):
    """What ``agent_node`` takes beside the model and the schema; explained there."""

    system_message: str | SystemMessage | None
    tool_nodes: Iterable[Callable[..., Any]]
    max_tool_calls: int | None
    manifest: ToolManifest | None
    version: str | None
    memo: bool


@overload
def agent_node(
    name: str | None = None, *, llm: Model, output_schema: None = None, **options: Unpack[AgentOptions]
) -> AgentType[str]: ...
@overload
def agent_node(
    name: str | None = None, *, llm: Model, output_schema: type[T], **options: Unpack[AgentOptions]
) -> AgentType[T]: ...
@overload
def agent_node(
    name: str | None = None,
    *,
    llm: Model,
    output_schema: Any,  # such as `int | None`, which is no type for type checkers
    **options: Unpack[AgentOptions],
) -> AgentType[Any]: ...
def agent_node(
    name: str | None = None,
    *,
    llm: Model,
    system_message: str | SystemMessage | None = None,
    tool_nodes: Iterable[Callable[..., Any]] = (),
    output_schema: Any = None,
    max_tool_calls: int | None = None,
    manifest: ToolManifest | None = None,
    version: str | None = None,
    memo: bool = True,
) -> Any:
    """Make an agent: a node that has a model answer, with tools::

        Weather = rt.agent_node(
            "Weather",
            llm=rt.llm.OpenAI("gpt-5"),
            system_message="You tell people in {city} how to dress.",
            tool_nodes=[forecast],
        )
        response = await rt.call(Weather, "Do I need a coat?")
        print(response)  # prints its content

    Args:
        name: In records and logs, and for a model that has the agent as a tool. "Agent" by default.
        llm: The model; see :class:`rt.llm.Model`.
        system_message: What the model is told first, in each run. ``{name}`` in it, and in user messages, is filled
            from the session's context, once, before the model is first asked; see ``prompt_injection`` and
            ``rt.escape_braces``.
        tool_nodes: What the model may call: anything that ``rt.call`` takes, other agents included. Several that it
            asks for at once run concurrently. The error of one goes back to the model as its result; a fatal one ends
            the run.
        output_schema: A class (attrs, dataclass, pydantic, TypedDict, NamedTuple), or any type that JSON can hold. The
            content of the result is then an object of it. A model whose answer does not fit is told why, and may try
            again twice. None: the content is text.
        max_tool_calls: How many the model may make in one run of the agent; one that makes more is told to answer
            with what it has, and may try again twice. None: as many as it likes, within the session's ``timeout``.
        manifest: How the agent looks to another that has it as a tool; by default it takes a text.
        version: See ``rt.function_node``. Whatever the agent is made of counts as part of it.
        memo: The same. False also asks the model again.

    Returns:
        A node class. What calls of it return is an ``rt.LLMResponse``.

    Raises:
        NodeCreationError: an argument is not allowed, or a tool or the schema cannot be told to a model.
    """
    name = "Agent" if name is None else name
    _check_text(name=name, version=version)
    _check_model(name, llm)
    if max_tool_calls is not None and (type(max_tool_calls) is not int or max_tool_calls < 0):
        raise NodeCreationError(f"max_tool_calls is {max_tool_calls!r}; give rt.agent_node() a whole number, or None")
    if type(memo) is not bool:
        raise NodeCreationError(f"memo is {memo!r}; give rt.agent_node() True or False")
    manifest = ToolManifest(f"Ask the agent {name}.") if manifest is None else manifest
    check_manifest(manifest)
    definition = Definition(
        name=name,
        model=llm,
        system=_system(system_message),
        tools=tools_of(tool_nodes, _manifest_of),
        result_type=str if output_schema is None else output_schema,
        output=None if output_schema is None else schema_of(output_schema),
        max_tool_calls=max_tool_calls,
        memo=memo,
    )
    home = sys._getframe(1).f_globals.get("__name__", __name__)  # where it is written, as of any class
    return _node_class(definition, manifest, _whole_version(definition, version), home)


def _node_class(definition: Definition, manifest: ToolManifest, version: str, home: str) -> type[AgentNode[Any]]:
    async def invoke(self: AgentNode[Any]) -> LLMResponse[Any]:
        return await AgentNode.invoke(self)

    # A session that resumes a run brings the recorded result back as this annotation says.
    invoke.__annotations__ = {"return": LLMResponse[definition.result_type]}  # type: ignore[name-defined]
    body = {
        "__module__": home,
        "__doc__": f"The agent {definition.name}.",
        "definition": definition,
        "manifest": manifest,
        "invoke": invoke,
        "_version": version,
    }
    return type(definition.name, (AgentNode,), body)


def _system(given: object) -> SystemMessage | None:
    system = SystemMessage(given) if isinstance(given, str) else given
    if system is None or (isinstance(system, SystemMessage) and isinstance(system.content, str)):
        return system
    raise NodeCreationError(f"system_message is {given!r}; give rt.agent_node() a text, or a SystemMessage with one")


def _whole_version(definition: Definition, given: str | None) -> str:
    # Under their former names: the digest of an agent is on record, and stays what it was.
    tools = [repr(tool.node.key and former_node(tool.node.key)) for tool in definition.tools.values()]
    made_of = digest(definition.fingerprint, repr(definition.system), repr(definition.max_tool_calls), *tools)
    return made_of if given is None else f"{given}-{made_of}"


def _manifest_of(node: Any) -> ToolManifest | None:
    node = innermost(node)
    return node.manifest if isinstance(node, type) and issubclass(node, AgentNode) else None


def _check_text(**texts: object) -> None:
    for label, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value or not value.isprintable()):
            raise NodeCreationError(f"{label} is {value!r}; give rt.agent_node() a text of one line, not empty")


def _check_model(name: str, llm: object) -> None:
    repair = "give it a model such as rt.llm.OpenAI('gpt-5'), or an object with all that rt.llm.Model lists"
    if isinstance(llm, type):
        raise NodeCreationError(f"the llm of the agent {name} is the class {llm.__name__}, and not one of it; {repair}")
    which = f"the llm of the agent {name}, a {type(llm).__name__},"  # not its repr, which may show a key
    kinds = {"name": str, "provider": str, "settings": Mapping, "api_key": Secret | None}
    for part, kind in kinds.items():
        value = getattr(llm, part, MISSING)
        if value is MISSING or not isinstance(value, kind):
            what = "has none" if value is MISSING else f"has a {type(value).__name__}"
            if part == "api_key" and isinstance(value, str):
                repair = "write rt.Secret(...) around the key, so that it is never written"
            raise NodeCreationError(f"{which} has to have {part}, and {what}; {repair}")
    for part in ("complete", "stream"):
        if not callable(getattr(llm, part, None)):
            raise NodeCreationError(f"{which} has no method {part}; {repair}")
