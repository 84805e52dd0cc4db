"""``agent_node``: a model, its instructions and its tools as a node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any, Literal, TypeVar, Unpack, overload

from railtracks._policies import Cache, Limit, PolicyOptions, Retry, policies_of
from railtracks.agents._agent import full_version, manifest_of, node_class
from railtracks.agents._agent_options import (
    AgentOptions,
    ModelSource,
    SystemSource,
    check_bounds,
    check_text,
    check_tool_calls,
    output_of,
)
from railtracks.agents._agent_type import AgentType
from railtracks.agents._costs import cost_bound
from railtracks.agents._guards import guards_of
from railtracks.agents._hand_off import HandOff, hand_offs_of
from railtracks.agents._models import model_of
from railtracks.agents._spec import AgentSpec, HistoryProcessor
from railtracks.agents._system_messages import system_of
from railtracks.agents._tools import ToolManifest, ToolNode, check_manifest, tools_of
from railtracks.exceptions import NodeCreationError
from railtracks.llm._model import OutputMode
from railtracks.nodes._identity import check_key

T = TypeVar("T")


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
    check_text(name=name, version=version)
    check_key(key, "rt.agent_node")
    check_tool_calls(max_tool_calls)
    if type(memo) is not bool:
        raise NodeCreationError(f"memo is {memo!r}; expected True or False")
    processors = check_bounds(max_requests, max_tokens, repairs, tool_errors, history_processors)
    output = output_of(output_schema, output_mode)
    policies: PolicyOptions = {"timeout": timeout, "retries": retries, "limit": limit, "cache": cache, "where": where}
    policies_of(policies, "rt.agent_node")
    manifest = ToolManifest(f"Ask the agent {name}.") if manifest is None else manifest
    check_manifest(manifest)
    system, system_node = system_of(system_message)
    if isinstance(tool_nodes, Iterator):  # which can be read once
        tool_nodes = list(tool_nodes)
    tools = tools_of(tool_nodes, manifest_of)
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
    given = {"_key": key, "_given_version": version, "_version": full_version(spec, version), "_policies": policies}
    return node_class(spec, manifest, module, given)
