"""Language models: messages, the protocol that agents use a model by, and models behind the providers' SDKs."""

from typing import TYPE_CHECKING

from railtracks._lazy import lazy_attributes
from railtracks.llm._attachments import Attachment, Audio, Document, Image
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)  # fmt: skip
from railtracks.llm._model import Completion, Model, OutputDelta, OutputSchema, Reasoning, ToolSchema, Usage
from railtracks.llm._prices import Price

if TYPE_CHECKING:
    from railtracks.llm._fallback import Fallback
    from railtracks.llm._providers._anthropic import Anthropic
    from railtracks.llm._providers._anyllm import AnyLLM
    from railtracks.llm._providers._azure_openai import AzureOpenAI
    from railtracks.llm._providers._openai import OpenAI
    from railtracks.llm._providers._openai_responses import OpenAIResponses

__all__ = [
    "Anthropic",
    "AnyLLM",
    "AssistantMessage",
    "Attachment",
    "Audio",
    "AzureOpenAI",
    "Completion",
    "Document",
    "Fallback",
    "Image",
    "Message",
    "MessageHistory",
    "Model",
    "OpenAI",
    "OpenAIResponses",
    "OutputDelta",
    "OutputSchema",
    "Price",
    "Reasoning",
    "SystemMessage",
    "ToolCall",
    "ToolMessage",
    "ToolSchema",
    "Usage",
    "UserMessage",
]

# Loaded on first use: most programs use one of them.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(
        globals(),
        {
            "railtracks.llm._fallback": ("Fallback",),
            "railtracks.llm._providers._anthropic": ("Anthropic",),
            "railtracks.llm._providers._anyllm": ("AnyLLM",),
            "railtracks.llm._providers._azure_openai": ("AzureOpenAI",),
            "railtracks.llm._providers._openai": ("OpenAI",),
            "railtracks.llm._providers._openai_responses": ("OpenAIResponses",),
        },
    )
