"""Why answers end: what the finish reasons of the providers mean."""

from __future__ import annotations

import enum

from railtracks.llm._model import Completion

REFUSAL = "refusal"
"""The finish reason of an answer whose text is a refusal. It is Anthropic's, and stands for OpenAI's field."""


class Ending(enum.Enum):
    """How an answer has ended."""

    WHOLE = "whole"
    CUT = "cut"
    FILTERED = "filtered"
    REFUSED = "refused"
    PAUSED = "paused"


_ENDINGS = {
    # OpenAI: https://platform.openai.com/docs/api-reference/chat/object
    "length": Ending.CUT,
    "content_filter": Ending.FILTERED,
    # Anthropic: https://docs.anthropic.com/en/api/handling-stop-reasons
    "max_tokens": Ending.CUT,
    "model_context_window_exceeded": Ending.CUT,
    REFUSAL: Ending.REFUSED,
    "pause_turn": Ending.PAUSED,
    # Gemini: https://ai.google.dev/api/generate-content#FinishReason
    **dict.fromkeys(
        ("safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety"), Ending.FILTERED
    ),
    "malformed_function_call": Ending.CUT,
    # Amazon Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
    "guardrail_intervened": Ending.FILTERED,
    "content_filtered": Ending.FILTERED,
    # Mistral, and OpenAI's Responses
    "model_length": Ending.CUT,
    "max_output_tokens": Ending.CUT,
}  # fmt: skip


def ending_of(completion: Completion) -> Ending:
    """Return how an answer has ended. What no provider is known to say counts as a whole answer."""
    return _ENDINGS.get((completion.finish_reason or "").lower(), Ending.WHOLE)
