"""What providers refuse: rules that the server applies to each request, each with where it was seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.llm.media_rules import anthropic_media, openai_parts, responses_parts

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def problem_with(path: str, body: Mapping[str, Any]) -> str | None:
    """What the provider says against a request; None if it takes it."""
    kind = path.partition("?")[0].rpartition("/")[2]
    rules = {"messages": _anthropic, "responses": _responses}.get(kind, _openai)
    problems = [*rules(body), *(_mistral(body) if "/mistral/" in path else ())]
    return next(iter(problems), None)


def _mistral(body: Mapping[str, Any]) -> Iterator[str]:
    before = None
    for message in body["messages"]:
        # https://github.com/avante-corp/avante.nvim/issues/2562
        if before == "tool" and message["role"] == "user":
            yield "Unexpected role 'user' after role 'tool'"
        before = message["role"]
        # https://github.com/langchain-ai/langchain/pull/24668
        for each in [call["id"] for call in message.get("tool_calls") or ()] + [message.get("tool_call_id", "a" * 9)]:
            if not re.fullmatch("[a-zA-Z0-9]{9}", each):
                yield f"Tool call id was {each} but must be a-z, A-Z, 0-9, with a length of 9."


def _openai(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body["messages"]
    # https://platform.openai.com/docs/api-reference/chat/create
    if not messages:
        yield "Invalid 'messages': empty array. Expected an array with minimum length 1."
    # https://github.com/langchain-ai/langchain/issues/25510
    for setting in () if body.get("tools") else ("tool_choice", "parallel_tool_calls"):
        if setting in body:
            yield f"'{setting}' is only allowed when 'tools' are specified."
    for tool in body.get("tools") or ():
        if not _NAME.fullmatch(tool["function"]["name"]):
            yield "Invalid 'tools[0].function.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'."
        yield from _openai_parameters(tool["function"])
    open_calls: list[str] = []
    for place, message in enumerate(messages):
        role, content, calls = message["role"], message.get("content"), message.get("tool_calls")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            yield f"Invalid value: '{role}'."
        yield from openai_parts(place, message)
        if role == "tool":
            # https://community.openai.com/t/564213
            if message["tool_call_id"] not in open_calls:
                yield "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            else:
                open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_calls)}"
            )
        if content is None and not calls:
            yield f"Invalid value for 'content': expected a string, got null. (messages[{place}])"
        open_calls = [call["id"] for call in calls or ()]
        yield from _openai_calls(place, calls or ())
    if open_calls:
        yield "An assistant message with 'tool_calls' must be followed by tool messages."
    answer = (body.get("response_format") or {}).get("json_schema") or {}
    if answer.get("strict"):
        if answer["schema"].get("type") != "object":
            yield "Invalid schema for response_format: schema must be a JSON Schema of 'type: \"object\"'"
        yield from strict_schema(answer["schema"])


# https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
_STRICT = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
           "description", "title", "format"}  # fmt: skip
_STRICT_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}


def strict_schema(schema: Any) -> Iterator[str]:
    where = "Invalid schema for response_format: In context=(),"
    if not schema.keys() & {"type", "anyOf", "$ref"}:
        yield f"{where} schema must have a 'type' key."
    if "$ref" in schema and schema.keys() - {"$ref", "$defs"}:
        yield f"{where} $ref cannot have keywords {schema.keys() - {'$ref'}}."
    if schema.get("format", "date") not in _STRICT_FORMATS:
        yield f"{where} '{schema['format']}' is not a valid format."
    for word in schema.keys() - _STRICT:
        yield f"{where} '{word}' is not permitted."
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{where} array schema missing items."
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield f"{where} 'additionalProperties' is required to be supplied and to be false."
        if set(schema.get("required", ())) != set(schema.get("properties", {})):
            yield f"{where} 'required' is required to be supplied and to be an array including every key in properties."
    for part in _parts(schema):
        yield from strict_schema(part)


def _parts(schema: Any) -> list[Any]:
    parts = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    return [*parts, *([schema["items"]] if "items" in schema else [])]


def _openai_calls(place: int, calls: Any) -> Iterator[str]:
    for call in calls:
        where = f"messages[{place}].tool_calls[0]"
        # https://github.com/openai/openai-python/issues/1306
        if not _NAME.fullmatch(call["function"]["name"]):
            yield f"Invalid '{where}.function.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'."
        # https://github.com/langchain-ai/langgraph/issues/2079
        if not 0 < len(call["id"]) <= 40:
            yield f"Invalid '{where}.id': string too long. Expected a string with maximum length 40."
        # https://github.com/vllm-project/vllm/issues/19419: it reads the arguments that are in the conversation
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError as exc:
            yield str(exc)
        else:
            if not isinstance(arguments, dict):
                yield "arguments must be an object"


def _responses(body: Mapping[str, Any]) -> Iterator[str]:
    items = body["input"]
    # https://platform.openai.com/docs/api-reference/responses/create
    if not items:
        yield "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
    if body.get("tool_choice") and not body.get("tools"):
        yield "Tool choices other than 'auto' and 'none' are only allowed when 'tools' are specified."
    for tool in body.get("tools") or ():
        if tool["type"] == "function" and not _NAME.fullmatch(tool["name"]):
            yield "Invalid 'tools[0].name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'."
        if tool["type"] == "function":
            yield from _openai_parameters(tool)
        if tool["type"] == "function" and tool.get("strict", True):  # strict is the default
            yield from strict_schema(tool["parameters"])
    # https://github.com/OpenRouterTeam/ai-sdk-provider/issues/254
    identifiers = [item["id"] for item in items if item.get("id")]
    for each in {each for each in identifiers if identifiers.count(each) > 1}:
        yield f"Duplicate item found with id {each}. Remove duplicate items from your input and try again."
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    answers = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    # https://github.com/openai/openai-agents-python/issues/673
    for each in calls:
        if answers.count(each) != 1:
            yield f"No tool output found for function call {each}."
    known: list[str] = []
    for place, item in enumerate(items):
        kind = item.get("type", "message")
        if kind == "function_call":
            known.append(item["call_id"])
        # https://github.com/continuedev/continue/issues/10092
        if kind == "function_call_output" and item["call_id"] not in known:
            yield f"No tool call found for function call output with call_id {item['call_id']}."
        yield from _responses_item(place, kind, item, items[place + 1 :][:1])
    answer = (body.get("text") or {}).get("format") or {}
    if answer.get("strict"):
        yield from strict_schema(answer["schema"])


def _responses_item(place: int, kind: str, item: Any, following: Any) -> Iterator[str]:
    where = f"input[{place}]"
    if kind == "message" and item["role"] not in ("system", "developer", "user", "assistant"):
        yield f"Invalid value: '{item['role']}'. ({where})"
    if kind == "message" and item.get("content") is None:
        yield f"Missing required parameter: '{where}.content'."
    # https://platform.openai.com/docs/api-reference/responses/create: what the model has said is not an input
    is_answer = item.get("role") == "assistant"
    wanted = ("output_text", "refusal") if is_answer else ("input_text", "input_image", "input_file")
    for part in item["content"] if kind == "message" and not isinstance(item["content"], str) else ():
        if part["type"] not in wanted:
            yield f"Invalid value: '{part['type']}'. Supported values are: {wanted}."
    yield from responses_parts(where, item.get("output" if kind == "function_call_output" else "content"))
    if kind == "reasoning":
        # https://github.com/vercel/ai/issues/7099
        after = following[0] if following else {"role": "user"}
        if after.get("role", "assistant") != "assistant" or after.get("type") == "function_call_output":
            yield f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
        # https://github.com/newo-ether/Agora/issues/141
        if "summary" not in item:
            yield f"Missing required parameter: '{where}.summary'."
        # https://github.com/openai/openai-agents-python/issues/1611: it was not stored
        if item.get("encrypted_content") != f"sealed-{item['id']}":
            yield f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
    if kind == "function_call":
        if not _NAME.fullmatch(item["name"]):
            yield f"Invalid '{where}.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'."
        if not 0 < len(item["call_id"]) <= 64:
            yield f"Invalid '{where}.call_id': string too long. Expected a string with maximum length 64."
        json.loads(item["arguments"])


def _combined(messages: Any) -> list[dict[str, Any]]:
    """As the API takes them: it combines messages of one role in a row, as the SDK says of ``messages.create``."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if found and found[-1]["role"] == message["role"]:
            found[-1] = {**found[-1], "content": [*_blocks(found[-1]), *_blocks(message)]}
        else:
            found.append(message)
    return found


