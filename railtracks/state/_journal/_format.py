"""What a journal consists of, and the text of each kind of entry.

A journal is a sequence of entries. An entry is a prefix of eight bytes, the length of its payload and a checksum as
little-endian integers, and the payload, one JSON object. The first entry is the header. The checksum is the CRC-32 of
all payloads up to this one, so an entry is only valid at its own place in its own journal: the header, with which the
sum begins, has an identifier that no other journal has. A journal that is torn or damaged anywhere, or in which an
entry is missing, can be read up to there.

    {"e": "header", "version": 6, "journal": ..., ...}          which journal and which session this is
    {"e": "conversation", "messages": [{"number": 0, ...}]}         messages to which the entries after it refer
    {"e": "created", "call": 3, "parent": 0, "time": ..., ...}  a call was made
    {"e": "ended", "call": 3, "time": ..., "output": ...}       it ended
    {"e": "context", "call": 3, "order": 0, "key": ..., ...}    it changed the context
    {"e": "read", "call": 3, "key": ..., "depth": 1, ...}       it read a value from the context
    {"e": "attributes", "call": 3, "attributes": {...}}         it described itself
    {"e": "item", "call": 3, "item": 17, "seconds": ..., ...}   an item of the batch that call 3 stands for has ended
    {"e": "attempt", "restarts": 1}                             what stands before belongs to the session being resumed
    {"e": "reused", "call": 3, "known": 7, ...}                 call 3 is call 7 of that one, with its descendants
    {"e": "end", "time": ..., "completed": true}                the session ended and needs no earlier one any more

The functions below return payloads as text, and ``encode_entry`` makes an entry of one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from os import urandom
from typing import TYPE_CHECKING
from zlib import crc32

from railtracks.state._document._writer import PIECE, VERSION, change_text, policy_text, read_text
from railtracks.state._node_codes import NodeCodes
from railtracks.state._ordering import in_order
from railtracks.state._records import CallRecord, Change, PolicyFacts, Read, Status
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, facts_text, name_text
from railtracks.state._shared_texts import MessageNumbers, stored_inputs, stored_output

if TYPE_CHECKING:  # loaded by few programs
    from railtracks.state._batch_summary import Ended

PREFIX = struct.Struct("<II")
LAST_UNCHAINED = 4
"""The last version in which the checksum of an entry was that of its own payload alone."""
HEADER_BEGINS = b'{"e": "header"'
MAX_NODES = 10_000
"""The number of different nodes that entries can refer to."""
_COMPLETED = Status.COMPLETED
pack_prefix = PREFIX.pack


def encode_entry(payload: str, before: int) -> tuple[bytes, int]:
    """Return an entry of the journal, ready to be appended, and its checksum.

    Args:
        payload: Its JSON object.
        before: The checksum of the entry before it; 0 for the first one.
    """
    content = payload.encode()  # ASCII throughout
    checksum = crc32(content, before)
    return pack_prefix(len(content), checksum) + content, checksum


class EncodedEntries:
    """A journal that consists of some entries, in pieces of about ``PIECE`` bytes.

    Args:
        payloads: The entries.

    Attributes:
        checksum: That of the last entry, once all pieces were taken.
    """

    def __init__(self, payloads: Iterable[str]) -> None:
        self._payloads = payloads
        self.checksum: int = 0

    def __iter__(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for payload in self._payloads:
            entry, self.checksum = encode_entry(payload, self.checksum)
            parts.append(entry)
            size += len(entry)
            if size >= PIECE:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join(parts)


def encode_entries(payloads: Iterable[str]) -> tuple[bytes, int]:
    """Return a journal that consists of these entries, and the checksum of the last one."""
    entries = EncodedEntries(payloads)
    return b"".join(entries), entries.checksum


def new_journal_id() -> str:
    """Return an identifier for a journal that no other journal has, in simulated sessions too."""
    return urandom(8).hex()


def header_entry(facts: dict[str, str | float | None], journal_id: str) -> str:
    """Return the first entry.

    Args:
        facts: The members of the document that say which session it is.
        journal_id: What :func:`new_journal_id` returned for this journal.
    """
    # The version is that of the document that the journal will become.
    return f'{{"e": "header", "version": {VERSION}, "journal": "{journal_id}", {facts_text(facts)}}}'


def attempt_entry(restarts: int = 0) -> str:
    """Return the entry behind the calls of the run that the session resumes.

    Args:
        restarts: How many sessions in a row, this one included, have resumed it because a process had died.
    """
    return f'{{"e": "attempt", "restarts": {restarts}}}' if restarts else '{"e": "attempt"}'


@lru_cache(maxsize=512)  # few, as the key of a node may be long, and a program may bind new values to it each time
def _node_text(name: str, node_type: str, node: str | None, reuse: str | None) -> str:
    """Return the members that all calls of a node have in common."""
    optional = {"node": node, "reuse": reuse}
    members = {"name": name, "node_type": node_type}
    members.update((key, value) for key, value in optional.items() if value is not None)
    return dumps(members)[1:-1]


class CallEntries:
    """Makes the entries for calls. What stands in an earlier one is not repeated.

    Args:
        redact: Replaces secrets in the names of calls.
        codes: The digests of code in the entries before; None if there are none.
    """

    def __init__(self, redact: Callable[[str], str] = str, codes: NodeCodes | None = None) -> None:
        self._redact = redact
        self._messages = MessageNumbers()
        self._like: dict[str, str] = {}  # by the text of a node: the member that refers to the first call with it
        self._codes = codes or NodeCodes()

    def messages(self) -> str | None:
        """Return the entry that must stand before the one that was made last; None if that needs none."""
        messages = self._messages.take()
        return None if messages is None else f'{{"e": "conversation", "messages": {messages}}}'

    def created(self, record: CallRecord) -> str:
        """Return the entry for the creation of a call, whose ``inputs`` are text already."""
        index, parent = record.index, record.parent
        text = self._redact(_node_text(record.name, record.node_type, record.node, record.reuse))
        like = self._like.get(text)
        if like is not None:
            text = like
        elif len(self._like) < MAX_NODES:
            self._like[text] = f'"like": {index}'
        code = self._codes.member_of(record)
        if code is not None:
            text += f', "code": {name_text(code)}'
        if record.branch is not None:
            text = f'"branch": {list(record.branch)}, {text}'
        if record.policy is not None:
            # What is known by now; the rest stands where the call ends.
            text += policy_text(PolicyFacts(retry=record.policy.retry, place=record.policy.place))
        if record.attempt > 1:
            text = f'"attempt": {record.attempt}, {text}'
        caller = "null" if parent is None else parent
        inputs = self._messages.written(stored_inputs(record) or "") if record.is_sharing else record.inputs
        return f'{{"e": "created", "call": {index}, "parent": {caller}, "time": {record.started!r}, {text}, {inputs}}}'

    def ended(self, record: CallRecord) -> str:
        """Return the entry for the end of a call, whose ``output``, if it has one, is text already."""
        output = (
            self._messages.written(stored_output(record) or NO_OUTPUT)
            if record.is_sharing
            else record.output or NO_OUTPUT
        )
        if record.reason is not None:
            output += f', "reason": "{record.reason.value}", "abandoned": {"true" if record.abandoned else "false"}'
            if record.timeout is not None:
                output += f', "timeout": {float(record.timeout)!r}'
        if record.policy is not None:
            output += policy_text(record.policy)
        if record.raised_by is not None:
            output += f', "raised_by": {list(record.raised_by)}'
        if record.was_left is not None:
            output += f', "was_left": {"true" if record.was_left else "false"}'
        if record.status is not _COMPLETED:
            output = f'"status": "{record.status._value_}", {output}'
        return f'{{"e": "ended", "call": {record.index}, "time": {record.ended!r}, {output}}}'


def context_entry(record: CallRecord, change: Change) -> str:
    """Return the entry for a change of the context that a call made."""
    return f'{{"e": "context", "call": {record.index}, {change_text(change)[1:]}'


def read_entry(record: CallRecord, key: str, read: Read) -> str:
    """Return the entry for a value that a call read from the context."""
    return f'{{"e": "read", "call": {record.index}, {read_text(key, read)[1:]}'


def attributes_entry(record: CallRecord) -> str:
    """Return the entry for the attributes of a call; they replace those of earlier entries."""
    return f'{{"e": "attributes", "call": {record.index}, "attributes": {record.attributes}}}'


def item_entry(batch: int, ended: Ended) -> str:
    """Return the entry for an item of a batch that keeps few records. ``batch``: the index of the batch's call."""
    text = f'{{"e": "item", "call": {batch}, "item": {ended.item}, "seconds": {ended.seconds!r}'
    if ended.status is not _COMPLETED:
        text += f', "status": "{ended.status.value}"'
    if ended.calls != 1:
        text += f', "calls": {ended.calls}'
    if ended.kept:
        text += ', "kept": true'
    if ended.digest is not None:
        text += f', "digest": "{ended.digest:016x}"'
    if ended.error is not None:
        text += f', "error": {dumps(ended.error)}'
    return f"{text}}}"


