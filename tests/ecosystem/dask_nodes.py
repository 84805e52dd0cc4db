"""Nodes that tests send to a cluster, whose workers import them from here."""

from __future__ import annotations

import os
import time
from pathlib import Path

import railtracks as rt


@rt.function_node
def double(x):
    return 2 * x


@rt.function_node
def calls_below(x):
    rt.context.put("seen", x)
    return rt.call_sync(double, x) + rt.context.get("offset")


@rt.function_node
def refuse(x):
    raise ValueError(f"no {x}")


@rt.function_node
def length(data):
    return len(data)


@rt.function_node
def mark(path):
    append(path, path + "\n")


@rt.function_node
def end_worker(path):
    append(path, "x")
    os._exit(3)


@rt.function_node
def wait_in_worker(folder):
    """Wait for what never comes: its worker ends before."""
    append(f"{folder}/ran", "x")
    Path(folder, "begun").touch()
    time.sleep(30)


def append(path, text):
    """Write in one piece, also where several processes write."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, text.encode())
    os.close(file)


@rt.function_node(retries=2)
def count(number, path):
    """Do a piece of a large flow, and note its end."""
    time.sleep(0.001)
    append(path, f"{number}\n")
    return number + 1


@rt.function_node
async def count_all(numbers, path):
    """Have a cluster do a large flow."""
    return await rt.call_batch(
        count.options(where="cluster"), range(numbers), [path] * numbers, return_exceptions=False, limit=100
    )


@rt.function_node(where="cluster")
def wait_for_release(folder):
    append(f"{folder}/ran", "x")
    while not Path(folder, "release").exists():
        time.sleep(0.01)


@rt.function_node
async def wait_for_all(folder):
    await rt.call_batch(wait_for_release, [folder] * 20, return_exceptions=False)
