"""How the providers are asked for objects: what each can enforce, and what is tried if it refuses that.

A provider is known by its host, or, where any-llm reaches it, by its name there. Of a server that is not known, such as
one that runs models locally, nobody can say whether it enforces a schema, ignores it, or refuses it: it gets the schema
as if it enforced it, and in the system message, too; and if it refuses the request, the next mode is tried.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from railtracks.exceptions import ConfigError
from railtracks.llm._fitted_schemas import ANTHROPIC, OPENAI, Limits, UnfitError, fitted
from railtracks.llm._model import OutputMode, OutputSchema
from railtracks.llm._output import OUTPUT_MODES
from railtracks.llm._providers._attachments import (
    ANTHROPIC_ATTACHMENTS,
    OPENAI_ATTACHMENTS,
    OTHER_ATTACHMENTS,
    AttachmentRules,
)
from railtracks.llm._repair import ANY_PROVIDER, MISTRAL, ConversationRules


@attrs.frozen
class Ability:
    """What a provider can do.

    Args:
        modes: The modes to try, in this order.
        limits: The limits of schemas that it enforces. None: not known.
        is_enforced: Whether it is known to enforce the schemas that it accepts.
        takes_any: Whether it also accepts schemas beyond its limits, without enforcing them.
        attachments: The images, audio and documents that it takes.
        conversation: What it demands of a conversation.
    """

    modes: tuple[OutputMode, ...]
    limits: Limits | None = None
    is_enforced: bool = False
    takes_any: bool = True
    attachments: AttachmentRules = OTHER_ATTACHMENTS
    conversation: ConversationRules = ANY_PROVIDER


_OPENAI = Ability(("native", "prompted"), OPENAI, is_enforced=True, attachments=OPENAI_ATTACHMENTS)
_ANTHROPIC = Ability(
    ("native", "tool", "prompted"), ANTHROPIC, is_enforced=True, takes_any=False, attachments=ANTHROPIC_ATTACHMENTS
)
_BY_TOOL = Ability(("tool", "prompted"))
_PROMPTED = Ability(("prompted",))
OTHER_SERVER = Ability(("native", "prompted"))
"""A server that speaks OpenAI's format."""
_MISTRAL = attrs.evolve(OTHER_SERVER, conversation=MISTRAL)
OTHER_ANTHROPIC = attrs.evolve(_ANTHROPIC, is_enforced=False)
"""A server that speaks Anthropic's format."""

ABILITIES: dict[str, Ability] = {
    # By hosts, of which a name also stands for the hosts below it.
    "api.openai.com": _OPENAI,
    "openai.azure.com": _OPENAI,
    "cognitiveservices.azure.com": _OPENAI,
    "api.anthropic.com": _ANTHROPIC,
    # https://api-docs.deepseek.com/guides/json_mode: text and json_object alone
    "api.deepseek.com": _PROMPTED,
    "api.mistral.ai": _MISTRAL,
    # By any-llm's names.
    "mistral": _MISTRAL,
    "openai": _OPENAI,
    "azureopenai": _OPENAI,
    "anthropic": _ANTHROPIC,
    "azureanthropic": _ANTHROPIC,
    "vertexaianthropic": _ANTHROPIC,
    "deepseek": _PROMPTED,
    # any-llm refuses schemas in streams of these, and in all requests to the others (any-llm 1.40, providers/*).
    "bedrock": _BY_TOOL,
    "groq": _BY_TOOL,
    **dict.fromkeys(("inception", "llamafile", "sagemaker", "zai"), _PROMPTED),
}


def ability_of(provider: str, address: str | None) -> Ability:
    """Return what a provider can do.

    Args:
        provider: The name of the provider, as any-llm has it.
        address: The address that users have set. None: that of the environment, or the provider's own.
    """
    address = address or os.environ.get(f"{provider.upper()}_BASE_URL")
    host = urlsplit(str(address)).hostname or "" if address is not None else None
    if host is None:
        return ABILITIES.get(provider, OTHER_SERVER)
    parts = host.split(".")
    names = (".".join(parts[start:]) for start in range(len(parts)))
    found = next((ABILITIES[name] for name in names if "." in name and name in ABILITIES), None)
    return found or (OTHER_ANTHROPIC if provider.endswith("anthropic") else OTHER_SERVER)


