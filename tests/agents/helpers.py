"""Agents, models and tools that several files of this folder use."""

from __future__ import annotations

import anyio
import attrs

import railtracks as rt
from railtracks.llm import ToolMessage, UserMessage
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel


def asked(text):
    """Return a user's message as a history holds it, with its values filled in."""
    return UserMessage(text, inject_prompt=False)


def agent_of(*answers, name="Agent", **options):
    """Return an agent whose model answers this, and the model."""
    model = ScriptedModel(answers[0] if len(answers) == 1 and callable(answers[0]) else answers)
    return rt.agent_node(name, llm=model, **options), model


def tool_messages(model):
    """Return the results of tools in the latest request to the model."""
    return [message for message in model.calls[-1] if isinstance(message, ToolMessage)]


def records(session, name):
    """Return the records of the calls with this name."""
    return [record for record in session.info.records if record.name == name]


@rt.function_node
async def forecast(city: str) -> str:
    """The weather of tomorrow.

    Args:
        city: Where.
    """
    return f"snow in {city}"


def hello(name="Greeter"):
    """Return an agent that greets the last message."""
    return agent_of(lambda messages: f"Hello, {messages[-1].content}", name=name)[0]


def add(a: int, b: int = 1) -> int:
    """The sum."""
    return a + b


@attrs.frozen
class Place:
    name: str
    height: float


@rt.function_node
async def broken(why: str = "no") -> str:
    raise ValueError(why)


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def scripted(*answers, name="Agent", words=False, **options):
    """Return an agent whose model answers this; with ``words`` it streams each word by itself."""
    return rt.agent_node(name, llm=ScriptedModel(answers, words=words), **options)


async def texts_of(stream):
    """Return the texts of all chunks of a stream."""
    return [chunk.text async for chunk in stream if chunk.kind in ("text", "final")]


WORDS = "one two three four five"
PIECES = ["one", " two", " three", " four", " five"]


class Speaker(ScriptedModel):
    """A model that counts the pieces that it yielded, and how often its stream was closed.

    Args:
        between: Awaited before each piece but the first.
        fail: Raised after the pieces.
    """

    def __init__(self, pieces=PIECES, *, between=anyio.lowlevel.checkpoint, fail=None, name="speaker"):
        super().__init__(lambda _: "".join(pieces), name=name)
        self.pieces, self.between, self.fail = pieces, between, fail
        self.asked = 0
        self.closed = 0

    async def stream(self, messages, **options):
        completion = await self.complete(messages, **options)
        try:
            for number, piece in enumerate(self.pieces):
                if number:
                    await self.between()
                self.asked += 1
                yield piece
            if self.fail is not None:
                raise self.fail
            yield completion
        finally:
            self.closed += 1


def speaking(pieces=PIECES, *, name="Speaker", system_message=None, tool_nodes=(), **options):
    """Return an agent that streams these pieces, and its model, a `Speaker`."""
    model = Speaker(pieces, **options)
    return rt.agent_node(name, llm=model, system_message=system_message, tool_nodes=tool_nodes), model


async def forever():
    await anyio.sleep_forever()


def ends(session):
    """Return the status and the reason of each call, under its name."""
    return {record.name: (record.status, record.reason) for record in session.info.records}


CANCELLED = {
    "Speaker": (Status.CANCELLED, Reason.OUTSIDE),
    "chat speaker": (Status.CANCELLED, Reason.OUTSIDE),
}


class Left(Exception):
    pass
