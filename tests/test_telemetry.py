"""Spans of OpenTelemetry: one for a session and one for each call, as the SDK exports them."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

import railtracks as rt
from railtracks._identifiers import index_of
from railtracks._session._life import open_sessions
from railtracks._telemetry import _opening
from railtracks._telemetry._spans import SessionSpans
from railtracks.cli._otlp import otlp_request
from railtracks.exceptions import ConfigError, GlobalTimeOutError
from railtracks.execution._lifecycle import Phase
from railtracks.state import Status
from railtracks.testing import check, simulate, tool_call
from railtracks.testing.strategies import fault_plans, flows, seeds, session_options
from tests.agents.helpers import agent_of, forecast
from tests.effort import examples

SECRET = "sk-4f8a1c2e9b7d6053"
SECRET_WORD = "tok-9f8e7d6c5b4a3210-ZZ"
"""It is not recognised as a secret where it is not known."""
EXPORTER = InMemorySpanExporter()
PROVIDER = TracerProvider(shutdown_on_exit=False)
PROVIDER.add_span_processor(SimpleSpanProcessor(EXPORTER))
user = PROVIDER.get_tracer("user")


@pytest.fixture(autouse=True)
def provider(monkeypatch):
    """The provider of the program, which it can set only once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", PROVIDER)
    monkeypatch.setenv("RAILTRACKS_TRACING", "1")
    EXPORTER.clear()


def spans():
    return EXPORTER.get_finished_spans()


def tree():
    """The names of the spans, each with that of its parent, in the order of their ends."""
    names = {span.context.span_id: span.name for span in spans()}
    return [(span.name, None if span.parent is None else names[span.parent.span_id]) for span in spans()]


def named(name):
    [found] = [span for span in spans() if span.name == name]
    return found


@rt.function_node
async def leaf(x=0):
    return x


@rt.function_node
def threaded(x):
    return rt.call_sync(leaf, x)


@rt.function_node
async def fails(text="no"):
    raise LookupError(text)


@rt.function_node
async def hangs():
    await anyio.sleep_forever()


def nanoseconds(time):
    return round(time * 1e9)


def is_current(name):
    span = trace.get_current_span()
    assert isinstance(span, ReadableSpan)
    return span.name == name


# ---- parents


async def test_each_call_is_a_child_of_its_caller(backend):
    @rt.function_node
    async def top():
        assert is_current("top")
        await rt.call(threaded, 1)
        await rt.call_batch(leaf, range(3))
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, leaf, 7)
        assert is_current("top")

    with user.start_as_current_span("request"):
        async with rt.Session(name="Shop") as session:
            assert is_current("session Shop")
            await rt.call(top)
            handle = session.start_soon(threaded, 2)
            await handle.wait()
            assert is_current("session Shop")
        assert is_current("request")
    assert Counter(tree()) == {
        ("request", None): 1,
        ("session Shop", "request"): 1,
        ("top", "session Shop"): 1,
        ("threaded", "top"): 1,
        ("threaded", "session Shop"): 1,
        ("leaf", "threaded"): 2,
        ("leaf", "top"): 4,
    }
    assert len({span.context.trace_id for span in spans()}) == 1


def test_calls_in_gathered_tasks_have_their_caller():
    @rt.function_node
    async def top():
        await asyncio.gather(rt.call(leaf), rt.call(threaded, 1))

    rt.Flow("Gather", top, backend="asyncio").invoke()
    expected = [("leaf", "top"), ("leaf", "threaded"), ("threaded", "top"), ("top", "flow Gather")]
    assert Counter(tree()) == Counter([*expected, ("flow Gather", None)])


def test_synchronous_code_has_parents_too(backend):
    with rt.Session(backend=backend), user.start_as_current_span("mine"):
        rt.call_sync(threaded, 1)
        assert is_current("mine")
    assert tree() == [("leaf", "threaded"), ("threaded", "mine"), ("mine", "session"), ("session", None)]
    assert not trace.get_current_span().get_span_context().is_valid


async def test_spans_of_other_libraries_stand_between_calls(backend):
    @rt.function_node
    def in_a_thread():
        with user.start_as_current_span("select"):
            return rt.call_sync(leaf)

    @rt.function_node
    async def top():
        with user.start_as_current_span("get"):
            await rt.call(in_a_thread)
            await rt.call_batch(leaf, [1])

    await rt.Flow("Flow", top).ainvoke()
    assert Counter(tree()) == Counter(
        [("leaf", "select"), ("select", "in_a_thread"), ("in_a_thread", "get"), ("leaf", "get"), ("get", "top"),
         ("top", "flow Flow"), ("flow Flow", None)]
    )  # fmt: skip


