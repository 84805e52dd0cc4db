"""Models behind OpenAI's SDK: OpenAI's own, and those of all servers that offer its chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from railtracks.llm._model import Completion, Piece
from railtracks.llm._providers._chat_format import to_chat
from railtracks.llm._providers._chat_stream import ChatStream
from railtracks.llm._providers._http_model import HTTPModel
from railtracks.llm._providers._openai_client import OpenAIModel
from railtracks.llm._providers._request import Request
from railtracks.llm._providers._sdk import SET_BY_CALL, with_retries
from railtracks.llm._providers._sse import CONNECTION_CLOSED, Events, as_object, read_body


class ChatModel(HTTPModel):
    """A model that is asked by chat completions; see its subclasses."""

    _resource = "chat.completions"
    _create = "openai.resources.chat.completions:AsyncCompletions.create"
    _reserved: ClassVar = {"response_format": SET_BY_CALL}

    async def _complete(self, client: Any, request: Request) -> Completion:
        payload = to_chat(request, self._name, self._settings, streams=False, origin=self._origin)
        response = await client.chat.completions.with_raw_response.create(**payload)
        answer = ChatStream(self._origin, len(request.messages))
        for chunk in await read_body(response.http_response):
            for _ in answer.add(self._event(chunk, response.http_response)):
                pass
        return with_retries(answer.completion(), response)

    async def _stream(self, client: Any, request: Request) -> AsyncGenerator[Piece, None]:
        payload = to_chat(request, self._name, self._settings, streams=True, origin=self._origin)
        answer = ChatStream(self._origin, len(request.messages), request.answer_tool)
        async with (
            client.chat.completions.with_streaming_response.create(**payload) as response,
            aclosing(Events(response.http_response, self._sdk)) as events,
        ):
            async for data in events:
                if data.startswith("[DONE]"):  # not all servers send this
                    await events.finish()
                    break
                for text in answer.add(self._event(as_object(data), response.http_response)):
                    yield text
            else:
                if not answer.is_complete:
                    raise self._sdk.APIConnectionError(
                        message=CONNECTION_CLOSED, request=response.http_response.request
                    )
        yield with_retries(answer.completion(), response)

    def _event(self, chunk: dict[str, Any], response: Any) -> dict[str, Any]:
        """Return a chunk, or raise the error that it is."""
        # vLLM sends errors as objects of their own.
        if error := chunk.get("error") or (chunk if chunk.get("object") == "error" else None):
            message = error.get("message") if isinstance(error, dict) else error
            message = str(message or "An error occurred during streaming")
            raise self._sdk.APIError(message, request=response.request, body=error)
        return chunk


class OpenAI(ChatModel, OpenAIModel):
    """A model that the ``openai`` package reaches. Needs the extra: ``pip install '.[openai]'`` in a checkout.

    All calls on one event loop share one client. It is closed when it was not used for 10 seconds, and when the event
    loop ends.

    Args:
        model: The provider's name for it.
        api_key: The key; by default that of the environment variable ``OPENAI_API_KEY``. Servers that need none accept
            any, such as "none". A function, sync or async, returns the key for each request, such as a token that
            expires; a sync function is called in a worker thread.
        base_url: The address of another server that speaks this format, such as "http://localhost:8080/v1".
        organization: The organization that pays; by default that of ``OPENAI_ORG_ID``.
        project: The project that pays; by default that of ``OPENAI_PROJECT_ID``.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default. How often it did is
            among the attributes of the request, as ``railtracks.sdk.retries``.
        default_headers: Headers for every request.
        default_query: Parameters for the address of every request.
        http_client: An ``httpx.AsyncClient`` for the connections, with a proxy or certificates of yours, that works on
            one event loop, and that you close; or a function that makes one for each event loop, which is closed for
            you. Newer SDKs want one of ``httpx2``, and an error says so. None: one with the SDK's defaults.
        output_mode: How it is asked for objects: "native", "tool" or "prompted", as ``rt.agent_node`` says. None: as
            is best for the provider.
        price: What its tokens cost. None: what is listed for the provider, if the extra ``prices`` is installed.
        settings: Sent with every request, as ``client.chat.completions.create`` takes them: ``temperature``,
            ``max_completion_tokens``, ``reasoning_effort``, ``extra_body``, ...; ``stream_options`` only with those
            that stream.

    Raises:
        ConfigError: The package is not installed, there is no key, an option has a value that cannot be right, or a
            setting is reserved or unknown.
    """

    _origin_name = "openai"
