"""What agents and models say about themselves on record, under the names of OpenTelemetry's GenAI conventions.

https://opentelemetry.io/docs/specs/semconv/gen-ai/

The messages themselves are the call's arguments and its result, and the duration is the call's own: they are not
repeated here.
"""

from __future__ import annotations

from typing import Any

from railtracks.llm._messages import SystemMessage
from railtracks.llm._model import Completion, Model, OutputSchema, Usage

_SETTINGS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "seed": "seed", "n": "choice.count",
    "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "stop": "stop_sequences",
    "stop_sequences": "stop_sequences", "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}  # fmt: skip


def of_agent(name: str, model: Model, system: SystemMessage | None, usage: Usage | None = None) -> dict[str, Any]:
    """Of the call of an agent. ``usage``: of all its requests, once it has ended."""
    found = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, **_of_model(model)}
    if system is not None:
        found["gen_ai.system_instructions"] = [{"type": "text", "content": system.content}]
    return found if usage is None else {**found, **_of_usage(usage)}


def of_request(model: Model, streams: bool, output: OutputSchema | None) -> dict[str, Any]:
    """Of a request to a model. Settings for which there is no such name have one of ours."""
    found = {"gen_ai.operation.name": "chat", **_of_model(model), "gen_ai.request.stream": streams}
    for name, value in model.settings.items():
        known = _SETTINGS.get(name)
        key = f"railtracks.request.{name}" if known is None else f"gen_ai.request.{known}"
        found[key] = [value] if known == "stop_sequences" and isinstance(value, str) else value
    return found if output is None else {**found, "gen_ai.output.type": "json"}


def of_response(completion: Completion) -> dict[str, Any]:
    """Of what the model gave."""
    found = {
        "gen_ai.response.model": completion.model,
        "gen_ai.response.id": completion.id,
        "gen_ai.response.finish_reasons": completion.finish_reason and [completion.finish_reason],
    }
    usage = {} if completion.usage is None else _of_usage(completion.usage)
    return {**{name: value for name, value in found.items() if value is not None}, **usage}


def _of_model(model: Model) -> dict[str, Any]:
    return {"gen_ai.provider.name": model.provider, "gen_ai.request.model": model.name}


def _of_usage(usage: Usage) -> dict[str, Any]:
    return {"gen_ai.usage.input_tokens": usage.input_tokens, "gen_ai.usage.output_tokens": usage.output_tokens}