async def test_a_call_that_is_made_elsewhere_has_its_session(backend):
    async with rt.Session() as session:
        token = context.attach(context.Context())
        await session.call(leaf)
        context.detach(token)
    assert tree() == [("leaf", "session"), ("session", None)]


async def test_a_session_within_a_call_is_its_child(backend):
    @rt.function_node
    async def top():
        async with rt.Session(name="inner"):
            await rt.call(leaf)

    await rt.Flow("Outer", top).ainvoke()
    assert ("session inner", "top") in tree()
    assert ("leaf", "session inner") in tree()


async def test_a_value_that_is_recorded_leaves_the_span_current(backend):
    @rt.function_node
    async def top():
        rt.now()
        assert is_current("top")
        await rt.call(leaf)

    await rt.Flow("Flow", top).ainvoke()
    assert ("leaf", "top") in tree()
    assert ("now", "top") in tree()


async def test_another_process_goes_on_with_the_trace(backend):
    headers: dict[str, str] = {}

    @rt.function_node
    async def sends():
        propagate.inject(headers)

    await rt.Flow("Here", sends).ainvoke()
    token = context.attach(propagate.extract(headers, context.Context()))
    await rt.Flow("There", leaf).ainvoke()
    context.detach(token)
    there, sender = named("flow There"), named("sends")
    assert there.parent.is_remote
    assert (there.parent.trace_id, there.parent.span_id) == (sender.context.trace_id, sender.context.span_id)


async def reads():
    async with rt.Session(name="reader"):
        await rt.call(leaf)
        yield 1


async def leave_elsewhere(session):
    """Enter a session here, and leave it in another task."""

    async def leave():
        session.__exit__(None, None, None)

    session.__enter__()
    async with anyio.create_task_group() as group:
        group.start_soon(leave)


async def test_a_session_that_was_left_elsewhere_has_no_children(backend):
    with user.start_as_current_span("request"):
        await leave_elsewhere(rt.Session(name="first"))
        await leave_elsewhere(rt.Session(name="second"))
        assert is_current("session second")
        await rt.Flow("Next", leaf).ainvoke()
        assert is_current("request")
        await leave_elsewhere(rt.Session(name="third"))
        with user.start_as_current_span("mine"):
            await rt.Flow("Last", leaf).ainvoke()
    assert {name: parent for name, parent in tree() if name != "leaf"} == {
        "session first": "request", "session second": "request", "flow Next": "request",
        "session third": "request", "mine": "session third", "flow Last": "mine", "request": None,
    }  # fmt: skip


def test_a_generator_that_is_not_read_to_its_end_has_no_children():
    async def main():
        async for _ in reads():
            break
        gc.collect()
        while "session reader" not in {span.name for span in spans()}:
            await asyncio.sleep(0)
        await rt.Flow("Next", leaf).ainvoke()

    asyncio.run(main())
    assert named("flow Next").parent is None


# ---- what a span says


async def test_a_span_describes_its_call(backend):
    async with rt.Session(run_identifier="monday"):
        await rt.call(leaf, 5)
    span = named("leaf")
    code = leaf.func.__code__
    assert dict(span.attributes) == {
        "railtracks.session_id": "monday",
        "railtracks.run_id": "monday-r0",
        "railtracks.node_id": "monday-n0",
        "railtracks.node.type": "Tool",
        "railtracks.node.key": "tests.test_telemetry.leaf",
        "railtracks.attempt": 1,
        "railtracks.status": "Completed",
        "code.function.name": "tests.test_telemetry.leaf",
        "code.file.path": code.co_filename,
        "code.line.number": code.co_firstlineno,
    }
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope.name == "railtracks"


async def test_spans_have_the_times_of_the_records(backend):
    @rt.function_node
    async def slow():
        await anyio.sleep(5)

    async with rt.Session() as session:
        await rt.call(slow)
    [record] = session.info.records
    span = named("slow")
    assert (span.start_time, span.end_time) == (nanoseconds(record.started), nanoseconds(record.ended))
    assert span.end_time - span.start_time == pytest.approx(5e9, abs=1e6)
    root = named("session")
    assert (root.start_time, root.end_time) == (
        nanoseconds(session.info.start_time), nanoseconds(session.info.end_time),
    )  # fmt: skip


