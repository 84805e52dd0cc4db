"""Drawn agents: scenarios as data, the flows that they are, and what must come of them if nothing goes wrong.

A scripted model answers by what it is sent alone, so the same scenario can run any number of times. ``expected`` is a
second, sequential implementation of agents, without any of the library's code but for its messages.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anyio
import attrs
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import FatalError, LLMError
from railtracks.llm import AssistantMessage, ToolMessage, UserMessage
from railtracks.testing import ScriptedModel, tool_call
from railtracks.testing._trace import ReprAsCode

ran: Counter[str] = Counter()
"""What really ran since it was cleared: requests to models and tools, by name."""


@attrs.frozen
class Verdict:
    text: str
    count: int


# ---- scenarios


@attrs.frozen(repr=False)
class Say(ReprAsCode):
    """The model gives an answer; with an output schema, a JSON text that fits, does not fit, or is none at all."""

    how: str = "good"
    delay: int = 0


@attrs.frozen(repr=False)
class Use(ReprAsCode):
    """The model asks for tools, each with a number."""

    calls: tuple[tuple[str, int], ...]
    text: str = ""
    delay: int = 0


@attrs.frozen(repr=False)
class Scenario(ReprAsCode):
    """An agent; those that it has as tools are called by their names."""

    name: str = "A0"
    turns: tuple[Say | Use, ...] = ()
    agents: tuple[Scenario, ...] = ()
    schema: bool = False
    limit: int | None = None

    @property
    def nodes(self) -> list[str]:
        """The names of what it calls."""
        return [f"chat {self.name}", *TOOLS, *(name for below in self.agents for name in [below.name, *below.nodes])]


UNKNOWN, MISFIT = "unknown", "misfit"
KINDS = ["echo", "sync", "sleep", "fail", "fatal", "put", "many", UNKNOWN, MISFIT]


@st.composite
def scenarios(draw: st.DrawFn, kinds: Any = tuple(KINDS), depth: int = 2, path: str = "0") -> Scenario:
    """Agents that have up to two others as tools, which have others again. They shrink to one that just answers."""
    count = draw(st.integers(0, 2)) if depth else 0
    agents = tuple(draw(scenarios(kinds, depth - 1, f"{path}{place}")) for place in range(count))
    names = [*kinds, *(agent.name for agent in agents), *(agent.name for agent in agents)]
    calls = st.lists(st.tuples(st.sampled_from(names), st.integers(0, 3)), min_size=1, max_size=3).map(tuple)
    delays = st.sampled_from([0, 0, 1])
    schema = draw(st.booleans())
    say = st.builds(Say, st.sampled_from(["good", "misfit", "none"]), delays)
    use = st.builds(Use, calls, st.sampled_from(["", "Let me see."]), delays)
    turns = draw(st.lists(st.one_of(use, use, say) if schema else use, max_size=3).map(tuple))
    return Scenario(f"A{path}", turns, agents, schema, draw(st.sampled_from([None, None, 0, 1, 3])))


# ---- the tools


@rt.function_node
async def echo(x: int) -> str:
    ran["echo"] += 1
    return f"echo {x}"


@rt.function_node(abandon_on_cancel=False)
def sync(x: int) -> str:
    ran["sync"] += 1
    return f"sync {x}"


@rt.function_node
async def sleep(x: int) -> str:
    ran["sleep"] += 1
    await anyio.sleep(x)
    return f"slept {x}"


@rt.function_node
async def fail(x: int) -> str:
    ran["fail"] += 1
    await anyio.sleep(x)
    raise ValueError(f"failed {x}")


@rt.function_node
async def fatal(x: int) -> str:
    ran["fatal"] += 1
    await anyio.sleep(x)
    raise FatalError(f"fatal {x}")


@rt.function_node
async def put(x: int) -> str:
    ran["put"] += 1
    rt.context.put("name", f"changed{x}")  # which is in the prompts, but those were filled before
    return "{name} {{name}}"


@rt.function_node
async def many(x: int) -> list[int]:
    ran["many"] += 1
    return list(range(x))


TOOLS = {tool.name: tool for tool in (echo, sync, sleep, fail, fatal, put, many)}


# ---- the model


def answer(scenario: Scenario, messages: list[Any]) -> tuple[Say | Use, Any]:
    """What the model answers to these messages: what it does, and a text, or a text and the tools it asks for."""
    turn = sum(isinstance(message, AssistantMessage) for message in messages)
    does = scenario.turns[turn] if turn < len(scenario.turns) else Say()
    if isinstance(does, Use):
        return does, (does.text, [("echo" if name == MISFIT else name, name, x) for name, x in does.calls])
    told = [message.content for message in messages if isinstance(message, ToolMessage) and not message.is_error]
    asked = next(message.content for message in messages if isinstance(message, UserMessage))
    text = f"{scenario.name} says: {asked}; {', '.join(told)}"
    if scenario.schema:
        fits: Any = {"good": len(told), "misfit": "no number"}.get(does.how)
        text = "no JSON" if fits is None else json.dumps({"text": text, "count": fits})
    return does, text


def arguments(scenario: Scenario, name: str, x: int) -> dict[str, Any]:
    if name == MISFIT:
        return {"y": x}
    return {"request": f"{x} for {{name}}"} if name in {agent.name for agent in scenario.agents} else {"x": x}


def agent_of(scenario: Scenario, **options: Any) -> Any:
    """The agent. ``options``: for ``rt.agent_node``, of the outermost."""

    async def respond(messages: Any) -> Any:
        ran[f"chat {scenario.name}"] += 1
        does, said = answer(scenario, messages)
        await anyio.sleep(does.delay)
        if isinstance(said, str):
            return said
        text, calls = said
        return [text, *(tool_call(name, **arguments(scenario, kind, x)) for name, kind, x in calls)]

    return rt.agent_node(
        scenario.name,
        **{
            "llm": ScriptedModel(respond, name=scenario.name),
            "system_message": "You are {name}.",
            "tool_nodes": [*TOOLS.values(), *map(agent_of, scenario.agents)],
            "output_schema": Verdict if scenario.schema else None,
            "max_tool_calls": scenario.limit,
            **options,
        },
    )


# ---- what must come of it


@attrs.define
class Expected:
    """What comes of a scenario when nothing is injected and no time runs out."""

    content: Any = None
    text: str = ""
    history: list[tuple[Any, ...]] = attrs.field(factory=list)
    duration: float = 0.0
    error: type[Exception] | None = None
    """What leaves the agent."""
    errors: bool = False
    """Something fails below it, or itself."""
    chunks: str = ""
    """What it says while it is streamed, in the order in which it does; without those below it."""


def line(message: Any) -> tuple[Any, ...]:
    """What of a message is known in advance; the wording of errors is not."""
    if isinstance(message, AssistantMessage):
        return "assistant", message.content, tuple((call.name, str(call.arguments)) for call in message.tool_calls)
    if isinstance(message, ToolMessage):
        return "tool", message.name, None if message.is_error else message.content
    known = not message.content.startswith("That is not")
    return "user", message.content if known else None


SIMPLE = {"echo": "echo {}", "sync": "sync {}", "sleep": "slept {}", "put": "{{name}} {{{{name}}}}"}


def expected(scenario: Scenario, asked: str) -> Expected:
    """Runs the scenario, one thing after the other."""
    it, used, repairs = Expected(), 0, 0
    messages: list[Any] = [UserMessage(asked)]
    while True:
        does, said = answer(scenario, messages)
        it.duration += does.delay
        text, calls = (said, []) if isinstance(said, str) else said
        it.chunks += text
        asked_for = [rt.llm.ToolCall("", name, arguments(scenario, kind, x)) for name, kind, x in calls]
        messages.append(AssistantMessage(text, asked_for))
        good = isinstance(does, Use) or not scenario.schema or does.how == "good"
        if calls and scenario.limit is not None:
            good = used < scenario.limit
        if not good and repairs == 2:
            it.error, it.errors = LLMError, True
            return it
        repairs += not good
        if not calls and good:
            it.text, it.history = text, list(map(line, messages))
            it.content = Verdict(**json.loads(text)) if scenario.schema else text
            return it
        if not calls:
            messages.append(UserMessage("That is not ..."))
            continue
        longest, fatal_ones = 0.0, []
        for name, kind, x in calls:
            result, seconds = None, 0.0
            if scenario.limit is None or used < scenario.limit:
                used += 1
                result, seconds, error, errors = run_tool(scenario, kind, x)
                it.errors |= errors
                if error is FatalError:
                    fatal_ones.append(seconds)
            longest = max(longest, seconds)
            messages.append(ToolMessage(result or "", "", name, is_error=result is None))
        it.duration += min(fatal_ones, default=longest)
        if fatal_ones:
            it.error = FatalError
            return it


def run_tool(scenario: Scenario, kind: str, x: int) -> tuple[str | None, float, type[Exception] | None, bool]:
    """The text of its result, the seconds that it takes, what it raises, and whether anything failed."""
    if kind in (UNKNOWN, MISFIT):
        return None, 0.0, None, False
    if kind in ("fail", "fatal"):
        return None, float(x), ValueError if kind == "fail" else FatalError, True
    if kind == "many":
        return json.dumps(list(range(x))), 0.0, None, False
    if kind in SIMPLE:
        return SIMPLE[kind].format(x), float(x) if kind == "sleep" else 0.0, None, False
    below = next(agent for agent in scenario.agents if agent.name == kind)
    it = expected(below, f"{x} for {{name}}")
    return None if it.error else it.text, it.duration, it.error, it.errors
