"""Sessions of a program: opened, left, and looked at right after that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import railtracks as rt
from railtracks._context_variable import current
from railtracks.exceptions import RTError
from tests.fuzz import programs as p
from tests.fuzz.notes import Outcome, SessionNote, outcome_of
from tests.fuzz.subscribers import subscribe

if TYPE_CHECKING:
    from tests.fuzz.interpreter import Env, Interpreter


async def run_session(me: Interpreter, step: p.OpenSession, env: Env) -> None:
    """Open a session, run its body, leave it, and look at what is left."""
    note = _new_session(me, step)
    for subscriber in step.subscribers:
        subscribe(me, subscriber, note)
    before = current.get()
    try:
        if step.plain:
            with note.session:
                await _run_body(me, note)
        else:
            me.notes.open_sessions += 1
            try:
                async with note.session:
                    await _run_body(me, note)
            finally:
                me.notes.open_sessions -= 1
    except BaseException as exc:
        note.left = outcome_of(exc)
        raise
    else:
        note.left = Outcome("returned")
    finally:
        note.left_at = me.now()
        if note.left is not None and not isinstance(note.left.value, GeneratorExit) and current.get() is not before:
            me.notes.fail("context", "the context variable is not what it was before the session")
        if not step.plain:
            _check_end(me, note)


def _new_session(me: Interpreter, step: p.OpenSession) -> SessionNote:
    store = rt.state.MemoryStore() if step.stored else None

    def report(_: Any) -> None:
        note.reports += 1
        if running := note.running():
            me.notes.fail("left running", f"payload_callback was called while these ran: {running}")

    options: dict[str, Any] = {"save_state": step.stored, "end_on_error": step.end_on_error, "logging_setting": "NONE"}
    if store is not None:
        options["store"] = store
    options["timeout"] = math.inf if step.timeout is None else step.timeout * me.unit
    note = SessionNote(step, rt.Session(payload_callback=report, **options), store)
    me.notes.sessions.append(note)
    return note


async def _run_body(me: Interpreter, note: SessionNote) -> None:
    note.entered = True
    try:
        await me.block(note.step.block, me.body_env(note))
    except BaseException as exc:
        note.body = outcome_of(exc)
        raise
    else:
        note.body = Outcome("returned")
    finally:
        note.body_ended_at = me.now()
        me.notes.causes.add("a session ended")


def _check_end(me: Interpreter, note: SessionNote) -> None:
    """Check that a session which was entered with ``async with`` has nothing left when it is over."""
    if not note.entered:
        return
    if running := note.running():
        me.notes.fail("left running", f"a session was left while these ran: {running}")
    alone = me.notes.open_sessions == 0 and not any(each.step.plain for each in me.notes.sessions)
    if alone and (names := me.tasks.left_by_railtracks()):
        me.notes.fail("left running", f"tasks are left of a session: {names}")
    if note.reports != 1:
        me.notes.fail("saved", f"payload_callback was called {note.reports} times")
    try:
        if note.store is not None and rt.state.load_run(note.session.identifier, note.store) != note.session.info:
            me.notes.fail("saved", "the document is not what the session's info is")
    except RTError as exc:
        me.notes.fail("saved", f"the document cannot be read: {exc!r}")