@pytest.mark.parametrize("saved", [True, False])
async def test_values_are_off_unless_they_are_asked_for(backend, saved):
    @rt.function_node
    async def login(user, password):
        await rt.broadcast({"token": password})
        return {"user": user, "token": password}

    for tracing in (True, "values"):
        async with rt.Session(tracing=tracing, save_state=saved):
            await rt.call(login, "ada", SECRET)
    plain, valued = (span for span in spans() if span.name == "login")
    assert "railtracks.arguments" not in plain.attributes
    assert "railtracks.result" not in plain.attributes
    assert [(event.name, dict(event.attributes)) for event in plain.events] == [("railtracks.broadcast", {})]
    assert valued.attributes["railtracks.arguments"] == '"ada", "***"'
    assert valued.attributes["railtracks.result"] == '{"user": "ada", "token": ***}'
    assert dict(valued.events[0].attributes) == {"railtracks.item": '{"token": ***}'}
    assert SECRET not in "".join(span.to_json() for span in spans())


async def test_a_broadcast_outside_of_calls_is_the_sessions(backend):
    async with rt.Session():
        await rt.broadcast("ready")
    assert [event.name for event in named("session").events] == ["railtracks.broadcast"]


async def test_names_are_text_that_can_be_encoded(backend):
    async with rt.Session(tracing="values"):
        await rt.call(rt.function_node(leaf.func, name="x\ud800"), "y\ud800")
    for span in spans():
        span.to_json().encode()
        for text in (span.name, *span.attributes.values()):
            str(text).encode()


async def test_a_secret_in_the_name_of_a_session_is_masked(backend):
    @rt.function_node
    async def login(password):
        pass

    await rt.Flow(f"for {SECRET_WORD}", login, run_identifier="login").ainvoke(SECRET_WORD)
    root = named("flow for ***")
    assert root.attributes["railtracks.flow.name"] == "for ***"
    assert SECRET_WORD not in "".join(span.to_json() for span in spans())


# ---- how calls end


