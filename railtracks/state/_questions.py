"""What a run waits for: questions and topics, as the records of its open calls say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from railtracks._approval_request import ApprovalRequest
from railtracks.exceptions import Question
from railtracks.state._records import CallRecord, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lossy, loads

QUESTION = "railtracks.ask.id"
"""The attribute of a call of ``ask`` that waits for an answer: the id of the question."""
TOPIC = "railtracks.receive.topic"
"""The attribute of a call of ``receive``: its topic."""
APPROVAL = "approval"
"""The argument of a call that asks whether a tool may run: the parts of an ``ApprovalRequest``."""
ASK = "railtracks.ask"
"""The key of the node that asks."""
_WAITING = (Status.OPEN, Status.SUSPENDED)


def open_questions(records: Iterable[CallRecord]) -> tuple[Question, ...]:
    """Return the questions that are not answered, in the order in which they were asked.

    Args:
        records: The calls of one session, or of several that resumed each other, the oldest first.
    """
    found: dict[str, Question] = {}
    for record in records:
        identifier = _attribute(record, QUESTION)
        if identifier is None:
            continue
        if record.status in _WAITING and record.args:
            found[identifier] = Question(identifier, _text(record))
        elif record.status is Status.COMPLETED:
            found.pop(identifier, None)
    return tuple(found.values())


def _text(record: CallRecord) -> str:
    parts = record.kwargs.get(APPROVAL)
    return str(record.args[0]) if parts is None else ApprovalRequest(**parts)


def awaited_topics(records: Iterable[CallRecord]) -> tuple[str, ...]:
    """Return the topics that calls wait for, each once, in the order of the calls."""
    topics = (_attribute(record, TOPIC) for record in records if record.status in _WAITING)
    return tuple(dict.fromkeys(topic for topic in topics if topic is not None))


def awaited(record: CallRecord) -> str | None:
    """Return what an open call waits for, if it is something from outside: "an answer" or "a message"."""
    attributes = record.attributes
    if attributes is not None and QUESTION in attributes:
        return "an answer"
    if attributes is not None and TOPIC in attributes:
        return "a message"
    return "an answer" if record.node == ASK else None


def question_id(records: Sequence[CallRecord | None], record: CallRecord, redactor: Redactor) -> str:
    """Return the id of a question, which depends on where in the tree of calls it is asked, and on nothing else.

    So it is the same in a run that is resumed, whatever runs at the same time, and even if a caller is not found again.

    Args:
        records: The calls of the session; None in place of those below replayed calls.
        record: The call that asks.
        redactor: The secrets that the session knows.
    """
    from hashlib import sha256  # here, because it loads OpenSSL

    def place(of: CallRecord) -> tuple[str, str]:
        inputs = of.inputs or inputs_text(of.args, of.kwargs, redactor)
        return of.node or of.name, "" if is_lossy(form_in(inputs)) else inputs  # what is cut may differ next time

    path = [record]
    while (parent := path[0].parent) is not None:
        caller = records[parent]
        assert caller is not None  # it is open
        path.insert(0, caller)
    levels = {each.parent: (each.index, place(each)) for each in path}
    ordinals = dict.fromkeys(levels, 0)
    for other in records[: record.index]:
        level = None if other is None else levels.get(other.parent)
        if level is not None and other is not None and other.index < level[0] and place(other) == level[1]:
            ordinals[other.parent] += 1
    text = repr([(level[1], ordinals[parent]) for parent, level in levels.items()])
    return f"q-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _attribute(record: CallRecord, name: str) -> Any:
    if record.attributes is None or name not in record.attributes:
        return None
    return loads(record.attributes).get(name)
