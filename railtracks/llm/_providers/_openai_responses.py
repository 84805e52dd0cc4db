"""Models behind OpenAI's SDK that are reached by the Responses API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

from railtracks.exceptions import ConfigError
from railtracks.llm._model import Completion, Piece
from railtracks.llm._providers._attachments import RESPONSES_ATTACHMENTS
from railtracks.llm._providers._openai_client import OpenAIModel
from railtracks.llm._providers._request import Request
from railtracks.llm._providers._responses_format import ResponsesStream, from_responses, to_responses
from railtracks.llm._providers._sdk import SET_BY_CALL, with_retries
from railtracks.llm._providers._sse import CONNECTION_CLOSED, Events, as_object, read_body

_NO_STATE = "agents send the whole conversation, and keep nothing with the provider"
_ENCRYPTED = "reasoning.encrypted_content"
_WITHOUT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-4o")
"""How the names of models begin that refuse to include what they do not have."""


class OpenAIResponses(OpenAIModel):
    """A model that the ``openai`` package reaches by the Responses API, which keeps what the model thinks.

    Needs the extra: ``pip install '.[openai]'`` in a checkout. The API keeps nothing (``store=False``): what the model
    has thought comes encrypted, stands in ``extra`` of the messages, and is sent back.

    All calls on one event loop share one client. It is closed when it was not used for 10 seconds, and when the event
    loop ends.

    Args:
        model: The provider's name for it.
        api_key: The key; by default that of the environment variable ``OPENAI_API_KEY``. Servers that need none accept
            any, such as "none". A function, sync or async, returns the key for each request, such as a token that
            expires; a sync function is called in a worker thread.
        base_url: The address of another server that has this API, such as "http://localhost:8000/v1".
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
        settings: Sent with every request, as ``client.responses.create`` takes them: ``max_output_tokens``,
            ``reasoning``, ``text``, ...; ``tools`` are those that the provider runs, such as
            ``[{"type": "web_search"}]``, and those of the agent are added to them. ``include=[]`` leaves the encrypted
            thoughts out, for servers that refuse the setting.

    Raises:
        ConfigError: The package is not installed, there is no key, an option has a value that cannot be right, or a
            setting is reserved or unknown.
    """

    _resource = "responses"
    _create = "openai.resources.responses:AsyncResponses.create"
    _origin_name = "openai.responses"
    _attachment_rules = RESPONSES_ATTACHMENTS
    _reserved: ClassVar = {
        "input": SET_BY_CALL,
        "instructions": "put a SystemMessage(...) among the messages",
        "previous_response_id": _NO_STATE,
        "conversation": _NO_STATE,
        "background": "the agent waits for the answer",
    }
    _allowed: ClassVar = {"tools"}
    _defaults: ClassVar = {"store": False}

    def _checked(self, model: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        for tool in settings.get("tools") or ():
            kind = tool.get("type") if isinstance(tool, Mapping) else None
            if not isinstance(kind, str):
                raise ConfigError(f"OpenAIResponses: tools has {tool!r}; expected such as {{'type': 'web_search'}}")
            if kind in ("function", "custom"):
                raise ConfigError(
                    f"OpenAIResponses: the tool {tool.get('name')!r} in the settings is one that you run; give it to "
                    f"the agent: rt.agent_node(tool_nodes=[...])"
                )
        included = list(settings.get("include", [_ENCRYPTED]) or ())
        if not isinstance(model, str) or model.startswith(_WITHOUT_REASONING) or not included:
            return settings
        return {**settings, "include": list(dict.fromkeys([*included, _ENCRYPTED]))}

    async def _complete(self, client: Any, request: Request) -> Completion:
        payload = to_responses(request, self._name, self._settings, self._origin)
        payload.pop("stream_options", None)
        response = await client.responses.with_raw_response.create(**payload)
        stream = ResponsesStream()
        for event in await read_body(response.http_response):  # as it came, as items go back like that
            self._check_event(event, response.http_response)
            for _ in stream.add(event):
                pass
        if stream.answer is None:
            raise self._sdk.APIConnectionError(message=CONNECTION_CLOSED, request=response.http_response.request)
        self._check(stream.answer, response.http_response)
        return with_retries(from_responses(stream.answer, self._origin, len(request.messages)), response)

    async def _stream(self, client: Any, request: Request) -> AsyncGenerator[Piece, None]:
        payload = to_responses(request, self._name, self._settings, self._origin)
        stream = ResponsesStream(request.answer_tool)
        async with (
            client.responses.with_streaming_response.create(**payload, stream=True) as response,
            aclosing(Events(response.http_response, self._sdk)) as events,
        ):
            async for data in events:
                if data.startswith("[DONE]"):  # of servers that also have chat completions
                    continue
                event = as_object(data)
                self._check_event(event, response.http_response)
                for piece in stream.add(event):
                    yield piece
                if stream.answer is not None:
                    await events.finish()
                    break
            if stream.answer is None:
                raise self._sdk.APIConnectionError(message=CONNECTION_CLOSED, request=response.http_response.request)
            self._check(stream.answer, response.http_response)
        yield with_retries(from_responses(stream.answer, self._origin, len(request.messages)), response)

    def _check_event(self, event: Mapping[str, Any], response: Any) -> None:
        if event.get("type") == "error":
            self._fail(event.get("error") or event, response)

    def _check(self, answer: Mapping[str, Any], response: Any) -> None:
        """Raise the SDK's error for an answer that says that the request has failed, under whatever HTTP status."""
        if answer.get("status") in ("failed", "cancelled") or (answer.get("error") and not answer.get("output")):
            self._fail(answer.get("error") or {}, response)

    def _fail(self, error: Any, response: Any) -> None:
        message = error.get("message") if isinstance(error, Mapping) else error
        raise self._sdk.APIError(str(message or "The request has failed."), request=response.request, body=error)