async def test_a_failure_has_its_status_and_its_exception(backend):
    @rt.function_node
    async def top():
        await rt.call(fails, f"the key password={SECRET} is wrong")

    with pytest.raises(LookupError):
        async with rt.Session():
            await rt.call(top)
    for name in ("fails", "top", "session"):
        span = named(name)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "LookupError: the key password=*** is wrong"
        assert span.attributes["error.type"] == "LookupError"
    assert named("fails").attributes["railtracks.status"] == "Failed"
    [event] = named("fails").events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "LookupError"
    assert event.attributes["exception.message"] == "the key password=*** is wrong"
    assert event.attributes["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert SECRET not in "".join(span.to_json() for span in spans())


async def test_the_traceback_is_where_it_was_raised(backend):
    @rt.function_node
    async def middle():
        await rt.call(fails)

    @rt.function_node
    async def top():
        await rt.call(middle)

    with pytest.raises(LookupError):
        await rt.Flow("Flow", top).ainvoke()
    traced = {name: "exception.stacktrace" in named(name).events[0].attributes for name in ("fails", "middle", "top")}
    assert traced == {"fails": True, "middle": False, "top": True}


async def test_a_failure_that_was_handled_is_that_of_its_call_alone(backend):
    @rt.function_node
    async def top():
        with pytest.raises(LookupError):
            await rt.call(fails)

    await rt.Flow("Flow", top).ainvoke()
    codes = {span.name: span.status.status_code for span in spans()}
    assert codes == {"fails": StatusCode.ERROR, "top": StatusCode.UNSET, "flow Flow": StatusCode.UNSET}


async def test_a_timeout_is_an_error(backend):
    @rt.function_node
    async def top():
        await rt.call(hangs)

    with pytest.raises(GlobalTimeOutError):
        await rt.Flow("Flow", top, timeout=5).ainvoke()
    for name in ("hangs", "top", "flow Flow"):
        span = named(name)
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "timeout"
    assert named("hangs").attributes["railtracks.cancelled.reason"] == "timeout"


async def test_a_cancellation_on_purpose_is_no_error(backend):
    @rt.function_node
    async def top():
        with anyio.move_on_after(1):
            await rt.call(hangs)

    async with rt.Session() as session:
        await rt.call(top)
        handle = session.start_soon(hangs)
        await anyio.sleep(1)
        handle.cancel()
    reasons = [span.attributes["railtracks.cancelled.reason"] for span in spans() if span.name == "hangs"]
    assert reasons == ["outside", "handle"]
    assert {span.status.status_code for span in spans()} == {StatusCode.UNSET}


async def test_the_error_of_another_call_is_an_error(backend):
    with pytest.raises(LookupError):
        async with rt.Session(end_on_error=True) as session:
            session.start_soon(hangs)
            await anyio.sleep(1)
            await rt.call(fails)
    span = named("hangs")
    assert span.attributes["railtracks.cancelled.reason"] == span.attributes["error.type"] == "end_on_error"
    assert span.status.status_code is StatusCode.ERROR


async def test_an_error_of_the_body_is_the_sessions(backend):
    with pytest.raises(ZeroDivisionError):
        async with rt.Session():
            raise ZeroDivisionError
    assert named("session").attributes["error.type"] == "ZeroDivisionError"


async def test_a_session_that_cannot_be_entered_ends_its_span(backend):
    with pytest.raises(rt.exceptions.RunNotFoundError):
        async with rt.Session(resume="nothing"):
            pass
    assert named("session").status.status_code is StatusCode.ERROR


class Unspeakable(Exception):
    """Its message raises."""

    def __init__(self, kind):
        self.kind = kind

    def __str__(self):
        raise self.kind


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_failure_that_cannot_be_described_comes_out(kind):
    with pytest.raises(Unspeakable), rt.Session(save_state=False) as session:
        raise Unspeakable(kind)
    assert session._lifecycle.phase is Phase.OVER
    assert id(session) not in open_sessions
    assert named("session").status.status_code is StatusCode.ERROR
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_values_that_cannot_be_described_change_nothing(backend, kind):
    class Odd:
        def __repr__(self):
            raise kind

    @rt.function_node
    async def passes(x):
        await rt.broadcast(x)
        return x

    async with rt.Session(tracing="values", save_state=False, logging_setting="NONE"):
        assert isinstance(await rt.call(passes, Odd()), Odd)
    assert tree() == [("passes", "session"), ("session", None)]


# ---- agents


async def test_agents_are_named_by_the_conventions(backend):
    Weather, _ = agent_of([tool_call("forecast", city="Oslo")], "Snow.", name="Weather", tool_nodes=[forecast])
    await rt.Flow("Flow", Weather).ainvoke("Do I need a coat?")
    assert tree() == [
        ("chat scripted", "invoke_agent Weather"),
        ("execute_tool forecast", "invoke_agent Weather"),
        ("chat scripted", "invoke_agent Weather"),
        ("invoke_agent Weather", "flow Flow"),
        ("flow Flow", None),
    ]
    chat, tool, _, agent, _ = (dict(span.attributes) for span in spans())
    assert spans()[0].kind is SpanKind.CLIENT
    assert {name: value for name, value in chat.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": False,
        "gen_ai.response.model": "scripted",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 0,
    }
    assert {name: value for name, value in tool.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "forecast",
        "gen_ai.tool.type": "function",
    }
    assert agent["gen_ai.operation.name"] == "invoke_agent"
    assert agent["gen_ai.agent.name"] == "Weather"
    assert agent["gen_ai.usage.input_tokens"] > 5


async def test_numbers_that_otlp_cannot_hold_are_texts(backend):
    Agent, model = agent_of("Yes.")
    model.settings = {"seed": 2**70, "n": 2**63 - 1, "temperature": math.nan, "top_p": 0.5, "bias": [1, 2**63]}
    await rt.Flow("Flow", Agent).ainvoke("?")
    chat = named("chat scripted").attributes
    assert chat["gen_ai.request.seed"] == "1180591620717411303424"
    assert chat["gen_ai.request.choice.count"] == 2**63 - 1
    assert (chat["gen_ai.request.temperature"], chat["gen_ai.request.top_p"]) == ("nan", 0.5)
    assert chat["railtracks.request.bias"] == ("1", "9223372036854775808")


async def test_instructions_are_values(backend):
    Agent, _ = agent_of(lambda messages: "Yes.", system_message="Tell nobody.")
    await rt.Flow("Flow", Agent).ainvoke("?")
    assert "nobody" not in "".join(span.to_json() for span in spans())
    EXPORTER.clear()
    await rt.Flow("Flow", Agent, tracing="values").ainvoke("?")
    assert "Tell nobody." in str(named("invoke_agent Agent").attributes["gen_ai.system_instructions"])


class Opener(rt.nodes.Node):
    """An agent that opens a session: a step of its run, in which no code runs."""

    async def invoke(self):
        async with rt.Session(name="inner"):
            pass

    @classmethod
    def type(cls):
        return "Agent"


async def test_a_session_that_an_agent_opens_is_a_tool_of_it(backend):
    flow = rt.Flow("Flow", Opener)
    await flow.ainvoke()
    live = dict(named("execute_tool inner").attributes)
    [exported] = [
        span for span in otlp_request(flow.last)["resourceSpans"][0]["scopeSpans"][0]["spans"]
        if span["name"] == "execute_tool inner"
    ]  # fmt: skip
    assert live["gen_ai.operation.name"] == "execute_tool"
    assert live["gen_ai.tool.name"] == "inner"
    assert live.keys() == {each["key"] for each in exported["attributes"]}


async def test_streamed_agents_have_their_parents(backend):
    Agent, _ = agent_of("A long story.", name="Teller")

    @rt.function_node
    async def top():
        with user.start_as_current_span("loop"):
            return [chunk.text async for chunk in rt.astream(Agent, "Tell me")]

    await rt.Flow("Flow", top).ainvoke()
    assert tree() == [
        ("chat scripted", "invoke_agent Teller"), ("invoke_agent Teller", "loop"), ("loop", "top"),
        ("top", "flow Flow"), ("flow Flow", None),
    ]  # fmt: skip
    assert spans()[0].attributes["gen_ai.request.stream"] is True


# ---- runs that go on


@rt.function_node
async def step(n):
    if n == 2 and rt.context.get("fails", default=False):
        raise LookupError
    return n


@rt.function_node
async def steps():
    return [await rt.call(step, n) for n in range(3)]


async def test_a_resumed_run_links_to_the_earlier_one(backend):
    with pytest.raises(LookupError):
        async with rt.Session({"fails": True}, run_identifier="steps", name="S"):
            await rt.call(steps)
    first = named("session S").context
    EXPORTER.clear()
    async with rt.Session(resume="steps", name="S") as session:
        assert await rt.call(steps) == [0, 1, 2]
    assert session.resumes == "steps"
    root = named("session S")
    [link] = root.links
    assert (link.context.trace_id, link.context.span_id) == (first.trace_id, first.span_id)
    assert link.attributes == {"railtracks.link": "resumes"}
    *reused, ran = (span for span in spans() if span.name == "step")
    assert [span.attributes["railtracks.reused"] for span in reused] == [True, True]
    assert [span.end_time - span.start_time for span in reused] == [0, 0]
    assert "railtracks.reused" not in ran.attributes
    assert spans()[0].start_time >= root.start_time


async def test_the_span_of_a_session_is_on_record(backend):
    async with rt.Session(run_identifier="monday") as session:
        await rt.call(leaf)
    where = named("session").context
    expected = f"00-{where.trace_id:032x}-{where.span_id:016x}-{where.trace_flags:02x}"
    assert session.info.traceparent == rt.state.load_run("monday").traceparent == expected
    async with rt.Session(run_identifier="tuesday", tracing=False) as session:
        await rt.call(leaf)
    assert session.info.traceparent is None
    assert "traceparent" not in session.info.payload()


KILLED = """
import os, signal, sys
import railtracks as rt
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

trace.set_tracer_provider(TracerProvider())

@rt.function_node
async def top():
    where = trace.get_current_span().parent
    print(f"{where.trace_id:032x}-{where.span_id:016x}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

rt.Flow("Killed", top, run_identifier="killed", tracing=True).invoke()
"""


@pytest.mark.either_backend
async def test_a_resumed_run_links_to_one_that_was_killed(backend):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    async with rt.Session(resume="killed"):
        await rt.call(leaf)
    [link] = named("session").links
    assert f"{link.context.trace_id:032x}-{link.context.span_id:016x}" == done.stdout.strip()


@pytest.mark.parametrize("text", ["", "00-xyz-1-01", "nothing"])
async def test_a_damaged_traceparent_is_no_link(backend, text, monkeypatch):
    async with rt.Session(run_identifier="steps", tracing=False):
        await rt.call(steps)
    info = rt.state.load_run("steps")
    path = Path(".railtracks/steps.json")
    object.__setattr__(info, "traceparent", text)
    info.save(path)
    async with rt.Session(resume="steps"):
        await rt.call(steps)
    assert named("session").links == ()


# ---- on and off


async def test_without_a_provider_there_are_no_spans(backend, monkeypatch, caplog):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(_opening, "_has_warned", False)
    for _ in range(2):
        async with rt.Session(logging_setting="REGULAR") as session:
            await rt.call(leaf)
            assert session._coordinator.call_log.spans is None
    assert session.info.traceparent is None
    assert caplog.text.count("no tracer provider is") == 1


@pytest.mark.parametrize("made", [trace.NoOpTracerProvider, lambda: TracerProvider(shutdown_on_exit=False)])
async def test_a_provider_that_is_switched_off_makes_no_spans(backend, monkeypatch, made):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made())
    async with rt.Session() as session:
        await rt.call(leaf)
        assert session._coordinator.call_log.spans is None
    assert session.info.traceparent is None


