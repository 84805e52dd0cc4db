"""Which errors say that a provider cannot answer now: another one may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_TEMPORARY = frozenset({408, 409, 425, 429})
"""Statuses of HTTP below 500 that say so: a timeout, a conflict, too early, too many requests."""
_NAMES = frozenset(
    {
        # openai, anthropic, groq, and others that are made in the same way; any-llm
        "APIConnectionError", "APITimeoutError", "RateLimitError", "InternalServerError", "ServiceUnavailableError",
        "GatewayTimeoutError", "UpstreamProviderError",
        # httpx, aiohttp, botocore, grpc
        "TransportError", "ClientConnectionError", "EndpointConnectionError", "HTTPClientError", "ResourceExhausted",
        "ServiceUnavailable", "DeadlineExceeded",
    }
)  # fmt: skip
"""The names of classes that say so. By name, as their packages may not be installed."""
_KINDS = frozenset(
    {
        # In streams, whose status was 200: OpenAI's and Anthropic's.
        "server_error", "rate_limit_exceeded", "overloaded_error", "rate_limit_error", "api_error", "timeout_error",
        # botocore's codes: https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
        "ThrottlingException", "ServiceUnavailableException", "ModelTimeoutException", "ModelNotReadyException",
        "InternalServerException",
    }
)  # fmt: skip
"""What errors say of themselves in their body."""


def is_unavailable(error: Exception) -> bool:
    """Return whether an error is about the provider and not about the request.

    It is a lost connection, a timeout, too many requests or a used up quota, or the provider has failed itself.
    """
    if isinstance(error, ConnectionError | TimeoutError) or _NAMES & {cls.__name__ for cls in type(error).__mro__}:
        return True
    if any(kind in _KINDS for kind in _kinds_of(error)):
        return True
    status = _status_of(error)
    return status is not None and (status in _TEMPORARY or status >= 500)


def _status_of(error: Exception) -> int | None:
    for name in ("status_code", "status", "code", "http_status"):
        value = getattr(error, name, None)
        if type(value) is int:
            return value
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore's
        value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        value = getattr(response, "status_code", None)
    return value if type(value) is int else None


def _kinds_of(error: Exception) -> Iterator[Any]:
    """Yield what an error and its body say that it is."""
    body, response = getattr(error, "body", None), getattr(error, "response", None)
    inner = body.get("error") if isinstance(body, Mapping) else None
    parts = [body, inner, response.get("Error") if isinstance(response, Mapping) else None]
    for part in parts:
        if isinstance(part, Mapping):
            yield from (part.get(name) for name in ("type", "code", "Code") if isinstance(part.get(name), str))