def check_mode(mode: object, owner: str) -> None:
    """Raise ConfigError unless this is a mode or None. ``owner``: the class, for the error."""
    if mode is not None and mode not in OUTPUT_MODES:
        raise ConfigError(f"{owner}: output_mode is {mode!r}; expected 'native', 'tool' or 'prompted', or None")


@attrs.frozen
class Plan:
    """One way to ask for an answer of a schema.

    Args:
        mode: The mode.
        schema: In native mode, the schema to send.
        is_strict: Whether that schema is within the limits.
        is_described: Whether the system message must hold it, too.
    """

    mode: OutputMode
    schema: Mapping[str, Any]
    is_strict: bool = False
    is_described: bool = False


class OutputModes:
    """Chooses the modes of one model, and remembers what its provider has refused.

    Args:
        ability: What the provider can do.
        given: The mode that the user has chosen for the model. None: the best that the provider can do.
        model: The model, for errors.
    """

    def __init__(self, ability: Ability, given: OutputMode | None, model: str) -> None:
        self._ability, self._given, self._model = ability, given, model
        self._refused: set[tuple[OutputMode, str]] = set()

    def plans(self, output: OutputSchema) -> list[Plan]:
        """Return the ways to ask for an answer, the best first. The others are for the case that it is refused.

        Raises:
            ConfigError: The user has chosen "native" for a schema that the provider cannot enforce.
        """
        chosen, key = output.mode or self._given, repr(output)
        if chosen is not None:
            return [self._plan(chosen, output, is_chosen=True)]
        found = []
        for mode in self._ability.modes:
            if (mode, key) not in self._refused:
                try:
                    found.append(self._plan(mode, output))
                except UnfitError:
                    continue
        return found or [Plan("prompted", output.schema)]

    def note_refused(self, plan: Plan, output: OutputSchema) -> None:
        """Note that the provider has refused a request, and accepted it in another mode."""
        self._refused.add((plan.mode, repr(output)))

    def _plan(self, mode: OutputMode, output: OutputSchema, is_chosen: bool = False) -> Plan:
        ability = self._ability
        if mode != "native":
            return Plan(mode, output.schema)
        is_described = not (ability.is_enforced or is_chosen)
        if ability.limits is None:
            return Plan(mode, output.schema, _is_strict(output.schema), is_described)
        try:
            return Plan(mode, fitted(output.schema, ability.limits), True, is_described)
        except UnfitError as exc:
            if ability.takes_any:
                return Plan(mode, output.schema, False, is_described)
            if not is_chosen:
                raise
            raise ConfigError(
                f"the provider of {self._model} cannot enforce the schema {output.name}: {exc}; write "
                f"output_mode='tool', or leave the mode to the model"
            ) from exc


def is_refusal(error: Exception) -> bool:
    """Return whether an error may say that the provider does not take a request in this form."""
    status = getattr(error, "status_code", None)
    return status in (400, 422) or type(error).__name__ == "UnsupportedParameterError"  # any-llm's own


_STRICT_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
    "description", "title",
}  # fmt: skip
"""The keywords of schemas that servers are known to enforce. With any others a schema is only a hint for the model."""


def _is_strict(schema: Any) -> bool:
    """Return whether all properties of all objects are required, no others are allowed, and everything has a type."""
    if not isinstance(schema, Mapping) or not schema.keys() & {"type", "anyOf", "$ref"}:
        return False
    if not schema.keys() <= _STRICT_KEYWORDS:
        return False
    named = schema.get("properties", {})
    if schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(named)
    ):
        return False
    items = [schema["items"]] if "items" in schema else []
    parts = [*named.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ()), *items]
    return all(map(_is_strict, parts))