async def test_warnings_are_shown_once_in_traced_sessions(backend):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            async with rt.Session():
                warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in caught] == ["mine"]


def test_off_is_the_default(monkeypatch, backend):
    monkeypatch.delenv("RAILTRACKS_TRACING")
    rt.Flow("Flow", leaf, backend=backend).invoke()
    assert spans() == ()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigError, match=r"python -m pip install '\.\[otel\]'"):
        rt.Session()


def test_nothing_of_it_is_imported_without_need():
    code = (
        "import sys, railtracks as rt\n"
        "rt.Flow('F', lambda: 1, save_state=False, logging_setting='NONE').invoke()\n"
        "print([name for name in sys.modules if 'telemetry' in name])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAILTRACKS_TRACING"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_trace_that_is_not_sampled_stays_so(backend, monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    async with rt.Session(tracing="values") as session:
        await rt.call(threaded, 1)
    assert session.info.traceparent.endswith(("-00", "-02"))
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 2


class Broken(SpanProcessor):
    def __init__(self, method, kind=ZeroDivisionError):
        self.kind = kind
        setattr(self, method, self.fail)

    def fail(self, *args, **kwargs):
        raise self.kind


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("method", ["on_start", "on_end"])
async def test_errors_of_processors_do_not_reach_calls(backend, monkeypatch, caplog, method, is_early):
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    if is_early:
        provider.add_span_processor(Broken(method))
    async with rt.Session(logging_setting="REGULAR") as session:
        if not is_early:
            provider.add_span_processor(Broken(method))
        for _ in range(3):
            assert await rt.call(threaded, 1) == 1
        if is_early and method == "on_start":
            assert not trace.get_current_span().get_span_context().is_valid
            assert session.info.traceparent is None
        else:
            assert is_current("session")
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 6
    assert caplog.text.count("its trace is not complete") == 1
    assert caplog.text.count("ZeroDivisionError()") == 1


async def test_spans_that_have_begun_are_ended_after_an_error(backend, monkeypatch, caplog):
    ended = []

    class RaisesOnce(SpanProcessor):
        def on_end(self, span):
            ended.append(span.name)
            if len(ended) == 1:
                raise ZeroDivisionError

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RaisesOnce())
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)

    @rt.function_node
    async def top():
        await rt.call(leaf)
        await rt.call(leaf)
        assert is_current("top")

    async with rt.Session(logging_setting="REGULAR"):
        await rt.call(top)
    assert ended == ["leaf", "top", "session"]
    assert caplog.text.count("its trace is not complete") == 1
    assert "ended span" not in caplog.text