def _openai_parameters(function: Mapping[str, Any]) -> Iterator[str]:
    # https://github.com/langchain-ai/langchainjs/issues/9804
    schema = function.get("parameters") or {"type": "object"}
    if schema.get("type") != "object" or {"oneOf", "anyOf", "allOf", "enum", "not"} & schema.keys():
        yield (
            f"Invalid schema for function '{function['name']}': schema must have type 'object' and not have "
            f"'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
        )


def _anthropic(body: Mapping[str, Any]) -> Iterator[str]:
    messages = _combined(body["messages"])
    for place, tool in enumerate(body.get("tools") or ()):
        # https://github.com/langchain-ai/langchain/issues/39271
        if {"oneOf", "anyOf", "allOf"} & tool["input_schema"].keys():
            yield (
                f"tools.{place}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top "
                f"level"
            )
    # https://docs.anthropic.com/en/api/messages
    if "max_tokens" not in body:
        yield "max_tokens: Field required"
    if not messages:
        yield "messages: at least one message is required"
    # https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
    thinks = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    if thinks and (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if body.get("tool_choice") and not body.get("tools"):
        yield "tool_choice: may only be specified while providing tools"
    used: set[str] = set()
    before: list[str] = []
    for place, message in enumerate(messages):
        if message["role"] != ("user", "assistant")[place % 2]:
            yield f"messages.{place}: the first message must use the user role"
        blocks = _blocks(message)
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        # https://github.com/anthropics/claude-code/issues/473
        if missing := [each for each in before if each not in results]:
            yield (
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}"
            )
        if any(each not in before for each in results):
            yield f"messages.{place}.content.0: unexpected `tool_use_id` found in `tool_result` blocks"
        before = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for identifier in before:
            if identifier in used:
                yield f"messages.{place}.content: `tool_use` ids must be unique"
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", identifier):
                yield f"messages.{place}.content.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            used.add(identifier)
        yield from _anthropic_blocks(place, blocks)
        yield from anthropic_media(place, message["role"], blocks)
    last = _blocks(messages[-1])[-1] if messages and messages[-1]["role"] == "assistant" else {}
    if before:
        yield "messages: `tool_use` ids were found without `tool_result` blocks immediately after"
    if last.get("text", "").endswith((" ", "\n")):
        yield "messages: final assistant content cannot end with trailing whitespace"
    turn = [each for each in messages if each["role"] == "assistant"][-1:]
    kinds = [block["type"] for each in turn for block in _blocks(each)]
    if thinks and "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking"):
        yield (
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block"
        )
    if schema := ((body.get("output_config") or {}).get("format") or {}).get("schema"):
        yield from anthropic_schema(schema)
    yield from _anthropic_cache(body)


