"""Language models: messages, the protocol that agents ask of a model, and models of the providers' SDKs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)  # fmt: skip
from railtracks.llm._model import Completion, Model, OutputSchema, ToolSchema, Usage

if TYPE_CHECKING:
    from railtracks.llm._anthropic import Anthropic
    from railtracks.llm._anyllm import AnyLLM
    from railtracks.llm._openai import OpenAI

__all__ = [
    "Anthropic",
    "AnyLLM",
    "AssistantMessage",
    "Completion",
    "Message",
    "MessageHistory",
    "Model",
    "OpenAI",
    "OutputSchema",
    "SystemMessage",
    "ToolCall",
    "ToolMessage",
    "ToolSchema",
    "Usage",
    "UserMessage",
]

_LATER = {"Anthropic": "_anthropic", "AnyLLM": "_anyllm", "OpenAI": "_openai"}
"""Each is loaded when it is first used: a program has one of them, as a rule."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"railtracks.llm.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
