"""Senders and receivers are killed before each of their system calls: each message is taken exactly once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from railtracks.state._stores._messages import decode_message
from railtracks.state._stores._settings import resolve_store
from tests.effort import FACTOR
from tests.postgres import POSTGRES_IF_SLOW, url_of
from tests.state.stores import needs_fork

pytestmark = [needs_fork, pytest.mark.usefixtures("nothing_is_left")]

STRIDE = 20 if FACTOR == 1 else 1
"""How many system calls further each process comes than the one before it."""

SERVER = """
import json, os, signal, sqlite3, sys
import anyio, anyio._backends._asyncio, anyio._backends._trio, anyio.to_thread, anyio.from_thread
import railtracks as rt
import railtracks.execution._idle, railtracks.execution._mailbox, railtracks.state._stores._messages
import railtracks.state._serialization._structuring, railtracks.state._serialization._restoring
try:
    import psycopg
except ImportError:
    psycopg = None

async def main():
    return [await rt.receive("t") for _ in range(4)]

def die_at(count):
    '''Die before the count-th system call that changes something.'''
    def wrap(owner, name):
        original = getattr(owner, name)
        def wrapper(*args, **kwargs):
            nonlocal count
            count -= 1
            if not count:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        setattr(owner, name, wrapper)
    for name in ["open", "write", "fsync", "replace", "rename", "unlink", "rmdir", "close"]:
        wrap(os, name)
    class Connection(sqlite3.Connection):
        pass
    wrap(Connection, "execute")
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
    if psycopg is not None:
        wrap(psycopg.Connection, "wait")

def child(order, say):
    store = order["store"]
    if order["at"]:
        die_at(order["at"])
    if order["role"] == "send":
        for number in range(4):
            rt.state.send("run", "t", number, store)
            say(number)
    else:
        flow = rt.Flow("F", main, run_identifier="run", store=store, backend=order["backend"], logging_setting="NONE")
        say(flow.invoke() if order["role"] == "begin" else flow.resume("run"))

for line in sys.stdin:
    order = json.loads(line)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        original = os.write
        try:
            child(order, lambda what: original(write, json.dumps(what).encode() + b"\\n"))
        except BaseException as exc:
            original(write, json.dumps(repr(exc)).encode() + b"\\n")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        lines = [json.loads(each) for each in said]
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([status, lines]), flush=True)
"""


@pytest.fixture
def run():
    """Run a process, and return its exit status and what it said."""
    environment = {"PYTHONPATH": str(Path(rt.__file__).parents[1]), "PATH": ""}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def order(role, store, at=0, backend="asyncio"):
            server.stdin.write(json.dumps({"role": role, "store": store, "at": at, "backend": backend}) + "\n")
            server.stdin.flush()
            return tuple(json.loads(server.stdout.readline()))

        yield order
        server.stdin.close()
        server.wait(60)


def begin(run, kind, at):
    """Return the store of a run that waits for messages."""
    if kind == "postgres":
        store = url_of(Path(f"runs{at}"))
    else:
        store = {"file": f"file:{os.getcwd()}/runs{at}", "sqlite": f"sqlite:{os.getcwd()}/runs{at}.db"}[kind]
    status, [said] = run("begin", store)
    assert status == 0
    assert said.startswith("RunSuspended")
    return store


def sent(store):
    found: Any = resolve_store(store)
    messages = []
    for number in found.list_messages("run"):
        messages.append(decode_message(number, found.read_message("run", number)).value)
    if hasattr(found, "close"):
        found.close()
    return messages


@pytest.mark.parametrize("kind", ["file", "sqlite", POSTGRES_IF_SLOW])
def test_message_is_there_once_when_send_has_returned(kind, run):
    at, was_killed = 0, True
    while was_killed:
        at += STRIDE
        store = begin(run, kind, at)
        status, said = run("send", store, at)
        was_killed = status != 0
        there = sent(store)
        assert there == list(range(len(there)))
        assert len(said) <= len(there) <= len(said) + was_killed
    assert said == [0, 1, 2, 3]
    assert at > 10


@pytest.mark.either_backend
@pytest.mark.parametrize("kind", ["file", "sqlite", POSTGRES_IF_SLOW])
def test_receiver_that_is_killed_takes_each_message_once(kind, run, backend):
    at, was_killed = {"asyncio": 0, "trio": -3}[backend], True
    while was_killed:
        at += STRIDE
        store = begin(run, kind, at)
        assert run("send", store) == (0, [0, 1, 2, 3])
        status, said = run("receive", store, at, backend)
        was_killed = status != 0
        if was_killed:
            status, said = run("receive", store, 0, backend)
        assert (status, said) == (0, [[0, 1, 2, 3]])
        assert sent(store) == []
    assert at > 15