def _anthropic_cache(body: Mapping[str, Any]) -> Iterator[str]:
    system = body.get("system") or []
    blocks = [*(body.get("tools") or ()), *(system if isinstance(system, list) else ())]
    blocks += [block for message in body["messages"] for block in _blocks(message)]
    marked = [block for block in blocks if "cache_control" in block]
    # https://github.com/tghamm/Anthropic.SDK/issues/50; one for the whole request counts as well
    count = len(marked) + ("cache_control" in body)
    if count > 4:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {count}."
    for block in marked:
        # https://github.com/UKGovernmentBEIS/inspect_ai/pull/3967
        if block.get("type") in ("thinking", "redacted_thinking"):
            yield f"messages.1.content.0.{block['type']}.cache_control: Extra inputs are not permitted"
        # https://github.com/anthropics/claude-code/issues/54013
        if block.get("type") == "text" and not block["text"]:
            yield "cache_control cannot be set for empty text blocks"
        # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#1-hour-cache-duration
        mark = block["cache_control"]
        if mark.get("type") != "ephemeral" or mark.get("ttl", "5m") not in ("5m", "1h"):
            yield "cache_control.ephemeral.ttl: Input should be '5m' or '1h'"
    # https://github.com/vellum-ai/vellum-assistant/pull/22191
    times = [block["cache_control"].get("ttl", "5m") for block in marked]
    if times != sorted(times):  # "1h" comes before "5m"
        yield "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block."


def _blocks(message: Any) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _anthropic_blocks(place: int, blocks: Any) -> Iterator[str]:
    if not blocks:
        yield f"messages.{place}: all messages must have non-empty content"
    for block in blocks:
        # https://github.com/anthropics/anthropic-sdk-python/issues/461
        if block["type"] == "text" and not block["text"].strip():
            yield "messages: text content blocks must contain non-whitespace text"
        if block["type"] == "thinking" and block.get("signature") != "s":
            yield f"messages.{place}.content.0: Invalid `signature` in `thinking` block"
        if block["type"] == "tool_use":
            if not isinstance(block["input"], dict):
                yield f"messages.{place}.content.0.tool_use.input: Input should be a valid dictionary"
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"]):
                yield f"messages.{place}.content.0.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]+$'"


# https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations
_UNSUPPORTED = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "patternProperties", "propertyNames", "minProperties", "maxProperties", "prefixItems",
}  # fmt: skip


def anthropic_schema(schema: Any) -> Iterator[str]:
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
    for word in schema.keys() & _UNSUPPORTED:
        yield f"output_config.format.schema: For '{schema.get('type')}' type, property '{word}' is not supported"
    if not schema.keys() & {"type", "anyOf", "allOf", "$ref", "enum", "const"}:
        yield "output_config.format.schema: schema must have a 'type'"
    for name, each in schema.get("$defs", {}).items():
        if f'"#/$defs/{name}"' in json.dumps(each):
            yield "output_config.format.schema: Recursive schemas are not supported"
    for part in _parts(schema):
        yield from anthropic_schema(part)
