"""The names of the library's classes and functions that earlier versions of the format recorded, and the current ones.

Versions 1 and 2 recorded the modules in which classes and functions were defined. These names are translated
when a record is read, so that resuming finds them. Version 3 did so for paths of the file system, if it ran on
Python 3.13. The table below never changes: it says what those versions wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from zlib import crc32

_FORMER_MODULES: dict[str, dict[str, str]] = {
    "railtracks": {
        "railtracks._ask": "ask",
        "railtracks._call": "broadcast call call_batch call_sync session_id",
        "railtracks._config": "ExecutorConfig SessionOptions set_config",
        "railtracks._decorator": "session",
        "railtracks._flow": "Flow FlowConnection",
        "railtracks._logging": "enable_logging",
        "railtracks._session": "Session",
        "railtracks.agents._agent": "AgentNode AgentType agent_node",
        "railtracks.agents._response": "Chunk LLMResponse",
        "railtracks.agents._stream": "Stream astream",
        "railtracks.agents._tools": "Parameter ToolManifest",
        "railtracks.llm._injection": "escape_braces",
        "railtracks.nodes._function": "function_node",
        "railtracks.pubsub._subscription": "Subscription",
        "railtracks.state._info": "ExecutionInfo",
        "railtracks.state._secrets": "Secret",
    },
    "railtracks.llm": {
        "railtracks.llm._anthropic": "Anthropic",
        "railtracks.llm._anyllm": "AnyLLM",
        "railtracks.llm._messages": "AssistantMessage MessageHistory SystemMessage ToolCall ToolMessage UserMessage",
        "railtracks.llm._model": "Completion Model OutputSchema ToolSchema Usage",
        "railtracks.llm._openai": "OpenAI",
    },
    "railtracks.nodes": {
        "railtracks.nodes._function": "FunctionNode",
        "railtracks.nodes._node": "Node",
    },
    "railtracks.state": {
        "railtracks.state._codec": "register_hooks",
        "railtracks.state._document": "Edge Node Stamp",
        "railtracks.state._events": ("Broadcast CallCancelled CallCreated CallEvent CallFailed CallSucceeded Event"),
        "railtracks.state._info": "Decision Failure Forest",
        "railtracks.state._marks": "Cut Opaque RecordedError",
        "railtracks.state._records": "CallRecord Change Form Reason Status",
        "railtracks.state._redact": "register_secret_keys",
        "railtracks.state._runs": "RunSummary list_runs load_run prune",
        "railtracks.state._sqlite": "SQLiteStore",
        "railtracks.state._stores": "Appender FileStore Listed Lock MemoryStore Store Stored",
    },
    "railtracks.testing": {
        "railtracks.testing._clock": "ClockHeldError Deadlock VirtualClock",
        "railtracks.testing._injection": "ProcessKilled",
        "railtracks.testing._loops": "run",
        "railtracks.testing._outcome": "Outcome",
        "railtracks.testing._simulate": "simulate",
        "railtracks.testing._trace": "TraceEvent",
        "railtracks.testing.faults": "Fault",
        "railtracks.testing.invariants": "Violation check invariant",
        "railtracks.testing.models": "ScriptError ScriptedModel tool_call",
    },
}
"""The names by public namespace and by the module that version 2 recorded."""

_CURRENT: dict[str, str] = {
    f"{module}.{name}": f"{namespace}.{name}"
    for namespace, modules in _FORMER_MODULES.items()
    for module, names in modules.items()
    for name in names.split()
}
_CURRENT_TYPES: dict[str, str] = {
    **_CURRENT,
    **{
        f"pathlib._local.{name}": f"pathlib.{name}"
        for name in ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
    },
}
"""With the classes that Python 3.13 alone defines in a private module."""
_FORMER: dict[str, str] = {current: former for former, current in _CURRENT.items()}
_CURRENT_NODES: dict[str, str] = {
    **_CURRENT,
    "railtracks._ask._asking.<locals>.ask": "railtracks.ask",
    "railtracks.agents._conversation.Conversation._chat_node.<locals>.chat": "railtracks.chat",
}
_NODE = re.compile(r"railtracks\.[^@(]+")
_BOUND_TYPES = re.compile(r'(?<="input_types": ")[^"]*(?=")')
_BOUND_CLASS = re.compile(r'(?<=\("input_args": \[")railtracks\.[\w.]+(?=")')
"""The class that a class method is bound to."""


def _renamed(path: str, names: dict[str, str]) -> str:
    """Return a path with another name for the longest part of it that has one: a method is known by its class."""
    if path in names:
        return names[path]
    owner, dot, name = path.rpartition(".")
    return f"{_renamed(owner, names)}.{name}" if dot else path


def translate_types(types: str) -> str:
    """Return the list of types that stands in a record, with current names."""
    return " ".join(_CURRENT_TYPES.get(name, name) for name in types.split(" "))


def translate_node(key: str) -> str:
    """Return the key of a node that an earlier version recorded, with current names."""
    return _renamed_key(key, _CURRENT_NODES, _CURRENT_TYPES)


def translate_values(data: Any) -> Any:
    """Return plain data with current names in its marks; in place, where it can be changed."""
    if isinstance(data, list):
        data[:] = map(translate_values, data)
    elif isinstance(data, dict):
        for key, value in data.items():
            data[key] = translate_values(value)
        if "$type" in data:
            data["$type"] = _CURRENT.get(data["$type"], data["$type"])
    return data


def translate(members: dict[str, Any]) -> None:
    """Translate the names in an entry of a journal, or in the details of an edge, in place."""
    if isinstance(node := members.get("node"), str):
        members["node"] = translate_node(node)
    for name in ("input_types", "output_types"):
        if isinstance(types := members.get(name), str):
            members[name] = translate_types(types)
    for name in ("input_args", "input_kwargs", "output", "value"):
        if name in members:
            members[name] = translate_values(members[name])


def former_node(key: str) -> str:
    """Return the key under which version 2 recorded a node. Digests on record contain it."""
    return _renamed_key(key, _FORMER, _FORMER)


def _renamed_key(key: str, names: dict[str, str], types: dict[str, str]) -> str:
    if base := _NODE.match(key):
        key = _renamed(base[0], names) + _BOUND_CLASS.sub(lambda match: _renamed(match[0], names), key[base.end() :])
    return _BOUND_TYPES.sub(lambda match: " ".join(types.get(name, name) for name in match[0].split(" ")), key)


def shortened_types(types: Iterable[str], limit: int) -> str | None:
    """Return a list of types that is too long to be written in full; None if it is not.

    Length and checksum are those of the names that version 2 recorded, so that the lists it wrote are found again.
    """
    former = [_FORMER.get(name, name) for name in types]
    text = " ".join(former)
    if len(text) <= limit:
        return None
    checksum = crc32(text.encode("utf-8", "surrogatepass"))
    return translate_types(f"{text[:limit]}... {len(former)} in all, {checksum:08x}")
