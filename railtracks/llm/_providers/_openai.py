"""Models behind OpenAI's SDK: its own, and those of every server that speaks its chat completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from railtracks.llm._model import Completion
from railtracks.llm._providers._chat_format import ChatStream, from_chat, to_chat
from railtracks.llm._providers._sdk import SET_BY_CALL, HTTPModel, Request
from railtracks.llm._providers._sse import BROKEN_OFF, Events


class OpenAI(HTTPModel):
    """A model that the ``openai`` package reaches. Needs the extra: ``pip install '.[openai]'`` in a checkout.

    Each session has one client, which its calls share, and closes it; a call outside of sessions has one of its own.

    Args:
        model: As the provider names it.
        api_key: Else ``OPENAI_API_KEY`` of the environment. Servers that ask for none take any, such as "none".
        base_url: Of another server that speaks this format, such as "http://localhost:8080/v1".
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed for the moment. None: its default.
        default_headers: Sent with every request.
        settings: Go to every request, as ``client.chat.completions.create`` takes them: ``temperature``,
            ``max_completion_tokens``, ``reasoning_effort``, ``extra_body``, ...; ``stream_options`` to streams alone.

    Raises:
        ConfigError: the package is not installed, there is no key, or a setting is not to be set here.
    """

    _package = "openai"
    _client = "AsyncOpenAI"
    _create = "resources.chat.completions.AsyncCompletions.create"
    _reserved: ClassVar = {"response_format": SET_BY_CALL}

    async def _complete(self, client: Any, asked: Request) -> Completion:
        answer = await client.chat.completions.create(**to_chat(asked, self._name, self._settings, streams=False))
        return from_chat(answer.model_dump(warnings=False))

    async def _stream(self, client: Any, asked: Request) -> AsyncGenerator[str | Completion, None]:
        request = to_chat(asked, self._name, self._settings, streams=True)
        whole = ChatStream()
        async with (
            client.chat.completions.with_streaming_response.create(**request) as response,
            aclosing(Events(response.http_response, self._sdk)) as events,
        ):
            async for data in events:
                if data.startswith("[DONE]"):  # not every server ends so
                    await events.finish()
                    break
                for text in whole.add(self._chunk(data, response.http_response)):
                    yield text
            else:
                if not whole.is_complete:
                    raise self._sdk.APIConnectionError(message=BROKEN_OFF, request=response.http_response.request)
        yield whole.completion()

    def _chunk(self, data: str, response: Any) -> dict[str, Any]:
        chunk: dict[str, Any] = json.loads(data)
        if error := chunk.get("error"):
            message = error.get("message") if isinstance(error, dict) else None
            message = str(message or "An error occurred during streaming")
            raise self._sdk.APIError(message, request=response.request, body=error)
        return chunk
