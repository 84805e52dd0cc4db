"""What an agent is made of, and the digests by which a resumed run recognises it.

The digests are on record. They are made of the ``repr`` of schemas and messages: whatever changes that makes every
interrupted agent ask its model again (``tests/agents/test_digests.py`` pins them).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

from railtracks.agents._tools import Tool
from railtracks.llm._messages import SystemMessage
from railtracks.llm._model import Model, OutputSchema


@attrs.frozen(kw_only=True)
class AgentSpec:
    """What ``agent_node`` makes an agent of.

    Args:
        name: Its name.
        model: Its model.
        system: Its system message.
        tools: Its tools, by the names under which the model knows them.
        result_type: The type of the result's content; ``str`` for text.
        output: The schema of that type for the model. None for text.
        max_tool_calls: How many tool calls a run may make. None: any number.
        memo: False if its calls are not replayed.
    """

    name: str
    model: Model
    system: SystemMessage | None
    tools: Mapping[str, Tool]
    result_type: Any
    output: OutputSchema | None
    max_tool_calls: int | None
    memo: bool

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all that determines the answer to a request, except the conversation itself."""
        schemas = [tool.schema for tool in self.tools.values()]
        return digest(repr((self.model.provider, self.model.name, dict(self.model.settings), schemas, self.output)))


def digest(*texts: str) -> str:
    """Return a digest of texts that is the same in all processes."""
    return hashlib.blake2b("\n".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
