"""Why answers end: what the finish reasons of the providers mean.

any-llm translates the reasons of its providers into OpenAI's. Those that it does not know become "stop" there, so that
what is below for Bedrock, Cohere and Gemini is for servers that pass on the provider's own words.
"""

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
    MALFORMED = "malformed"
    """The provider could not read what the model wrote, mostly a call of a tool, and withheld it."""
    BROKEN_OFF = "broken off"
    """The provider failed, or ran out of time, in the midst of the answer."""


_ENDINGS: dict[str, Ending] = {
    # OpenAI: https://platform.openai.com/docs/api-reference/chat/object ("stop", "tool_calls" and "function_call" are
    # whole). Groq has the same: https://console.groq.com/docs/api-reference#chat-create
    "length": Ending.CUT,
    "content_filter": Ending.FILTERED,
    # OpenAI's Responses, in `incomplete_details`: https://platform.openai.com/docs/api-reference/responses/object
    "max_output_tokens": Ending.CUT,
    # Anthropic: https://docs.anthropic.com/en/api/handling-stop-reasons
    "max_tokens": Ending.CUT,
    "model_context_window_exceeded": Ending.CUT,
    REFUSAL: Ending.REFUSED,
    "pause_turn": Ending.PAUSED,
    # Gemini: https://ai.google.dev/api/generate-content#FinishReason ("MAX_TOKENS" as above). "LANGUAGE": the language
    # is not supported. Its server in OpenAI's format writes "content_filter: SAFETY", "function_call_filter: ...".
    **dict.fromkeys(
        ("safety", "recitation", "language", "blocklist", "prohibited_content", "spii", "model_armor", "image_safety",
         "image_prohibited_content", "image_recitation"),
        Ending.FILTERED,
    ),
    **dict.fromkeys(
        ("malformed_function_call", "unexpected_tool_call", "malformed_response", "function_call_filter"),
        Ending.MALFORMED,
    ),
    # Amazon Bedrock: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
    **dict.fromkeys(("guardrail_intervened", "content_filtered"), Ending.FILTERED),
    **dict.fromkeys(("malformed_model_output", "malformed_tool_use"), Ending.MALFORMED),
    # Mistral: https://docs.mistral.ai/api/#tag/chat; "error" is OpenRouter's, too:
    # https://openrouter.ai/docs/api-reference/overview#finish-reason
    "model_length": Ending.CUT,
    "error": Ending.BROKEN_OFF,
    # Cohere: https://docs.cohere.com/reference/chat ("ERROR" as above), and what its older API has
    "timeout": Ending.BROKEN_OFF,
    "error_limit": Ending.CUT,
    "error_toxic": Ending.FILTERED,
    # DeepSeek: https://api-docs.deepseek.com/api/create-chat-completion
    "insufficient_system_resource": Ending.BROKEN_OFF,
    # watsonx: https://ibm.github.io/watsonx-ai-node-sdk ("TextChatResultChoice"), and its older API
    **dict.fromkeys(("time_limit", "cancelled"), Ending.BROKEN_OFF),
    "token_limit": Ending.CUT,
    # vLLM and SGLang, when the request was aborted: https://github.com/vllm-project/vllm/blob/main/vllm/v1/engine
    "abort": Ending.BROKEN_OFF,
}  # fmt: skip


def ending_of(completion: Completion) -> Ending:
    """Return how an answer has ended. What no provider is known to say counts as a whole answer."""
    reason = (completion.finish_reason or "").lower()
    general, _, special = reason.partition(":")
    known = (_ENDINGS.get(each.strip()) for each in (reason, special, general))
    return next((each for each in known if each is not None), Ending.WHOLE)
