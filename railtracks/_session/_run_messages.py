"""The messages of a stored run at the beginning of a session: whose they are, and the answers that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from railtracks.exceptions import StateError
from railtracks.execution import Coordinator
from railtracks.execution._mailbox import SessionMailbox
from railtracks.state import CallRecord, ExecutionInfo, Store
from railtracks.state._questions import open_questions
from railtracks.state._stores._messages import (
    encode_message,
    find_mailbox,
    has_completed,
    is_answered,
    mailbox_of,
    numbers_on_record,
)


def open_mailbox(coordinator: Coordinator, store: Store, history: Sequence[CallRecord] | None) -> None:
    """Let the calls of a session receive messages, if its store keeps any.

    Args:
        coordinator: Runs the calls of the session.
        store: The store of its run.
        history: The records of the run that it resumes; None if it resumes nothing.
    """
    mailbox = find_mailbox(store)
    if mailbox is not None:
        taken = set() if history is None else numbers_on_record(history)
        coordinator.mailbox = SessionMailbox(coordinator, store, mailbox, taken)


def separate_messages(store: Store, identifier: str, kept: str) -> bool:
    """Leave the messages of an earlier run, whose place a new one takes, with that run. Blocks.

    Without an earlier run, those that are there were sent to the new one, which is open already.

    Args:
        store: The store.
        identifier: The identifier of both runs.
        kept: The identifier under which the earlier run is kept unless it has completed.

    Returns:
        Whether messages were moved there.
    """
    mailbox = find_mailbox(store)
    numbers = () if mailbox is None else mailbox.list_messages(identifier)
    stored = store.read(identifier) if numbers else None
    if mailbox is None or stored is None:
        return False
    if not has_completed(stored):
        mailbox.move_messages(identifier, kept)
        return True
    for number in numbers:
        mailbox.remove_message(identifier, number)
    return False


def put_answers(store: Store, identifier: str, answers: Mapping[str, Any], known: ExecutionInfo) -> None:
    """Put answers into the mailbox of a run that is being resumed. Blocks.

    Args:
        store: The store.
        identifier: The identifier of the run.
        answers: The answers, by the ids of their questions.
        known: What is known of the run.

    Raises:
        StateError: There is no such question, or it was answered, or has another answer; or the store keeps no
            messages.
        ConfigError: An answer could not be brought back exactly, or says neither yes nor no where that was asked.
    """
    mailbox = mailbox_of(store)
    questions = {each.id: each.text for each in open_questions(chain(known.earlier, known.records))}
    for unknown in answers.keys() - questions.keys():
        shown = ", ".join(f"{each!r} ({text})" for each, text in questions.items()) or "none"
        raise StateError(f"the run {known.session_id!r} has no open question with the id {unknown!r}; open are {shown}")
    contents = [encode_message(each, answer) for each, answer in answers.items()]
    for content in [each for each in contents if not is_answered(identifier, each, mailbox, known)]:
        mailbox.put_message(identifier, content)
