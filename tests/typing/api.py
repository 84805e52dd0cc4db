"""What a type checker says about the public face. Never run: ``tests/test_typing.py`` gives it to mypy.

A line with ``type: ignore`` must be an error: mypy reports those that are not.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import railtracks as rt
from railtracks import testing
from railtracks.nodes import FunctionNode, Node
from railtracks.state import ExecutionInfo, Status


@rt.function_node
async def fetch(url: str, retries: int = 3) -> bytes:
    return url.encode() * retries


@rt.function_node(name="Length", abandon_on_cancel=False)
def length(data: bytes) -> int:
    return len(data)


async def plain(x: int) -> str:
    return str(x)


def plain_sync(x: int) -> str:
    return str(x)


class Greet(Node[str]):
    def __init__(self, who: str, *, loud: bool = False) -> None:
        self.who = who.upper() if loud else who

    async def invoke(self) -> str:
        return self.who


class Count(Node[int]):
    def __init__(self, text: str) -> None:
        self.text = text

    def invoke(self) -> int:
        return len(self.text)


class Owner:
    @rt.function_node
    async def method(self, x: int) -> str:
        return str(x)

    @rt.function_node(version="2")
    def in_thread(self, x: int) -> str:
        return str(x)


def make_greeting(who: str) -> Greet:
    return Greet(who)


# ---- function_node: the signature and the result are kept

as_node: FunctionNode[[bytes], int] = length
as_async_node: FunctionNode[[int], Coroutine[Any, Any, str]] = rt.function_node(plain)
as_named_node: FunctionNode[[int], str] = rt.function_node(name="x")(plain_sync)
assert_type(length(b""), int)
not_text: FunctionNode[[str], int] = length  # type: ignore[assignment]
length("text")  # type: ignore[arg-type]
rt.function_node(5)  # type: ignore[call-overload]
rt.function_node(plain, nam="x")  # type: ignore[call-overload]


# ---- call


async def calls() -> None:
    assert_type(await fetch("u"), bytes)
    assert_type(await rt.call(fetch, "u"), bytes)
    assert_type(await rt.call(fetch, "u", retries=1), bytes)
    assert_type(await rt.call(length, b""), int)
    assert_type(await rt.call(plain, 1), str)
    assert_type(await rt.call(plain_sync, 1), str)
    assert_type(await rt.call(Greet, "Ada", loud=True), str)
    assert_type(await rt.call(Count, "Ada"), int)
    assert_type(await rt.call(make_greeting, "Ada"), str)
    assert_type(await rt.call(partial(Greet, loud=True), "Ada"), str)
    assert_type(await rt.call(lambda: 1), int)
    assert_type(await rt.call(rt.Flow("Fetch", fetch), "u"), bytes)
    assert_type(await rt.call_batch(rt.Flow("Fetch", fetch), ["u"], return_exceptions=False), list[bytes])
    rt.call(rt.Flow("Fetch", fetch), 1)  # type: ignore[call-overload]
    assert_type(await rt.call(Owner().method, 1), str)
    assert_type(await rt.call(Owner.method, Owner(), 1), str)
    assert_type(Owner().in_thread(1), str)
    rt.call(Owner().method, "1")  # type: ignore[call-overload]
    await rt.call(fetch)  # type: ignore[call-overload]
    await rt.call(fetch, 5)  # type: ignore[call-overload]
    await rt.call(fetch, "u", retry=1)  # type: ignore[call-arg, arg-type]
    await rt.call(Greet, 5)  # type: ignore[call-overload]
    await rt.call(5)  # type: ignore[call-overload]
    await rt.call(fetch("u"))  # type: ignore[call-overload]


async def batches() -> None:
    assert_type(await rt.call_batch(fetch, ["u"]), list[bytes | BaseException])
    assert_type(await rt.call_batch(fetch, ["u"], [1], limit=2), list[bytes | BaseException])
    assert_type(await rt.call_batch(fetch, ["u"], return_exceptions=False), list[bytes])
    assert_type(await rt.call_batch(length, [b""]), list[int | BaseException])
    assert_type(await rt.call_batch(length, [b""], return_exceptions=False), list[int])
    assert_type(await rt.call_batch(Greet, ["Ada"]), list[str | BaseException])
    assert_type(await rt.call_batch(Count, ["Ada"], return_exceptions=False), list[int])
    await rt.call_batch(fetch, 5)  # type: ignore[call-overload]
    await rt.call_batch(fetch, ["u"], limit="2")  # type: ignore[call-overload]
    assert_type(await anext(rt.call_stream(fetch, ["u"])), bytes)
    assert_type(await anext(rt.call_stream(length, [b""], limit=2, ordered=False)), int)
    assert_type(await anext(rt.call_stream(Greet, ["Ada"], return_exceptions=True)), str | BaseException)
    rt.call_stream(fetch, 5)  # type: ignore[call-overload]


# ---- flows


async def flows() -> None:
    fetching = rt.Flow("Fetching", fetch, timeout=60, context={"a": 1}, logging_setting="INFO")
    assert_type(fetching.invoke("u"), bytes)
    assert_type(fetching.invoke("u", retries=1), bytes)
    assert_type(await fetching.ainvoke("u"), bytes)
    assert_type(rt.Flow("Length", length).invoke(b""), int)
    assert_type(await rt.Flow("Length", entry_point=length).ainvoke(b""), int)
    assert_type(rt.Flow("Plain", plain_sync).invoke(1), str)
    assert_type(rt.Flow("Greeting", Greet).invoke("Ada", loud=True), str)
    assert_type(await rt.Flow("Counting", Count).ainvoke("Ada"), int)
    connection = fetching.connect()
    assert_type(connection.invoke("u"), bytes)
    assert_type(await connection.ainvoke("u"), bytes)
    assert_type(connection.session, rt.Session)
    assert_type(fetching.update_context({"b": 2}).invoke("u"), bytes)
    fetching.invoke(5)  # type: ignore[arg-type]
    fetching.invoke()  # type: ignore[call-arg]
    await fetching.ainvoke("u", retry=1)  # type: ignore[call-arg]
    rt.Flow("Greeting", Greet).invoke(5)  # type: ignore[arg-type]
    rt.Flow("Fetching", fetch, time_out=1)  # type: ignore[call-overload]
    rt.Flow("Fetching", fetch, timeout="60")  # type: ignore[call-overload]


# ---- sessions


@rt.session
async def bare(x: int) -> str:
    return str(x)


@rt.session()
async def called(x: int) -> str:
    return str(x)


@rt.session(timeout=30, context={"a": 1}, name="main", log_file=Path("x.log"), run_identifier="mine", save_state=False)
async def configured(x: int) -> str:
    return str(x)


@rt.session  # type: ignore[arg-type]
def not_async(x: int) -> str:
    return str(x)


@rt.session(timeout="30")  # type: ignore[call-overload, untyped-decorator, unused-ignore]
async def wrong_option(x: int) -> str:
    return str(x)


async def sessions() -> None:
    as_function: Callable[[int], Coroutine[Any, Any, tuple[str, rt.Session]]] = bare
    assert_type(await as_function(1), tuple[str, rt.Session])
    assert_type(await bare(1), tuple[str, rt.Session])
    assert_type(await called(1), tuple[str, rt.Session])
    assert_type(await configured(1), tuple[str, rt.Session])
    await bare("x")  # type: ignore[arg-type]
    await configured()  # type: ignore[call-arg]
    async with rt.Session({"a": 1}, timeout=1, end_on_error=True) as session:
        assert_type(session, rt.Session)
        session.start_soon(fetch, "u")
        session.start_soon(Greet, "u")
    with rt.Session() as plain_session:
        assert_type(plain_session, rt.Session)
    assert_type(session.info, ExecutionInfo)
    assert_type(session.payload(), dict[str, Any])
    assert_type(session.identifier, str)
    assert_type(session.name, str | None)
    assert_type(session.executor_config, rt.ExecutorConfig)
    assert_type(session.executor_config.timeout, float)
    rt.Session(time_out=1)  # type: ignore[call-arg]
    rt.Session(timeout="1")  # type: ignore[arg-type]
    rt.Session(logging_setting="LOUD")  # type: ignore[arg-type]
    rt.Session("name")  # type: ignore[arg-type]
    session.identifier.nope()  # type: ignore[attr-defined]
    session.executor_config.timeout = 1.0  # type: ignore[misc]


def settings() -> None:
    rt.set_config(timeout=1, backend="trio", broadcast_callback=print, max_threads=4)
    rt.enable_logging("VERBOSE")
    assert_type(rt.session_id(), str | None)
    rt.set_config(time_out=1)  # type: ignore[call-arg]
    rt.set_config(max_threads="4")  # type: ignore[arg-type]
    rt.broadcast_sync({"done": 1})
    rt.broadcast_sync()  # type: ignore[call-arg]
    rt.enable_logging("LOUD")  # type: ignore[arg-type]


def views(info: ExecutionInfo) -> None:
    assert_type(info.name, str)
    assert_type(ExecutionInfo.load("x"), ExecutionInfo)
    assert_type(info.subset("x"), ExecutionInfo)
    assert_type(info.graph_serialization(), str)
    assert_type([edge.details.status for edge in info.insertion_requests], list[Status])
    info.session_id = "x"  # type: ignore[misc]


def context() -> None:
    assert_type(rt.context.get("a", None), Any)
    rt.context.put("a", 1)
    rt.context.put(1, 1)  # type: ignore[arg-type]


# ---- agents


def agents(model: rt.llm.Model) -> rt.AgentType[str]:
    manifest = rt.ToolManifest("Counts.", [rt.Parameter("what", int)])
    counter = rt.agent_node("Counter", llm=model, tool_nodes=[fetch, length, Greet], output_schema=Count)
    loose = rt.agent_node(llm=model, output_schema=int | None, output_mode="tool", manifest=manifest)
    rt.agent_node(llm=model, timeout=5, retries=rt.Retry(attempts=2), limit=3, cache=rt.Cache(ttl=60))
    rt.agent_node(llm=model, retries="3")  # type: ignore[call-overload]
    flow = rt.Flow("Counting", counter)
    assert_type(flow.invoke("a").content, Count)
    assert_type(loose("a"), rt.AgentNode[Any])
    assert_type(rt.llm.ScriptedModel, Any)  # type: ignore[attr-defined]
    flow.invoke(3)  # type: ignore[arg-type]
    assert_type(rt.agent_node("no model"), rt.AgentType[str])
    rt.agent_node(llm=[model, model], retries=1, system_message=lambda: "Be brief.")
    rt.agent_node(llm="gpt-5")  # type: ignore[arg-type]
    rt.nonexistent()  # type: ignore[attr-defined]
    return rt.agent_node(llm=model, system_message="You are {who}.", tool_nodes=[counter, loose])


async def models_for_tests(model: rt.llm.Model) -> None:
    script = testing.ScriptedModel([testing.answer("a", usage=rt.llm.Usage(1, 2), max_tokens=3)])
    models: list[rt.llm.Model] = [script, testing.Cassette("a.json", model, mode="anew"), testing.faults.Model(script)]
    agents(testing.faults.Model(models[0], {1: "cut"}, chances={"lost": 0.5}))
    testing.faults.Model(script, {1: "cuts"})  # type: ignore[dict-item]
    testing.Cassette("a.json", mode="all")  # type: ignore[arg-type]
    await testing.conformance.check(testing.ScriptedModel)
    await testing.conformance.check(lambda answers: testing.ScriptedModel(answers), only="answers")
    found = await testing.evaluation.evaluate([agents(model)], [testing.evaluation.Case("a")], [length])
    assert_type(found.mean("a", "b"), float | None)


@rt.function_node
async def dependent(name: str, other: int = rt.Depends("other"), made: str = rt.Depends(str, key="made")) -> str:
    return name * other + made


async def depending() -> None:
    assert_type(await rt.call(dependent, "a"), str)
    await dependent("a", other="b")  # type: ignore[arg-type]
    rt.Depends(3)  # type: ignore[arg-type]


async def asking(agent: rt.AgentType[str]) -> None:
    response = await rt.call(agent, "Hello")
    assert_type(response, rt.LLMResponse[str])
    await rt.call(agent, [*response.message_history, rt.llm.UserMessage("And then?")])
    await rt.call(agent, user_input=rt.llm.UserMessage("Hello"))
    attached = [rt.llm.Image("photo.png"), rt.llm.Audio(b"..."), rt.llm.Document(url="https://a/b.pdf", name="b.pdf")]
    await rt.call(agent, rt.llm.UserMessage("Hello", attachments=attached))
    await rt.call(agent, 3)  # type: ignore[call-overload]
    assert_type(await rt.call(agent.options(timeout=5, retries=0), "Hello"), rt.LLMResponse[str])
    assert_type(await rt.call(agent.options(temperature=0, llm=None), "Hello"), rt.LLMResponse[str])
    agent.options(retries="0")  # type: ignore[arg-type]
    await rt.call(agent.options(retries=0), 3)  # type: ignore[call-overload]
    assert_type(await rt.call_batch(agent, ["a"], return_exceptions=False), list[rt.LLMResponse[str]])
    async for chunk in rt.astream(agent, "Hello"):
        assert_type(chunk.text, str)
    stream: rt.Stream = rt.astream(agent, "Hello")
    await stream.aclose()
    assert_type(await rt.ask("Sure?"), Any)
