"""Nodes in worker threads: the steps of their bodies, with ``rt.call_sync`` and the like."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio.from_thread

import railtracks as rt
from railtracks.exceptions import SessionError
from tests.fuzz import programs as p
from tests.fuzz.notes import CallNote, Outcome, outcome_of

if TYPE_CHECKING:
    from tests.fuzz.interpreter import Interpreter


def run(me: Interpreter, token: int) -> Any:
    """Run a node of the program, in a worker thread."""
    note = me.notes.calls[token]
    note.began = True
    me.threads.add(token)
    try:
        for step in note.node.body:
            _run_step(me, step, note)
    except BaseException as exc:
        note.ended = outcome_of(exc)
        raise
    else:
        note.ended = Outcome("returned", [token])
        return note.ended.value
    finally:
        me.threads.discard(token)


def _run_step(me: Interpreter, step: p.Step, note: CallNote) -> None:
    if isinstance(step, p.Sleep):
        time.sleep(step.units * me.unit)
    elif isinstance(step, p.Raise):
        raise me.exception(step.kind)
    elif isinstance(step, p.Put):
        rt.context.put("thread", note.token)
        rt.context.get("thread")
    elif isinstance(step, p.Broadcast):
        _broadcast(me, note)
    elif isinstance(step, p.Batch):
        _batch(me, step, note)
    else:
        assert isinstance(step, p.Call)
        _call(me, step, note)


def _note_call(me: Interpreter, node: p.Node, note: CallNote) -> CallNote:
    return me.note_call(node, me.env(note), "call_sync")


def _call(me: Interpreter, step: p.Call, note: CallNote) -> None:
    made = _note_call(me, step.node, note)
    try:
        got = rt.call_sync(me.node_of(step.node), made.token)
    except BaseException as exc:
        made.got = outcome_of(exc)
        if not step.caught or not isinstance(exc, Exception):
            raise
    else:
        made.got = Outcome("returned", got)


def _batch(me: Interpreter, step: p.Batch, note: CallNote) -> None:
    made = [_note_call(me, node, note) for node in step.nodes]
    tokens = [each.token for each in made]
    batch: Any = rt.call_batch
    options: dict[str, Any] = {"return_exceptions": step.return_exceptions, "limit": step.limit}
    try:
        got = rt.call_sync(batch, me.node_of(p.Node()), tokens, **options)
    except BaseException as exc:
        for each in made:
            each.site, each.got = "batch", outcome_of(exc)
        raise
    me.note_batch(made, got, step)


def _broadcast(me: Interpreter, note: CallNote) -> None:
    made = me.note_broadcast(me.env(note))
    try:
        if note.token % 2:
            rt.broadcast_sync(made.item)
        else:
            anyio.from_thread.run(rt.broadcast, made.item)
        made.accepted = True
    except SessionError:
        pass
    finally:
        made.ended = me.notes.next()
