"""The invariants of a session, checked with what a program noted itself.

1. It ends: every program ends, within a budget of turns of its event loop. (``loops`` and ``runner`` check it.)
2. Left running: when a session is over, none of its nodes, callbacks or tasks is running or pending; worker threads
   that a cancelled call abandoned are the exception, and are on record. (``sessions`` checks it.)
3. Results: a call site gets the object that the node returned or raised; or GlobalTimeOutError after the timeout,
   SessionEndedError after an end, the session's first error under ``end_on_error``; or a cancellation that has a cause.
4. Batches: the results of a batch are those of its calls, each in its place.
5. Records: each call that began has one record, and the other way round, with the right parent and session, and the
   status and the value that the node noted. When all is over none is open.
6. The session itself raises what its body raised, as the same object; or the first error of its children; or a
   cancellation that has a cause.
7. Events: what was published since a subscriber came was delivered to it, in order, or counted as dropped.
8. Saved: the document is what ``info`` is, and ``payload_callback`` is called once. (``sessions`` checks it.)
9. Context: the context variable is restored by each call and each session. (``sessions`` and ``interpreter`` check it.)
10. A cancellation is not lost: a task that was cancelled ends as cancelled, if the program did not swallow it. Nor is
    Ctrl-C. (``runner`` checks that for trio.)
11. Time: a session ends ten seconds after its body and its last node at the latest, but for cleanup in its callbacks.
"""

from __future__ import annotations

from typing import Any

from railtracks.exceptions import FatalError, GlobalTimeOutError, NodeInvocationError, SessionEndedError
from railtracks.state import CallRecord, Status
from tests.fuzz import events
from tests.fuzz.notes import CANCELLATIONS, Broken, CallNote, Notes, Outcome, SessionNote, leaves_of
from tests.fuzz.subscribers import DELIVERY


def check(notes: Notes, outcome: Outcome | None, native: int) -> list[Broken]:
    """Return the invariants that do not hold.

    Args:
        notes: What the program noted.
        outcome: How its block ended.
        native: How often its task was cancelled itself.
    """
    for session in notes.sessions:
        if session.entered:
            _Judge(notes, session).judge()
            events.check(notes, session)
    if native and outcome is not None and outcome.kind == "returned" and not notes.handled and not notes.interrupts:
        notes.fail("cancellation lost", f"the task was cancelled {native} times, and ended as if it was not")
    return notes.broken


