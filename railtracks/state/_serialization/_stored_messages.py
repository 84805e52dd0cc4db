"""The messages of conversations as they stand in journals and documents: written once each, and read back.

See ``_shared_texts.py`` for how the texts of records refer to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._conversations import Conversations, EncodedMessage
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._record_text import (
    dumps,
    format_inputs,
    format_output,
    name_text,
    parse_members,
)
from railtracks.state._shared_texts import (
    MessageNode,
    Notes,
    SharedText,
    StoredText,
    intern,
    numbers_in,
    shared_text,
    shares_messages,
)


def new_conversations(redactor: Redactor, max_bytes: int, sets_aside: bool) -> Conversations:
    """Return what the texts of a session share.

    Args:
        redactor: The secrets that the session knows.
        max_bytes: The number of bytes up to which a value is written whole.
        sets_aside: Whether large values are kept beside the records.
    """

    def encode(message: Any) -> EncodedMessage | None:
        encoder = Encoder(redactor, max_bytes, sets_aside=sets_aside)
        data = encoder.encode(message)
        if encoder.is_too_large:
            return None
        size = int(max_bytes - encoder.room)
        return EncodedMessage(data, encoder.notes, encoder.form, encoder.large or {}, size)

    return Conversations(redactor, encode, _make_node)


def _make_node(before: MessageNode | None, message: EncodedMessage) -> MessageNode:
    return intern(before, dumps(message.data), _notes(message.notes), message.form, message.large)


def _notes(types: Iterable[tuple[str, Any]]) -> Notes:
    return tuple(
        (name_text(place)[1:-1], name_text(entry) if type(entry) is str else dumps(entry)) for place, entry in types
    )


class MessageTable:
    """The messages of one journal or document that were read so far, by their numbers in it."""

    def __init__(self) -> None:
        self._nodes: dict[int, MessageNode] = {}

    def add(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add messages. One whose number is known takes the place of the other one.

        A message is left out if what stands before it is lost.

        Raises:
            Exception: It is malformed, or a hook of a registered type raises.
        """
        for each in messages:
            number, after = each["number"], each.get("after")
            self._nodes.pop(number, None)
            if after is not None and after not in self._nodes:
                continue
            decode(each["message"])
            form = Form(each.get("form", Form.TYPED))
            before = None if after is None else self._nodes[after]
            self._nodes[number] = intern(before, dumps(each["message"]), _notes(each["types"].items()), form)

    def resolve(self, text: str) -> StoredText:
        """Return a text of a record that was read. If messages in it are lost, it says that a part is missing."""
        if not shares_messages(text):
            return text
        numbers = numbers_in(text)
        if all(number in self._nodes for number in numbers):
            return shared_text(text, {number: self._nodes[number] for number in numbers})
        return _without_messages(text)


def _without_messages(text: str) -> str:
    """Return a text without the messages to which it refers. Its form says so."""
    members = parse_members(text)
    of = "output" if "output" in members else "input"
    types = {
        place: entry
        for place, entry in members.get(f"{of}_types", {}).items()
        if not (isinstance(entry, dict) and "$messages" in entry)
    }
    form = Form(members.get(f"{of}_form", Form.PLAIN))
    form = Form.CUT if form in (Form.PLAIN, Form.TYPED) else form
    if of == "output":
        return format_output(_cut(members["output"]), form, types or None)
    return format_inputs(_cut(members["input_args"]), _cut(members["input_kwargs"]), form, types or None)


def _cut(data: Any) -> Any:
    if isinstance(data, list):
        return [_cut(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$messages" in data:
        return [{"$cut": data["$count"]}]
    return {key: _cut(item) for key, item in data.items()}


def whole_text(text: StoredText) -> str:
    """Return a text of a record with all messages in it."""
    return text.whole if isinstance(text, SharedText) else text
