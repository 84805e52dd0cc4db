"""Messages: how values are sent to runs, and how a session finds out that something has come.

A message is a JSON object in the mailbox of a store. A session of this process is notified at once; sessions of other
processes read their mailboxes now and then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from railtracks._approval_request import ApprovalRequest, decision_of
from railtracks._concurrency._after_fork import after_fork
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError, StateError
from railtracks.state._info import ExecutionInfo
from railtracks.state._records import CallRecord, Reason, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import dumps, form_in, is_lossy, loads, member_text, why_lossy
from railtracks.state._stores._headers import HEADER_BYTES, read_document_header
from railtracks.state._stores._mailboxes import Mailbox
from railtracks.state._stores._protocols import Store, Stored
from railtracks.state._stores._settings import check_identifier, no_such_run, resolve_store

MAILBOX_METHODS = ("put_message", "list_messages", "read_message", "remove_message", "move_messages")
MESSAGE = "railtracks.message"
"""The attribute of a call that took a message: the number of the message."""
LARGEST = 64 * 2**20
"""The bytes of the largest value that can be sent, as sessions record results up to that size by default."""
CANCEL = "cancel"
"""The ``request`` of a message that cancels its run."""
_LOG = logging.getLogger("RT")


class Message(NamedTuple):
    """A message as it was read from a mailbox: a value for a topic, or a request."""

    number: str
    topic: str | None
    value: Any
    request: str | None


def find_mailbox(store: Store) -> Mailbox | None:
    """Return the mailbox of a store; None if the store has none."""
    has_all = all(callable(getattr(store, name, None)) for name in MAILBOX_METHODS)
    return store if has_all else None  # type: ignore[return-value]


def mailbox_of(store: Store) -> Mailbox:
    """Return the mailbox of a store.

    Raises:
        StateError: The store has none.
    """
    mailbox = find_mailbox(store)
    if mailbox is None:
        missing = ", ".join(name for name in MAILBOX_METHODS if not callable(getattr(store, name, None)))
        raise StateError(
            f"the store {type(store).__name__} keeps no messages: it has no {missing}; implement rt.state.Mailbox, or "
            f"use rt.state.FileStore or rt.state.SQLiteStore"
        )
    return mailbox


def send(run_identifier: str, topic: str, value: Any, store: Store | str | None = None) -> None:
    """Send a message to a run, which gets it from ``rt.receive(topic)``, or as the answer to a question. Blocks.

    It can be called anywhere, in any process. The message is on disk when this returns. It stays there until the run
    has taken it, whether the run is running, suspended, failed or died with its process. It is taken exactly once, and
    those of one topic in the order in which they were sent. If the run is suspended and waits for something else, a
    warning says for what.

    Args:
        run_identifier: The identifier of the run.
        topic: The topic, as it stands in ``rt.receive``; or the ``id`` of a question, to answer it.
        value: Plain data, or types of the standard library, which come back as they were; up to 64 MiB.
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.

    Raises:
        ConfigError: An argument is not allowed, or the value could not be brought back exactly, as with secrets and
            with instances of your classes; or it answers whether a tool may run, and says neither yes nor no.
        RunNotFoundError: There is no such run, and no session of that identifier is open.
        StateError: The run has completed or was cancelled by ``cancel_run``, so nothing would receive the message; or
            ``topic`` is a question that has another answer already; or the store keeps no messages.
        OSError: The message cannot be written.
    """
    content = encode_message(topic, value)
    check_identifier(run_identifier)
    store = resolve_store(store)
    mailbox = mailbox_of(store)
    info = None
    if not store.is_locked(run_identifier):
        stored = store.read(run_identifier)
        if stored is None and not store.is_locked(run_identifier):  # it may have begun meanwhile
            raise no_such_run(run_identifier, store)
        if stored is not None and has_completed(stored):
            raise StateError(f"the run {run_identifier!r} has completed, and receives nothing any more")
        if stored is not None and is_cancelled_on_request(run_identifier, stored, store):
            raise StateError(
                f"the run {run_identifier!r} was cancelled by rt.state.cancel_run, and receives nothing; to go on with "
                f"it all the same, use flow.resume({run_identifier!r}), and send the message then"
            )
        if stored is not None and stored.journal is None and _status_of(stored) == Status.SUSPENDED:
            from railtracks.state._stores._runs import read_run  # here, as in `has_message`

            info = read_run(run_identifier, store)
            if is_answered(run_identifier, content, mailbox, info):
                return
    mailbox.put_message(run_identifier, content)
    notify(run_identifier)
    if info is not None:
        _warn_if_not_awaited(topic, info)


def is_answered(run_identifier: str, content: bytes, mailbox: Mailbox, info: ExecutionInfo) -> bool:
    """Return whether the mailbox of a run has this answer to an open question already. Blocks.

    Args:
        run_identifier: The identifier of the run.
        content: A message. One that answers no open question is never there already.
        mailbox: The mailbox.
        info: What is known of the run.

    Raises:
        StateError: It has another answer to that question, which would be taken.
        ConfigError: The question is whether a tool may run, and the answer says neither yes nor no.
    """
    given = loads(content)
    asked = next((question.text for question in info.questions if question.id == given["topic"]), None)
    if asked is None:
        return False
    if isinstance(asked, ApprovalRequest):
        try:
            decision_of(given["value"])
        except ValueError as exc:
            raise ConfigError(str(exc)) from None
    taken = numbers_on_record((*info.earlier, *info.records))
    for number in mailbox.list_messages(run_identifier):
        there = None if number in taken else mailbox.read_message(run_identifier, number)
        if there is None or topic_of(there) != given["topic"]:
            continue
        kept = loads(there)
        if all(dumps(kept.get(name)) == dumps(given.get(name)) for name in ("value", "types")):
            return True
        raise StateError(
            f"the question {given['topic']!r} of the run {run_identifier!r} has another answer already, which is "
            f"the one that counts; resume the run without this one"
        )
    return False


def _warn_if_not_awaited(topic: str, info: ExecutionInfo) -> None:
    """Log a warning if a suspended run does not wait for a topic, which may be misspelt."""
    questions = {question.id: question.text for question in info.questions}
    awaited = (*info.topics, *questions)
    if topic in awaited or not awaited:
        return
    from difflib import get_close_matches  # here, because only this warning needs it

    close = get_close_matches(topic, awaited, n=1)
    _LOG.warning(
        "rt.state.send: the run %s is suspended, and does not wait for %r;%s it waits for %s. The message is kept, as "
        "the run may receive it later",
        info.session_id, topic, f" did you mean {close[0]!r}?" if close else "",
        ", ".join(repr(each) + (f" ({questions[each]})" if each in questions else "") for each in awaited),
    )  # fmt: skip


def has_message(run_identifier: str, store: Store) -> bool:
    """Return whether there is a message that a suspended run waits for, or that cancels it. Blocks."""
    mailbox = find_mailbox(store)
    numbers = () if mailbox is None else mailbox.list_messages(run_identifier)
    if mailbox is None or not numbers:
        return False
    from railtracks.state._stores._runs import read_run  # here, as only few programs look for suspended runs

    info = read_run(run_identifier, store)
    awaited = {None, *info.topics, *(question.id for question in info.questions)}
    taken = numbers_on_record((*info.earlier, *info.records))
    contents = {number: mailbox.read_message(run_identifier, number) for number in numbers if number not in taken}
    return any(content is not None and topic_of(content) in awaited for content in contents.values())


def topics_in_mailbox(run_identifier: str, store: Store) -> frozenset[str]:
    """Return the topics of the messages that a run has not taken. Blocks."""
    mailbox = find_mailbox(store)
    numbers = () if mailbox is None else mailbox.list_messages(run_identifier)
    contents = [] if mailbox is None else [mailbox.read_message(run_identifier, number) for number in numbers]
    topics = [topic_of(content) for content in contents if content is not None]
    return frozenset(topic for topic in topics if isinstance(topic, str))


def topic_of(content: bytes) -> object:
    """Return the topic of a message; None for a request, and False for what cannot be read."""
    try:
        data = loads(content)
        return data.get("topic") if isinstance(data, dict) else False
    except ValueError:
        return False


def has_completed(stored: Stored) -> bool:
    """Return whether a run that no session has open has completed."""
    return stored.journal is None and _status_of(stored) == Status.COMPLETED


def is_cancelled_on_request(run_identifier: str, stored: Stored, store: Store) -> bool:
    """Return whether a run that no session has open was cancelled by ``cancel_run``, and not resumed since. Blocks."""
    if stored.journal is not None or _status_of(stored) != Status.CANCELLED:
        return False
    from railtracks.state._stores._runs import read_run  # here, as in `has_message`

    return Reason.REQUEST in reasons_of_end(read_run(run_identifier, store))


def reasons_of_end(info: ExecutionInfo) -> set[Reason | None]:
    """Return why the top-level calls of a run were cancelled, but for those that the run outlived.

    Their handles had cancelled them, or another call of their batch had failed.
    """
    cancelled = (each for each in info.records if each.parent is None and each.status is Status.CANCELLED)
    return {each.reason for each in cancelled} - {Reason.HANDLE, Reason.BATCH}


def _status_of(stored: Stored) -> object:
    """Return the status in the document of a run; None if there is no document, or it does not say."""
    return None if stored.document is None else read_document_header(stored.document[:HEADER_BYTES]).get("status")


def encode_message(topic: object, value: object) -> bytes:
    """Return a message as it is written.

    Raises:
        ConfigError: The topic is not a text, or the value could not be brought back exactly.
    """
    from railtracks.state._serialization._restoring import restore  # here, as it brings a dozen modules

    check_topic("rt.state.send", topic)
    text, form, types = member_text(None, value, Redactor(), LARGEST)
    problem = None
    if is_lossy(form):
        problem = f"not all of it can be written ({why_lossy(form)})"
    else:
        try:
            again = restore(loads(text), None if types is None else loads(types))
            if member_text(None, again, Redactor()) != (text, form, types):
                problem = "it cannot be made again exactly as it was"
        except ValueError as exc:
            problem = f"it {exc}"
    if problem is not None:
        raise ConfigError(
            f"the message for {topic!r} cannot be sent: {problem}; send plain data or types of the standard library, "
            f"and take secrets from the environment"
        )
    optional = "" if types is None else f', "types": {types}'
    return f'{{"topic": {dumps(topic)}, "time": {_now()!r}, "value": {text}{optional}}}'.encode()


def parse_value(text: str) -> Any:
    """Return the value that a person has written: plain data if it is JSON, or else the text itself.

    It is text, too, if it is JSON that is nested too deeply, or has a number with too many digits, to be read.
    """
    import json  # here, as only people write values

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def check_topic(what: str, topic: object) -> None:
    """Raise ConfigError unless ``topic`` can be the topic of a message."""
    if not isinstance(topic, str) or not topic:
        raise ConfigError(f"{what}: {topic!r} is not allowed as a topic; use a text that is not empty")


def encode_request(request: str) -> bytes:
    """Return a message that requests something of the run itself."""
    return f'{{"request": {dumps(request)}, "time": {_now()!r}}}'.encode()


def decode_message(number: str, content: bytes) -> Message:
    """Return a message that was written.

    Raises:
        ValueError: It is damaged, or cannot be brought back.
    """
    from railtracks.state._serialization._restoring import restore  # here, as above

    data = loads(content)
    if not isinstance(data, dict) or not isinstance(data.get("topic", ""), str):
        raise ValueError("is not a message")
    if "request" in data:
        return Message(number, None, None, str(data["request"]))
    if "topic" not in data or "value" not in data:
        raise ValueError("is not a message")
    return Message(number, data["topic"], restore(data["value"], data.get("types")), None)


def numbers_on_record(records: Iterable[CallRecord]) -> set[str]:
    """Return the numbers of the messages that are on record as results of these calls."""
    numbers: set[str] = set()
    for record in records:
        if record.attributes is not None and MESSAGE in record.attributes and record.status is Status.COMPLETED:
            number = loads(record.attributes).get(MESSAGE)
            if isinstance(number, str) and not is_lossy(form_in(record.output or "")):
                numbers.add(number)
    return numbers


def _now() -> float:
    return runtime_hooks.get().wall()


# ---- sessions of this process

_guard = threading.RLock()  # reentrant, as the garbage collector may end a session while it is held
_listeners: dict[str, list[Callable[[], None]]] = {}


def listen(run_identifier: str, callback: Callable[[], None]) -> None:
    """Have ``callback`` called, in any thread, when this process has put a message into the run's mailbox."""
    with _guard:
        _listeners.setdefault(run_identifier, []).append(callback)


def unlisten(run_identifier: str, callback: Callable[[], None]) -> None:
    """Undo :func:`listen`. Idempotent."""
    with _guard:
        callbacks = _listeners.get(run_identifier, [])
        if callback in callbacks:
            callbacks.remove(callback)
        if not callbacks:
            _listeners.pop(run_identifier, None)


def notify(run_identifier: str) -> None:
    """Notify the sessions of this process that there is a message for the run."""
    with _guard:
        callbacks = list(_listeners.get(run_identifier, ()))
    for callback in callbacks:
        callback()


@after_fork
def _reset() -> None:
    global _guard
    _guard = threading.RLock()
    _listeners.clear()