class _Judge:
    """Judges one session."""

    def __init__(self, notes: Notes, session: SessionNote) -> None:
        self._notes = notes
        self._session = session
        self._records = session.session.info.records
        self._failure = self._first_failure()

    def _first_failure(self) -> BaseException | None:
        """Return the error that ended the session, if one did.

        Under ``end_on_error`` SystemExit is none: it ends the whole program, and another call may fail meanwhile.
        """
        end_on_error = self._session.step.end_on_error
        ending = [
            record
            for record in self._records
            if record.status is Status.FAILED
            and (_is_fatal(record.exception) or (end_on_error and not isinstance(record.exception, SystemExit)))
        ]
        return min(ending, key=lambda record: record.ended_step or 0).exception if ending else None

    def _fail(self, invariant: str, why: str) -> None:
        self._notes.fail(invariant, why)

    def judge(self) -> None:
        """Check everything."""
        record: CallRecord | None
        by_token: dict[Any, CallRecord] = {}
        for record in self._records:
            if record.name == "call_batch":  # a thread called it, with rt.call_sync
                continue
            if record.name == "session":  # which a node has opened
                continue
            if record.args[0] in by_token:
                self._fail("records", f"two records of one call: {record}")
            by_token[record.args[0]] = record
        for call in self._session.calls:
            record = by_token.pop(call.token, None)
            self._judge_record(call, record)
            if call.site == "start_soon":
                self._judge_child(call)
            else:
                self._judge_call_site(call, record)
        for token, record in by_token.items():
            made = self._notes.calls.get(token)
            if made is None or made.knows_parent:
                self._fail("records", f"a record of a call that was made elsewhere: {record}")
        self._judge_leaving()
        self._judge_time()

    # ---- records

    def _judge_record(self, call: CallNote, record: CallRecord | None) -> None:
        if record is None:
            if call.began and call.knows_parent:
                self._fail("records", f"{call} has no record")
            return
        parent = self._caller_of(record)
        expected = None if call.parent is None else call.parent.token
        if call.knows_parent and parent != expected:
            self._fail("records", f"{call} has the parent {parent}, not {expected}")
        if record.status is Status.OPEN:
            self._fail("records", f"{call} is open on record when all is over")
        elif not self._agrees(call, record):
            self._fail(
                "records", f"{call} is {record.status.value} on record with {record.result!r}, {record.exception!r}"
            )

    def _caller_of(self, record: CallRecord) -> int | None:
        """Return the token of the call that made another, according to the records."""
        while record.parent is not None:
            record = self._records[record.parent]
            if record.name != "call_batch":
                token: int = record.args[0]
                return token
        return None

    def _agrees(self, call: CallNote, record: CallRecord) -> bool:
        ended, status = call.ended, record.status
        if record.abandoned:
            return status is Status.CANCELLED and call.node.thread and not call.node.waits
        if ended is None:  # a call in a thread that was cancelled before it had one
            return not call.began and call.node.thread and status is Status.CANCELLED
        if ended.kind == "cancelled":
            return status is Status.CANCELLED
        if call.node.thread and status is Status.CANCELLED:
            return True  # its thread was waited for, and the call was cancelled meanwhile
        if self._notes.ctrl_c and isinstance(ended.value, KeyboardInterrupt) and status is Status.CANCELLED:
            return True
        if ended.kind == "returned":
            return status is Status.COMPLETED and record.result is ended.value
        if any(isinstance(leaf, CANCELLATIONS) for leaf in leaves_of(ended.value)):
            return status in (Status.CANCELLED, Status.FAILED)
        return status is Status.FAILED and record.exception is ended.value

    # ---- what callers get

    def _judge_call_site(self, call: CallNote, record: CallRecord | None) -> None:
        got = call.got
        if got is None:
            self._fail("results", f"{call} never came back to its caller")
            return
        if isinstance(got.value, GeneratorExit) and not call.knows_parent:
            right = True  # the generator that made it is closed once more, at the end of the loop
        elif got.kind == "cancelled":
            right = bool(self._notes.causes)
        elif got.kind == "returned":
            right = call.ended == got and call.ended.value is got.value if call.ended else False
        else:
            right = self._may_raise(call, record, got.value)
        if not right:
            self._fail("results", f"{call} got what it should not")

    def _may_raise(self, call: CallNote, record: CallRecord | None, exc: BaseException) -> bool:
        ended = call.ended
        if ended is not None and ended.kind == "raised" and exc is ended.value:
            return True
        if call.site == "batch" and self._is_of_a_sibling(call, exc):
            return True
        if self._notes.ctrl_c and isinstance(exc, KeyboardInterrupt):  # also before the node has begun
            return True
        if call.nested:
            return False
        if exc is self._failure or exc in self._notes.interrupts or self._session.callbacks_raised:
            return True
        if isinstance(exc, GlobalTimeOutError):
            return self._is_too_late(call)
        if isinstance(exc, SessionEndedError):
            return self._may_be_refused(call, record)
        return ended is not None and _is_part_of(exc, ended)

    def _is_of_a_sibling(self, call: CallNote, exc: BaseException) -> bool:
        """Return whether a batch raised the error of another of its calls."""
        siblings = [each for each in self._session.calls if each.got is not None and each.got.value is exc]
        ended = [each.ended for each in siblings if each.ended is not None]
        return any(each.value is exc or _is_part_of(exc, each) for each in ended)

    def _is_too_late(self, call: CallNote) -> bool:
        """Return whether the timeout had passed when a call came back."""
        top = call
        while top.parent is not None:
            top = top.parent
        timeout = self._session.step.timeout
        if timeout is None or top.made_at < 0 or call.got_at <= 0:
            return timeout is not None
        return call.got_at - top.made_at >= timeout * self._notes.unit

    def _may_be_refused(self, call: CallNote, record: CallRecord | None) -> bool:
        """Return whether a call may end with SessionEndedError: its session, or what it belongs to, has ended."""
        if self._failure is not None or self._session.body is not None:
            return True
        above = call.parent
        while above is not None:
            if above.ended is not None or above.got is not None:
                return True
            above = above.parent
        return False

    # ---- the session itself

    def _judge_child(self, call: CallNote) -> None:
        """Check that the error of a child is not lost."""
        ended, left, body = call.ended, self._session.left, self._session.body
        if ended is None or left is None or body is None or ended.kind != "raised" or left.kind != "returned":
            return
        if not any(isinstance(leaf, CANCELLATIONS) for leaf in leaves_of(ended.value)):
            self._fail("leaving", f"the error of {call} is lost: the session and its body returned")

    def _judge_leaving(self) -> None:
        body, left = self._session.body, self._session.left
        if body is None or left is None:
            self._fail("leaving", f"the body ended with {body}, the session with {left}")
        elif left.kind == "cancelled":
            if not self._notes.causes:
                self._fail("leaving", "the session raised a cancellation that nothing caused")
        elif left.kind == "returned":
            if body.kind != "returned":
                self._fail("leaving", f"the session returned, although its body ended with {body}")
        elif left.value is not body.value and not self._may_leave_with(left.value):
            self._fail("leaving", f"the session raised {left}, although its body ended with {body}")

    def _judge_time(self) -> None:
        """Check that delivering did not take longer than it may, if no callback could prolong it by its cleanup."""
        session = self._session
        bodies = repr([each.subscriber.body for each in session.subscribers])
        if session.step.plain or any(step in bodies for step in ("Shield", "Cleanup", "Swallow", "OpenSession")):
            return
        if any(call.site == "start_soon" and not call.began for call in session.calls):
            return  # a child that waited for room in a subscription, until it was cancelled: it did not note when
        last = max([session.body_ended_at, *(call.ended_at for call in session.calls)])
        if session.left_at > last + DELIVERY + 0.1:
            self._fail("time", f"the session was left {session.left_at - last:g} s after its last node had ended")

    def _may_leave_with(self, exc: BaseException) -> bool:
        body = self._session.body
        assert body is not None
        if self._notes.is_interrupt(exc) or self._session.callbacks_raised:
            return True
        for call in self._session.calls:
            if call.site == "start_soon" and self._may_be_of_child(exc, call):
                return True
        return _is_part_of(exc, body)

    def _may_be_of_child(self, exc: BaseException, call: CallNote) -> bool:
        """Return whether the session may raise ``exc`` on behalf of a child."""
        ended, body = call.ended, self._session.body
        assert body is not None
        if not isinstance(exc, Exception):  # it ends everything, and so may have cancelled the body
            ended_calls = [each.ended for each in self._session.calls if each.ended is not None]
            return any(each.value is exc or _is_part_of(exc, each) for each in ended_calls)
        if body.kind != "returned":
            return False
        if exc is self._failure or isinstance(exc, (GlobalTimeOutError, SessionEndedError)):
            return True
        return ended is not None and (ended.value is exc or _is_part_of(exc, ended))


def _is_fatal(exc: BaseException | None) -> bool:
    return isinstance(exc, FatalError) or (isinstance(exc, NodeInvocationError) and exc.fatal)


def _is_part_of(exc: BaseException, ended: Outcome) -> bool:
    """Return whether ``exc`` is what a scope may leave of a group that held cancellations too."""
    if not isinstance(ended.value, BaseExceptionGroup):
        return False
    leaves = leaves_of(ended.value)
    return any(isinstance(leaf, CANCELLATIONS) for leaf in leaves) and all(leaf in leaves for leaf in leaves_of(exc))
