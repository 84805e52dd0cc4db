"""What Anthropic's cache keeps of a request: all that comes before a breakpoint, of which a request has at most four.

https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks.exceptions import ConfigError

_CACHEABLE = frozenset({"text", "image", "document", "tool_use", "tool_result"})
"""The kinds of blocks that may have a breakpoint. What the model thinks may not."""


def cache_control(cache_prompt: object, settings: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what marks a breakpoint; None if nothing is to be cached.

    Args:
        cache_prompt: The argument of the model.
        settings: Its settings.

    Raises:
        ConfigError: ``cache_prompt`` has another value, or the settings have the API caching by itself.
    """
    if cache_prompt is False:
        return None
    if cache_prompt is not True and cache_prompt not in ("5m", "1h"):
        raise ConfigError(f"Anthropic: cache_prompt is {cache_prompt!r}; expected True, False, '5m' or '1h'")
    if "cache_control" in settings:
        raise ConfigError("Anthropic: cache_prompt and the setting cache_control do the same; leave out one of them")
    return {"type": "ephemeral", **({"ttl": "1h"} if cache_prompt == "1h" else {})}


def with_breakpoints(payload: Mapping[str, Any], mark: Mapping[str, str]) -> dict[str, Any]:
    """Return a request with breakpoints after the tools, the system message and the last message.

    The fourth is where the request before had its last one, after the user's or the tools' message before: the API
    searches only twenty blocks back for what it has, and a round may have more calls of tools than that.

    Args:
        payload: The arguments of the request. It is left as it is.
        mark: What marks a breakpoint.
    """
    found = dict(payload)
    if tools := payload.get("tools"):
        found["tools"] = [*tools[:-1], {**tools[-1], "cache_control": mark}]
    system = payload.get("system")
    if system and system.strip():
        found["system"] = [{"type": "text", "text": system, "cache_control": mark}]
    messages = found["messages"] = list(payload["messages"])
    last = len(messages) - 1
    before = [place for place in range(last) if messages[place]["role"] == "user"]
    for place in {last, *before[-1:]} if messages else ():
        messages[place] = _marked(messages[place], mark)
    return found


def _marked(message: Mapping[str, Any], mark: Mapping[str, str]) -> dict[str, Any]:
    """Return a message with a breakpoint at its last block that may have one."""
    blocks = list(message["content"])
    places = [place for place, block in enumerate(blocks) if block["type"] in _CACHEABLE]
    if places:
        blocks[places[-1]] = {**blocks[places[-1]], "cache_control": mark}
    return {**message, "content": blocks}