@pytest.mark.parametrize("kind", [BaseException, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("method", ["on_start", "on_end"])
async def test_processors_do_not_change_the_outcome(backend, monkeypatch, method, kind):
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    provider.add_span_processor(Broken(method, kind))
    assert await rt.Flow("Flow", leaf).ainvoke(3) == 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_a_processor_is_not_lost(monkeypatch, kind):
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with pytest.raises(kind), rt.Session():
        provider.add_span_processor(Broken("on_start", kind))
        rt.call_sync(leaf)


async def test_a_caller_restores_what_a_call_below_it_has_not(backend, monkeypatch):
    """As it is when the stack is too full for the end of a call to be noted."""

    @rt.function_node
    async def top():
        with monkeypatch.context() as patch:
            patch.setattr(SessionSpans, "on_ended", lambda *args: None)
            await rt.call(leaf)
        assert is_current("leaf")

    async with rt.Session():
        await rt.call(top)
        assert is_current("session")
    assert not trace.get_current_span().get_span_context().is_valid
    assert Counter(tree()) == Counter([("leaf", "top"), ("top", "session"), ("session", None)])


async def test_the_end_of_a_session_restores_what_a_call_has_not(backend, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(SessionSpans, "on_ended", lambda *args: None)
        async with rt.Session():
            await rt.call(leaf)
            assert is_current("leaf")
    assert not trace.get_current_span().get_span_context().is_valid
    await rt.Flow("Next", leaf).ainvoke()
    assert named("flow Next").parent is None


# ---- any tree of calls


@pytest.mark.either_backend
@examples(60)
@given(flows(), session_options(), fault_plans(hang=True, returns={None: None}), seeds())
def test_spans_are_the_records(backend, tree, options, faults, seed):
    """Each call has one span, with its parent, and all have ended when the sessions have."""
    EXPORTER.clear()
    outcome = simulate(tree, seed=seed, backend=backend, faults=faults, **options)
    check(outcome)
    by_id = {span.context.span_id: span for span in spans()}
    assert len(by_id) == len(spans())
    found = {}
    for span in spans():
        attributes = span.attributes
        if (call := attributes.get("railtracks.node_id")) is not None:
            key = attributes["railtracks.session_id"], index_of(call)
            assert key not in found
            found[key] = span
    for observed in outcome.sessions:
        info = observed.info
        [root] = [
            span for span in spans()
            if "railtracks.node_id" not in span.attributes
            and span.attributes["railtracks.session_id"] == info.session_id
        ]  # fmt: skip
        for record in info.records:
            span = found.pop((info.session_id, record.index))
            parent = by_id[span.parent.span_id]
            if record.parent is None:
                assert parent is root
            else:
                assert parent.attributes["railtracks.node_id"] == f"{info.session_id}-n{record.parent}"
            assert span.attributes["railtracks.status"] == record.status.value
            assert span.start_time == nanoseconds(record.started)
            assert span.end_time == nanoseconds(record.ended)
            assert (span.status.status_code is StatusCode.ERROR) == (
                record.status is Status.FAILED or record.reason in ("timeout", "end_on_error")
            )
    assert found == {}


async def test_spans_say_what_policies_have_done(backend):
    tries = []

    @rt.function_node(retries=rt.Retry(attempts=2, wait_jitter=0), cache=True)
    async def flaky(x):
        tries.append(x)
        if len(tries) == 1:
            raise LookupError("lost")
        return x

    async with rt.Session():
        await rt.call(flaky, 1)
        await rt.call(flaky, 1)
    of_policies = [
        {name: value for name, value in span.attributes.items() if name.startswith("railtracks.policy")}
        for span in spans()
        if span.name == "flaky"
    ]
    assert of_policies == [
        {"railtracks.policy.retried": True},
        {"railtracks.policy.retry": 1},
        {"railtracks.policy.cached": "session"},
    ]
    assert named("session").status.status_code is not StatusCode.ERROR


async def test_the_span_of_a_timeout_of_a_node_has_it(backend):
    @rt.function_node(timeout=5)
    async def slow():
        await anyio.sleep(10)

    async with rt.Session():
        with pytest.raises(rt.exceptions.NodeTimeOutError):
            await rt.call(slow)
    assert named("slow").attributes["railtracks.policy.timeout"] == 5
    assert named("slow").attributes["error.type"] == "railtracks.exceptions.NodeTimeOutError"


async def test_calls_that_are_dropped_have_spans():
    @rt.function_node
    async def below(x):
        if x == 1:
            raise ValueError(x)

    @rt.function_node
    async def item(x):
        await rt.call(below, x)

    @rt.function_node
    async def parent():
        async for _ in rt.call_stream(item, range(3), limit=1, return_exceptions=True, keep_records="failures"):
            pass

    async with rt.Session(name="session"):
        await rt.call(parent)
    calls = [("below", "item"), ("item", "batch of item")] * 3
    assert tree() == [*calls, ("batch of item", "parent"), ("parent", "session session"), ("session session", None)]
    assert [span.status.status_code for span in spans()].count(StatusCode.ERROR) == 2