def reused_entry(record: CallRecord, known: CallRecord, orders: list[int]) -> str:
    """Return the entry for a call that ended as ``known`` had, with all its descendants.

    Args:
        record: The reused call.
        known: The recorded call that it corresponds to.
        orders: The new positions of the context changes of ``known`` and its descendants.
    """
    return f'{{"e": "reused", "call": {record.index}, "known": {known.index}, "orders": {orders}}}'


def end_entry(time: float, completed: bool) -> str:
    """Return the last entry. ``completed``: nothing of the session that was resumed is needed any more."""
    return f'{{"e": "end", "time": {time!r}, "completed": {"true" if completed else "false"}}}'


def entries_of(
    records: Sequence[CallRecord], before: float = math.inf, redact: Callable[[str], str] = str
) -> Iterator[str]:
    """Yield all entries for some records, in an order in which they can have been written.

    Args:
        records: The records. Their ``inputs`` and ``output`` are text already.
        before: Leave out what happened at this step or later, when all these calls had been made.
        redact: Replaces secrets in the names of the calls.
    """
    steps: list[int] = []
    events: list[int] = []  # the place of the record for its creation; the complement of it for its end
    for place, record in enumerate(records):
        steps.append(record.started_step)
        events.append(place)
        if record.ended is not None and record.ended_step is not None and record.ended_step < before:
            steps.append(record.ended_step)
            events.append(~place)
    yield from entries_of_events(records, in_order(steps, events), CallEntries(redact))


def entries_of_events(records: Sequence[CallRecord], events: Iterable[int], entries: CallEntries) -> Iterator[str]:
    """Yield all entries for some records, in the order of their events.

    Args:
        records: The records.
        events: The place of a record for its creation; the complement of it for its end.
        entries: Makes the entries for calls.
    """
    for event in events:
        record = records[event if event >= 0 else ~event]
        entry = entries.ended(record) if event < 0 else entries.created(record)
        if (messages := entries.messages()) is not None:
            yield messages
        yield entry
        if event < 0:
            continue
        for change in record.changes or ():
            yield context_entry(record, change)
        for key, read in (record.reads or {}).items():
            yield read_entry(record, key, read)
        if record.attributes is not None:
            yield attributes_entry(record)
