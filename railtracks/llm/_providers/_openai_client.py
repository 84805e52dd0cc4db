"""What the models behind OpenAI's SDK have in common: how OpenAI is reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks.llm._model import OutputMode
from railtracks.llm._prices import Price
from railtracks.llm._providers._http_model import Connection, HTTPModel
from railtracks.llm._providers._keys import Key, KeyFunction


class OpenAIModel(HTTPModel):
    """A model that OpenAI's client reaches; see its subclasses."""

    _package = "openai"
    _provider = "openai"
    _client = "AsyncOpenAI"
    _ability_name = "openai"

    def __init__(
        self,
        model: str,
        *,
        api_key: Key | KeyFunction | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        output_mode: OutputMode | None = None,
        price: Price | None = None,
        **settings: Any,
    ) -> None:
        options = {
            "base_url": base_url, "organization": organization, "project": project, "timeout": timeout,
            "max_retries": max_retries, "default_headers": default_headers, "default_query": default_query,
        }  # fmt: skip
        connection = Connection(
            keys={"api_key": api_key},
            variables={"api_key": "OPENAI_API_KEY"},
            http_client=http_client,
            options=options,
        )
        super().__init__(model, connection, output_mode, price, settings)
