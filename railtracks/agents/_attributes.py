"""The attributes of calls of agents and models, under the names of OpenTelemetry's GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/

Messages and durations are not among them: they are recorded as the arguments, the result and the times of the call.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from railtracks.agents._spec import AgentSpec
from railtracks.llm._messages import SystemMessage
from railtracks.llm._model import Completion, Model, OutputSchema, Usage

_SETTINGS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "seed": "seed", "n": "choice.count",
    "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "stop": "stop_sequences",
    "stop_sequences": "stop_sequences", "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}  # fmt: skip
"""The names of settings in the conventions, after ``gen_ai.request.``."""
INPUT_GUARDS, OUTPUT_GUARDS = "railtracks.agent.input_guards", "railtracks.agent.output_guards"
"""The names of an agent's guards."""


def of_agent(
    name: str, model: Model, system: SystemMessage | None, usage: Usage | None = None, cost: Decimal | None = None
) -> dict[str, Any]:
    """Return the attributes of an agent's call.

    Args:
        name: The name of the agent.
        model: Its model.
        system: Its system message.
        usage: The tokens of all its requests. None while it runs.
        cost: What they cost. None if that is not known.
    """
    found = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **_of_model(model)}
    if system is not None:
        found["gen_ai.system_instructions"] = [{"type": "text", "content": system.content}]
    return found if usage is None else {**found, **_of_usage(usage), **_of_cost(cost)}


def of_request(model: Model, streams: bool, output: OutputSchema | None) -> dict[str, Any]:
    """Return the attributes of a request; settings that the conventions do not name get a name of ours."""
    found = {"gen_ai.operation.name": "chat", **_of_model(model), "gen_ai.request.stream": streams}
    for name, value in model.settings.items():
        official = _SETTINGS.get(name)
        key = f"railtracks.request.{name}" if official is None else f"gen_ai.request.{official}"
        found[key] = [value] if official == "stop_sequences" and isinstance(value, str) else value
    return found if output is None else {**found, "gen_ai.output.type": "json"}


def of_response(completion: Completion) -> dict[str, Any]:
    """Return the attributes that an answer adds to those of its request."""
    found: dict[str, Any] = {
        "gen_ai.response.model": completion.model,
        "gen_ai.response.id": completion.id,
        "gen_ai.response.finish_reasons": completion.finish_reason and [completion.finish_reason],
    }
    if completion.sdk_retries:
        found["railtracks.sdk.retries"] = completion.sdk_retries
    if completion.failed:
        found["gen_ai.provider.name"] = completion.provider
        found["railtracks.fallback.failed"] = [*completion.failed]
    if completion.output_mode is not None:
        found["railtracks.output_mode"] = completion.output_mode
    usage = {} if completion.usage is None else _of_usage(completion.usage)
    if completion.service_tier is not None:
        found["railtracks.response.service_tier"] = completion.service_tier
    return {**{name: value for name, value in found.items() if value is not None}, **usage, **_of_cost(completion.cost)}


def _of_model(model: Model) -> dict[str, Any]:
    return {"gen_ai.provider.name": model.provider, "gen_ai.request.model": model.name}


_PARTS_OF_USAGE = {
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.usage.cache_write.input_tokens": "cache_write_tokens",
    "gen_ai.usage.audio.input_tokens": "input_audio_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
}
"""Recorded where they are not 0, as the conventions ask for."""


def _of_usage(usage: Usage) -> dict[str, Any]:
    parts = {name: getattr(usage, field) for name, field in _PARTS_OF_USAGE.items()}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        **{name: count for name, count in parts.items() if count},
    }


def _of_cost(cost: Decimal | None) -> dict[str, Any]:
    """Return the cost, in dollars; the conventions have no name for it."""
    return {} if cost is None else {"railtracks.cost": float(cost)}


def of_guards(agent: AgentSpec) -> dict[str, Any]:
    """Return the attributes of an agent's call that name its guards."""
    guards = {INPUT_GUARDS: agent.input_guards, OUTPUT_GUARDS: agent.output_guards}
    return {name: [guard.node.name for guard in found] for name, found in guards.items() if found}
