"""Models behind OpenAI's SDK that Azure deploys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from railtracks.exceptions import ConfigError
from railtracks.llm._model import OutputMode
from railtracks.llm._prices import Price
from railtracks.llm._providers._http_model import Connection
from railtracks.llm._providers._keys import Key, KeyFunction
from railtracks.llm._providers._openai import ChatModel


class AzureOpenAI(ChatModel):
    """A deployment on Azure, by the ``openai`` package. Needs the extra: ``pip install '.[openai]'`` in a checkout.

    Azure's newer address needs no class of its own: ``rt.llm.OpenAI(deployment, base_url=".../openai/v1")``.

    All calls on one event loop share one client. It is closed when it was not used for 10 seconds, and when the event
    loop ends.

    Args:
        deployment: Its name. Records have it as the name of the model.
        azure_endpoint: The address of the resource, such as "https://my-resource.openai.azure.com"; by default that of
            the environment variable ``AZURE_OPENAI_ENDPOINT``.
        api_version: The version of Azure's API, such as "2024-10-21"; by default that of the environment variable
            ``OPENAI_API_VERSION``.
        api_key: The key, or a function that returns it, as for ``rt.llm.OpenAI``; by default that of the environment
            variable ``AZURE_OPENAI_API_KEY``.
        azure_ad_token: A token of Microsoft Entra in place of a key; by default that of the environment variable
            ``AZURE_OPENAI_AD_TOKEN``.
        azure_ad_token_provider: A function, sync or async, that returns such a token for each request, as
            ``azure.identity.get_bearer_token_provider`` makes one. A sync function is called in a worker thread.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default.
        default_headers: Headers for every request.
        default_query: Parameters for the address of every request.
        http_client: As for ``rt.llm.OpenAI``.
        output_mode: How it is asked for objects: "native", "tool" or "prompted", as ``rt.agent_node`` says. None: as
            is best for the provider.
        price: What its tokens cost. None: what is listed for the provider, if the extra ``prices`` is installed.
        settings: As for ``rt.llm.OpenAI``.

    Raises:
        ConfigError: The package is not installed; there is no address, version or key, or there are several keys; an
            option has a value that cannot be right; or a setting is reserved or unknown.
    """

    _package = "openai"
    _provider = "azure.ai.openai"
    _client = "AsyncAzureOpenAI"
    _origin_name = "azure"
    _ability_name = "azureopenai"

    def __init__(
        self,
        deployment: str,
        *,
        azure_endpoint: str | None = None,
        api_version: str | None = None,
        api_key: Key | KeyFunction | None = None,
        azure_ad_token: Key | None = None,
        azure_ad_token_provider: KeyFunction | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        output_mode: OutputMode | None = None,
        price: Price | None = None,
        **settings: Any,
    ) -> None:
        if azure_ad_token is not None and azure_ad_token_provider is not None:
            raise ConfigError("AzureOpenAI: both azure_ad_token and azure_ad_token_provider are given; leave one out")
        options = {
            "azure_endpoint": _needed("azure_endpoint", azure_endpoint, "AZURE_OPENAI_ENDPOINT"),
            "api_version": _needed("api_version", api_version, "OPENAI_API_VERSION"),
            "timeout": timeout, "max_retries": max_retries, "default_headers": default_headers,
            "default_query": default_query,
        }  # fmt: skip
        connection = Connection(
            keys={"api_key": api_key, "azure_ad_token": azure_ad_token or azure_ad_token_provider},
            variables={"azure_ad_token": "AZURE_OPENAI_AD_TOKEN", "api_key": "AZURE_OPENAI_API_KEY"},
            http_client=http_client,
            options=options,
        )
        super().__init__(deployment, connection, output_mode, price, settings)

    def _address(self, options: Mapping[str, Any]) -> str | None:
        return options.get("azure_endpoint")


def _needed(name: str, given: str | None, variable: str) -> str:
    found = os.environ.get(variable) if given is None else given
    if found is None:
        raise ConfigError(
            f"AzureOpenAI: there is no {name}; write AzureOpenAI(..., {name}=...), or set the environment variable "
            f"{variable}"
        )
    return found
