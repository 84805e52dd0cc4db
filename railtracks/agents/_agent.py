"""``agent_node``: a model, its instructions and its tools as a node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, Unpack, overload

import attrs

from railtracks._policies import POLICIES, Cache, Limit, PolicyOptions, Retry, policies_of
from railtracks.agents._conversation import Conversation
from railtracks.agents._costs import cost_bound
from railtracks.agents._guards import guards_of
from railtracks.agents._hand_off import HandOff, Spent, hand_offs_of
from railtracks.agents._models import model_of
from railtracks.agents._response import LLMResponse
from railtracks.agents._settled import settled
from railtracks.agents._spec import AgentSpec, HistoryProcessor, digest
from railtracks.agents._system_messages import system_of
from railtracks.agents._tools import Tool, ToolManifest, ToolNode, check_manifest, tools_of
from railtracks.exceptions import ConfigError, NodeCreationError, NodeInvocationError
from railtracks.llm._messages import Message, SystemMessage, UserMessage
from railtracks.llm._model import Model, OutputMode, OutputSchema
from railtracks.llm._output import OUTPUT_MODES
from railtracks.llm._settings import with_settings
from railtracks.llm._tool_schemas import output_schema as schema_of
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._callables import innermost
from railtracks.nodes._identity import check_key
from railtracks.nodes._resolve import as_node
from railtracks.state._redaction._model_keys import keys_of
from railtracks.state._serialization._former_names import former_node
from railtracks.state._serialization._renaming import rename_in_key

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ModelSource = Model | Sequence[Model] | None
"""A model, one for each attempt, or None for that of the session."""
SystemSource = str | SystemMessage | Callable[[], Any] | None
"""A system message, or what returns one."""


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
        return _full_version(cls.definition, cls._given_version, rename)

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


def _messages(given: object, agent: str) -> list[Message]:
    if isinstance(given, str):
        return [UserMessage(given)]
    messages = [given] if isinstance(given, Message) else list(given) if isinstance(given, Iterable) else []
    if not messages or not all(isinstance(each, Message) and isinstance(each.content, str) for each in messages):
        raise NodeInvocationError(
            f"the agent {agent} was given {given!r}; expected a text, a message with a text such as "
            f"rt.llm.UserMessage('...'), or a list of messages that is not empty"
        )
    return messages


class AgentOptions(PolicyOptions, total=False):
    """The arguments of ``agent_node`` beside the model and the schema; see there."""

    output_mode: OutputMode | None
    system_message: SystemSource
    tool_nodes: Iterable[Callable[..., Any] | ToolNode | HandOff]
    max_tool_calls: int | None
    max_requests: int | None
    max_tokens: int | None
    max_cost: float | Decimal | None
    repairs: int
    tool_errors: Literal["model", "raise"]
    history_processors: Iterable[HistoryProcessor]
    input_guards: Iterable[Callable[..., Any]]
    output_guards: Iterable[Callable[..., Any]]
    manifest: ToolManifest | None
    key: str | None
    version: str | None
    memo: bool


@overload
def agent_node(
    name: str | None = None,
    *,
    llm: ModelSource = None,
    output_schema: None = None,
    **options: Unpack[AgentOptions],
) -> AgentType[str]: ...
@overload
def agent_node(
    name: str | None = None,
    *,
    llm: ModelSource = None,
    output_schema: type[T],
    **options: Unpack[AgentOptions],
) -> AgentType[T]: ...
@overload
def agent_node(
    name: str | None = None,
    *,
    llm: ModelSource = None,
    output_schema: Any,  # such as `int | None`, which is not a `type[T]` for type checkers
    **options: Unpack[AgentOptions],
) -> AgentType[Any]: ...
def agent_node(
    name: str | None = None,
    *,
    llm: ModelSource = None,
    system_message: SystemSource = None,
    tool_nodes: Iterable[Callable[..., Any] | ToolNode | HandOff] = (),
    output_schema: Any = None,
    output_mode: OutputMode | None = None,
    max_tool_calls: int | None = None,
    max_requests: int | None = 50,
    max_tokens: int | None = None,
    max_cost: float | Decimal | None = None,
    repairs: int = 2,
    tool_errors: Literal["model", "raise"] = "model",
    history_processors: Iterable[HistoryProcessor] = (),
    input_guards: Iterable[Callable[..., Any]] = (),
    output_guards: Iterable[Callable[..., Any]] = (),
    manifest: ToolManifest | None = None,
    key: str | None = None,
    version: str | None = None,
    memo: bool = True,
    timeout: float | None = None,
    retries: int | Retry | None = None,
    limit: float | Limit | None = None,
    cache: bool | Cache | None = None,
    where: str | None = None,
) -> Any:
    """Make an agent: a node that answers by asking a model, which may call tools.

    ::

        Weather = rt.agent_node(
            "Weather",
            llm=rt.llm.OpenAI("gpt-5"),
            system_message="You tell people in {city} how to dress.",
            tool_nodes=[forecast],
        )
        response = await rt.call(Weather, "Do I need a coat?")
        print(response)  # prints its content

    Args:
        name: The name in records and logs, and for a model that has the agent as a tool. "Agent" by default.
        llm: The model; see :class:`rt.llm.Model`. Or a list of models, one for each attempt that ``retries`` allows, of
            which the last is for all further ones. None: the ``default_llm`` of the session.
        system_message: The instructions for the model, which begin each run. ``{name}`` in it, and in user messages, is
            filled from the session's context, once, before the model is first asked; see ``prompt_injection`` and
            ``rt.escape_braces``. Or a sync or async function, or a node, that returns them. It is called without
            arguments at the start of each run, as a call on record: a resumed run has the text that it returned before.
        tool_nodes: The nodes that the model may call: anything that ``rt.call`` takes, other agents included; and what
            ``rt.tool`` returns, for calls that a person must approve, and ``rt.hand_off``, for agents that may go on
            with the conversation. Several that it asks for at once run concurrently. If one fails, its error is sent
            to the model as its result; a fatal error ends the run.
        output_schema: A class (attrs, dataclass, pydantic, TypedDict, NamedTuple), or any type that JSON can hold. The
            content of the result is then an object of it. A model whose answer does not fit is sent the reason, and may
            try again (``repairs``). None: the content is text.
        output_mode: How the model is asked for that object. "native": the provider enforces the schema. "tool": the
            schema is that of a tool which the model is made to call. "prompted": the schema stands in the system
            message, and the answer is the JSON in the text. None: as its ``output_mode`` says, or else as is best for
            its provider.
        max_tool_calls: How many tool calls the model may make in one run of the agent. If it makes more, it is asked to
            answer with what it has, and may try again (``repairs``). None: any number, within the other bounds.
        max_requests: How many requests to the model one run of the agent may make. It fails with ``LimitExceeded``
            where it would need another. None: any number, within the session's ``timeout``.
        max_tokens: How many tokens, of questions and answers together, one run may use. The request that exceeds it
            is made and counts; another one is not made. None: any number.
        max_cost: How many dollars the requests of one run may cost, without those of agents that are its tools. The
            request that exceeds it is made and counts; another one is not made. It needs a model whose price is known:
            see ``rt.llm.Price``. None: any number.
        repairs: How often in one run the model may try again after an answer that does not fit.
        tool_errors: "model": the model reads the error of a tool, and may go on. "raise": the agent raises it, but for
            ``rt.exceptions.ModelRetry``, which is for the model. Errors that say that the session or the code lacks
            something, such as an ``ask_callback``, are raised in any case.
        history_processors: Sync or async functions of the list of messages, with the agent's system message, that
            return the list to send instead. They are called in their order before each request. What they leave out
            stays in the ``message_history``.
        input_guards: Nodes, or plain functions, that get the conversation which the agent was given, a list of messages
            without its system message. They return None if they have nothing against it, or the reason as a text: the
            run then fails with ``GuardTripped``. They run beside each other and beside the first request, which is
            cancelled when one trips or fails. Before all have passed, no tool runs and nothing is streamed. An agent
            can be a guard, with ``output_schema=str | None``.
        output_guards: The same for the content of the answer, before it is returned. One that raises
            ``rt.exceptions.ModelRetry`` has the model try again (``repairs``). In streams the answer comes when all
            have passed.
        manifest: The description of the agent for another agent that has it as a tool; by default it takes a text.
        key: See ``rt.function_node``. It stands in place of the module and the name of the agent.
        version: See ``rt.function_node``. Everything that the agent is made of counts as part of it.
        memo: See ``rt.function_node``. False also makes a resumed run ask the model again.
        timeout: See ``rt.function_node``, as for the next four. These policies are about the whole run of the agent,
            with all its requests and tools, and are not part of its version.
        retries: See there. Each attempt begins the conversation anew. What the SDK of the provider repeats by itself
            (``max_retries`` of the model) is below that. A streamed attempt is not tried again once a part of its text
            has reached the consumer.
        limit: See there.
        cache: See there. Answers are used again for equal questions.
        where: See there.

    Returns:
        A node class. Calls of it return an ``rt.LLMResponse``.

    Raises:
        NodeCreationError: An argument is not allowed, a tool or the schema cannot be described to a model, or there is
            a ``max_cost`` and the price of the model is not known.
        ConfigError: A policy has a value that is not allowed.
    """
    name = "Agent" if name is None else name
    _check_text(name=name, version=version)
    check_key(key, "rt.agent_node")
    _check_tool_calls(max_tool_calls)
    if type(memo) is not bool:
        raise NodeCreationError(f"memo is {memo!r}; expected True or False")
    processors = _check_bounds(max_requests, max_tokens, repairs, tool_errors, history_processors)
    output = _output(output_schema, output_mode)
    policies: PolicyOptions = {"timeout": timeout, "retries": retries, "limit": limit, "cache": cache, "where": where}
    policies_of(policies, "rt.agent_node")
    manifest = ToolManifest(f"Ask the agent {name}.") if manifest is None else manifest
    check_manifest(manifest)
    system, system_node = system_of(system_message)
    if isinstance(tool_nodes, Iterator):  # which can be read once
        tool_nodes = list(tool_nodes)
    tools = tools_of(tool_nodes, _manifest_of)
    model = model_of(name, llm)
    spec = AgentSpec(
        name=name,
        model=model,
        system=system,
        system_node=system_node,
        tools=tools,
        hand_offs=hand_offs_of(tool_nodes, tools),
        input_guards=guards_of(input_guards, "input_guards"),
        output_guards=guards_of(output_guards, "output_guards"),
        result_type=str if output_schema is None else output_schema,
        output=output,
        max_tool_calls=max_tool_calls,
        max_requests=max_requests,
        max_tokens=max_tokens,
        max_cost=cost_bound(max_cost, name, model),
        repairs=repairs,
        tool_errors=tool_errors,
        history_processors=processors,
        memo=memo,
    )
    for each in spec.hand_offs.values():
        if not each.is_later:
            each.target(spec.result_type)  # raises what is wrong with it
    module = sys._getframe(1).f_globals.get("__name__", __name__)  # the caller's, as for any class
    given = {"_key": key, "_given_version": version, "_version": _full_version(spec, version), "_policies": policies}
    return _node_class(spec, manifest, module, given)


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
    _check_tool_calls(changes.get("max_tool_calls"))
    bounds = {name: changes.get(name, getattr(spec, name)) for name in ("max_requests", "max_tokens", "repairs")}
    changes["max_cost"] = cost_bound(changes.get("max_cost", spec.max_cost), spec.name, model)
    processors = changes.pop("history_processors", spec.history_processors)
    tool_errors = changes.get("tool_errors", spec.tool_errors)
    processors = _check_bounds(**bounds, tool_errors=tool_errors, processors=processors)
    spec = attrs.evolve(spec, model=model, history_processors=processors, **changes)
    same = {"_key": cls._key, "_given_version": cls._given_version, "_policies": cls._policies}
    version = _full_version(spec, cls._given_version)
    return _node_class(spec, cls.manifest, cls.__module__, {**same, "_version": version})


def _output(schema: Any, mode: object) -> OutputSchema | None:
    if mode is not None and mode not in OUTPUT_MODES:
        raise NodeCreationError(f"output_mode is {mode!r}; expected 'native', 'tool' or 'prompted', or None")
    if schema is not None:
        return attrs.evolve(schema_of(schema), mode=mode)
    if mode is not None:
        raise NodeCreationError(f"output_mode is {mode!r}, and there is no output_schema; write output_schema=...")
    return None


def _node_class(spec: AgentSpec, manifest: ToolManifest, module: str, given: dict[str, Any]) -> type[AgentNode[Any]]:
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


def _full_version(spec: AgentSpec, given: str | None, rename: Callable[[str], str] | None = None) -> str:
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


def _manifest_of(node: Any) -> ToolManifest | None:
    node = innermost(node)
    return node.manifest if isinstance(node, type) and issubclass(node, AgentNode) else None


def _check_text(**texts: object) -> None:
    for label, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value or not value.isprintable()):
            raise NodeCreationError(f"{label} is {value!r}; expected a text of one line that is not empty")


def _check_tool_calls(max_tool_calls: object) -> None:
    if max_tool_calls is not None and (type(max_tool_calls) is not int or max_tool_calls < 0):
        raise NodeCreationError(f"max_tool_calls is {max_tool_calls!r}; expected an int that is not negative, or None")


def _check_bounds(
    max_requests: object, max_tokens: object, repairs: object, tool_errors: object, processors: Any
) -> tuple[HistoryProcessor, ...]:
    for name, value in {"max_requests": max_requests, "max_tokens": max_tokens}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise NodeCreationError(f"{name} is {value!r}; expected an int that is at least 1, or None for any number")
    if type(repairs) is not int or repairs < 0:
        raise NodeCreationError(f"repairs is {repairs!r}; expected an int that is not negative")
    if tool_errors not in ("model", "raise"):
        raise NodeCreationError(f"tool_errors is {tool_errors!r}; expected 'model' or 'raise'")
    found = tuple(processors) if isinstance(processors, Iterable) else (processors,)
    if not all(map(callable, found)):
        raise NodeCreationError(
            f"history_processors is {processors!r}; expected a list of functions of the list of messages"
        )
    return found
