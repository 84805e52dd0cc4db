"""Nodes that tests send to workers, which import them from here."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time

import anyio

import railtracks as rt
from railtracks.exceptions import FatalError
from railtracks.testing import ScriptedModel


@rt.function_node
def double(x):
    return 2 * x


@rt.function_node
async def add(x, y):
    await anyio.sleep(0)
    return x + y


@rt.function_node
def refuse(text="refused"):
    raise ValueError(text)


@rt.function_node
async def refuse_softly(text="refused"):
    await anyio.sleep(0)
    raise LookupError(text)


@rt.function_node
def work(x):
    """Call, fail, read and write the context, broadcast: all that a sync node can do."""
    twice = rt.call_sync(double, x)
    total = rt.call_sync(add, twice, rt.context.get("offset"))
    try:
        rt.call_sync(refuse)
    except ValueError as exc:
        rt.context.put("error", str(exc))
    rt.context.update({"seen": [x], "gone": True})
    rt.context.delete("gone")
    rt.broadcast_sync({"total": total})
    return total


@rt.function_node
async def work_async(x):
    """Do as ``work``, and several things at once."""
    results = await rt.call_batch(add, range(3), [x] * 3, limit=2)
    both = []
    async with anyio.create_task_group() as group:
        group.start_soon(_collect, both, double, 1)
        group.start_soon(_collect, both, work, x)
    try:
        await rt.call(refuse_softly, "no")
    except LookupError:
        await rt.broadcast("handled")
    rt.context.put("results", results)
    return sorted(both)


async def _collect(found, node, *args):
    found.append(await rt.call(node, *args))


@rt.function_node
def fail_below(text):
    return rt.call_sync(refuse, text)


@rt.function_node
async def fail_below_async(text):
    return await rt.call(refuse_softly, text)


@rt.function_node
def where_am_i():
    return os.getpid(), threading.current_thread().name, threading.get_ident()


@rt.function_node
async def where_am_i_async():
    return os.getpid(), threading.current_thread().name, threading.get_ident()


@rt.function_node
def describe_call():
    inner = rt.call_sync(name_call)
    return rt.current_call(), inner


@rt.function_node
def name_call():
    return rt.current_call()


@rt.function_node
def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("shop").warning("low on %s", "tea")
    rt.call_sync(log_in_call)


@rt.function_node
def log_in_call():
    logging.getLogger("shop").warning("from within")


@rt.function_node
def print_much():
    print("x" * 30_000)
    for number in range(300):
        print(number)


@rt.function_node
def write_secret():
    rt.context.put("api_key", "s3cr3t-0f-the-w0rker")
    print("the key is s3cr3t-0f-the-w0rker")
    return f"with s3cr3t-0f-the-w0rker and {rt.context.get('token')}"


@rt.function_node
def read_lock():
    return rt.context.get("lock")


@rt.function_node
def put_lock():
    rt.context.put("lock", threading.Lock())


@rt.function_node
def return_lock():
    return threading.Lock()


@rt.function_node
def time_left():
    call = rt.current_call()
    return call.deadline - time.time() if call.deadline < math.inf else None


@rt.function_node
async def sleep_long():
    await rt.call(sleep_below)


@rt.function_node
async def sleep_below():
    await anyio.sleep(30)


@rt.function_node
def block(path):
    """Begin, and go on until a file appears."""
    open(f"{path}.begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


@rt.function_node
def die():
    os._exit(3)


@rt.function_node
def count(path, name):
    """Note in a file that it ran."""
    with open(path, "a") as file:
        file.write(f"{name}\n")
    return name


@rt.function_node
def steps(path, fails):
    first = rt.call_sync(count, path, "first")
    rt.context.put("first", first)
    second = rt.call_sync(count, path, "second")
    if os.path.exists(fails):
        raise RuntimeError("not yet")
    return [first, second, rt.context.get("first")]


inner_flow = rt.Flow("Inner", entry_point=count)


@rt.function_node
def repeat(path, fails):
    values = [str(rt.uuid4()), rt.random(), rt.now()]
    rt.call_sync(inner_flow, path, "inner")
    rt.call_sync(count, path, values[0])
    if os.path.exists(fails):
        raise RuntimeError(values[0])
    return values


class OnlyThere:
    def __reduce__(self):
        return _make_only_there, (os.getpid(),)


def _make_only_there(pid):
    if pid != os.getpid():
        raise RuntimeError("not here")
    return OnlyThere()


@rt.function_node
def put_only_there():
    rt.context.put("first", 1)
    rt.context.put("only", OnlyThere())
    rt.context.put("last", 2)
    return rt.call_sync(double, 1)


@rt.function_node
def ask_there():
    return rt.call_sync(rt.ask, "who?")


@rt.function_node
def receive_there():
    return rt.call_sync(rt.receive, "topic")


@rt.function_node
def set_key_when(path, value):
    while not os.path.exists(path):
        time.sleep(0.001)
    rt.context.put("key", value)


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


@rt.function_node
def raise_odd():
    raise Unpicklable("odd", threading.Lock())


@rt.function_node
def end_all():
    raise FatalError("the end")


@rt.function_node
def die_once(path):
    if not os.path.exists(path):
        with open(path, "w"):
            os._exit(3)
    return os.getpid()


@rt.function_node
def sleep_and_call(path, seconds):
    rt.call_sync(count, path, "began")
    time.sleep(seconds)
    rt.call_sync(count, path, "ended")


@rt.function_node
async def stream_agents(agent, text):
    return [chunk.text async for chunk in rt.astream(agent, text)]


OpenAgent = rt.agent_node("OpenAgent", system_message=lambda: "Be brief.")
TwoModels = rt.agent_node(
    "TwoModels", llm=[ScriptedModel([OSError("down")] * 2, name="small"), ScriptedModel(["Large."], name="large")]
)


@rt.function_node
async def ask_open_agent(question):
    return str(await rt.call(OpenAgent, question))


@rt.function_node
def use(number: int, value: object = rt.Depends("value"), made: int = rt.Depends(os.getpid)):
    return number, type(value).__name__, made == os.getpid()
