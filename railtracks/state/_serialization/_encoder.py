"""Values to plain data: the one place that says how anything that a user passes or returns is written.

``encode`` never fails: what it does not know becomes its type and repr, and so does a part that misbehaves (a
``repr`` that raises, a mapping that changes while it is read, a cycle). A mapping of a user that has keys like those of
a mark is written as a list of pairs, so that marks cannot be forged. ``encode(decode(encode(x))) == encode(x)`` for
every x. While it encodes, it notes how much is lost; see :class:`Form`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from railtracks._public_path import public_path
from railtracks._tracebacks import MAX_MESSAGE, format_traceback
from railtracks.state._records import Form
from railtracks.state._redaction._large_texts import texts_of
from railtracks.state._redaction._redactor import MASK, Redactor, Secret
from railtracks.state._redaction._secret_names import is_secret_key
from railtracks.state._serialization._classify import Classification, Kind, classify_value
from railtracks.state._serialization._contents import (
    items_in,
    items_of,
    members_of,
    own_state,
    parts_of,
    plain_scalar,
    split_fields,
)
from railtracks.state._serialization._conversations import Conversations, EncodedMessage, are_messages, is_message
from railtracks.state._serialization._guarding import guarded
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._large_values import LARGE, large_mark
from railtracks.state._serialization._placeholders import IGNORED, Cut, placeholder_mark
from railtracks.state._serialization._places import EVERY, KEY, Entry, Note, escape, merge_members, shift
from railtracks.state._serialization._plain_data import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_PARTS,
    MAX_REPR,
    MAX_SHOWN,
    MAX_TEXT,
    are_plain_numbers,
    cut_text,
    texts_in,
    to_base64,
)
from railtracks.state._serialization._redacted_values import (
    are_pairs,
    named_value,
    redact_and_cut,
    without_split_secrets,
)
from railtracks.state._serialization._set_order import in_order, sort_key
from railtracks.state._shared_texts import MessageNode

_NOTED_BY_WRITERS = frozenset({Kind.ENUM, Kind.EXCEPTION, Kind.FIELDS, Kind.NAMESPACE, Kind.OPAQUE})
"""Kinds whose types are noted by what writes them, or not at all as a mark has them."""
_OBVIOUS = frozenset({str, int, bool, type(None)})
"""Types of which no two values of an enum are equal on record."""
_SHORTEST_CUT = 100
"""The number of characters of each text that are shown of a value with too many of them."""
_LOSSES = (Form.PLAIN, Form.TYPED, Form.CUT, Form.OPAQUE, Form.MASKED)


def encode(value: object) -> Any:
    """Return ``value`` as plain data. Never raises; see the module's docstring."""
    return Encoder(Redactor()).encode(value)


def encode_for_model(value: object, replace: Callable[[object], object] | None = None) -> Any:
    """Return ``value`` as plain data for a model, in which the values of keys that name secrets are not masked.

    Args:
        value: The value.
        replace: Returns what to write in place of a value in it that is not a text or a number; mostly that value.
    """
    return _ModelEncoder(Redactor(), replace).encode(value)


class Encoder:
    """Turns one value into plain data.

    Args:
        redactor: The secrets that are known. Values that keys or ``Secret`` mark as secrets are added to them.
        max_bytes: The number of bytes up to which the value is written whole. None: it is only shown, and cut where a
            part of it is too large to be shown.
        room: The number of characters of all texts of a value that is shown.
        sets_aside: Whether marks are written in place of large values; see ``_large_values.py``.
        conversations: The messages that were encoded before: marks are written in place of lists of messages. None:
            they are written.

    Attributes:
        large: The values in place of which marks are written, by their digests; None if none are.
        large_bytes: The number of bytes of these, and of the messages in place of which marks are written.
        messages: The last message of each of the lists in place of which marks are written.
        notes: The types that plain data does not show, with their places in what was encoded last.
        is_whole: Whether the value is written whole.
        is_too_large: Whether the value has more than ``max_bytes``, so that what was encoded is of no use.
    """

    _max_repr = MAX_REPR

    def __init__(
        self,
        redactor: Redactor,
        max_bytes: float | None = None,
        room: float = math.inf,
        sets_aside: bool = False,
        conversations: Conversations | None = None,
    ) -> None:
        self._redactor = redactor
        self.large: dict[str, str | bytes] | None = {} if sets_aside else None
        self.large_bytes = 0
        self.messages: list[MessageNode] = []
        self._conversations = conversations
        self.is_whole = max_bytes is not None
        self._max_text: float = MAX_TEXT if max_bytes is None else max_bytes
        self._max_items: float = MAX_ITEMS if max_bytes is None else max_bytes
        self._parts: float = MAX_PARTS if max_bytes is None else max_bytes
        self._room: float = room if max_bytes is None else max_bytes
        self.is_too_large = False
        self._path: set[int] = set()
        self._loss = 0
        self.notes: list[Note] = []

    @property
    def form(self) -> Form:
        """How much of what was encoded so far can be read back."""
        return _LOSSES[self._loss]

    @property
    def room(self) -> float:
        """The number of characters of texts that may still be written."""
        return self._room

    def encode(self, value: Any) -> Any:
        """Return a value as plain data."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._encode_text(value)
        if kind is int:
            return value if -(2**1024) < value < 2**1024 else self._encode_long_number(value)
        if kind is float:
            return value if math.isfinite(value) else {"$type": "float", "$repr": repr(value)}
        noted = len(self.notes)
        try:
            return self._encode_nested(value, kind)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # any attribute or iteration of a user's object may raise: write what it is
            del self.notes[noted:]
            return self._encode_opaque(value)

    def encode_at(self, segment: str, value: Any) -> Any:
        """Return a value as plain data, with the types in it noted below ``segment``."""
        noted = len(self.notes)
        data = self.encode(value)
        if len(self.notes) > noted:
            shift(self.notes, noted, escape(segment))
        return data

    def encode_member(self, key: Any, value: Any) -> Any:
        """Return a value that belongs to ``key`` as plain data: the mask, if the key names a secret."""
        return self.encode(self._unless_secret(key, value))

    def encode_error(self, error: Any) -> dict[str, Any]:
        """Return an exception as plain data: what people read of it."""
        self.lose(Form.OPAQUE)
        return self.describe_error(error)

    def describe_error(self, error: Any, shown_traceback: str | None = None) -> dict[str, Any]:
        """Return what people read of an exception.

        Args:
            error: The exception.
            shown_traceback: What to write in place of its traceback.
        """
        if mark := placeholder_mark(error):
            return mark  # type: ignore[no-any-return]
        if shown_traceback is None:
            shown_traceback = self._redact_free_text(guarded(self.traceback, error), MAX_SHOWN)
        return {
            "$type": self._name_of(type(error)),
            "$message": self._write_message(guarded(str, error)),
            "$traceback": shown_traceback,
        }

    def traceback(self, error: BaseException) -> str:
        """Return an exception with its traceback as text; "" if it has none."""
        if error.__traceback__ is None and error.__cause__ is None:
            return ""
        return format_traceback(error, lambda message: self._redact_free_text(message, MAX_MESSAGE))

    def _write_message(self, text: str) -> str:
        return self._redact_free_text(text, MAX_SHOWN)

    def mask(self, value: Any) -> str:
        """Return the mask, in place of ``value``. The texts in the value are secrets from now on."""
        self.lose(Form.MASKED)
        if not (type(value) is str and value == MASK):
            unmasked = _UnmaskedEncoder(Redactor())
            for text in texts_in(unmasked.encode(value)):
                self._redactor.learn(text)
            for text in unmasked.marked:
                self._redactor.add(text)
        return MASK

    def _cut(self) -> None:
        """Note that a part is not written, because it is too large."""
        self.lose(Form.CUT)
        self.is_too_large = self.is_whole

    def lose(self, form: Form) -> None:
        """Note that of a part only what ``form`` says survives."""
        self._loss = max(self._loss, _LOSSES.index(form))

    def _note(self, value: object, cls: type, state: dict[str, Any]) -> None:
        """Note the type of a value, at this place. What is noted after it belongs to what the value contains.

        Args:
            value: The value.
            cls: Its type.
            state: What the value has beyond what is written as plain data, by name.
        """
        self.lose(Form.TYPED)
        entry: Entry = self._name_of(cls)
        if state:
            outer, self.notes = self.notes, []
            conversations, self._conversations = self._conversations, None  # their marks stand in values alone
            try:
                entry = {"type": entry, "state": {name: self.encode_at(name, each) for name, each in state.items()}}
                if self.notes:
                    entry["types"] = dict(self.notes)
            finally:
                self.notes, self._conversations = outer, conversations
        self.notes.append(("", entry))

    def _name_of(self, cls: type) -> str:
        """Return the path of a class as it is written."""
        path = guarded(public_path, cls)
        name = self._redactor.redact_name(path)
        if name != path:
            self.lose(Form.MASKED)
        return name

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return self.mask(value) if value is not None and is_secret_key(key) else value

    def _redact(self, text: str) -> str:
        return self._redactor.redact(text)

    def _redact_free_text(self, text: str, limit: int, whole: str | None = None) -> str:
        return redact_and_cut(text, limit, self._redactor, self._redactor.redact_free_text, whole)

    # ---- from here on: one method for each kind

    def _encode_nested(self, value: Any, kind: type) -> Any:
        if len(self._path) >= MAX_DEPTH or id(value) in self._path:
            self.lose(Form.CUT)
            return placeholder_mark(value) or {"$type": self._name_of(kind), "$repr": "<cycle or too deep>"}
        self._path.add(id(value))
        try:
            return self._encode_classified(value, kind)
        finally:
            self._path.discard(id(value))

    def _encode_classified(self, value: Any, cls: type) -> Any:
        classified = classify_value(value)
        kind = classified.kind
        if kind > Kind.PLACEHOLDER:  # secrets and placeholders are never handed to a hook
            if (found := registered_types.find(cls)) is not None:
                base, hooks = found
                if base is not cls:
                    self._note(value, cls, {})
                return {"$type": self._name_of(base), "$value": self.encode_at("$value", hooks.unstructure(value))}
            if not classified.is_untagged and kind not in _NOTED_BY_WRITERS:
                self._note(value, cls, own_state(value) if value.__class__ is cls else {})
        return self._WRITERS[kind](self, value, classified)

    def _encode_placeholder(self, value: Any, _: Classification) -> Any:
        if value is not IGNORED:
            self.lose(Form.OPAQUE)
        return placeholder_mark(value)

    def _encode_text(self, text: str) -> Any:
        length = len(text)
        limit = self._max_text
        if length > LARGE and self.large is not None and length <= min(limit, self._room):
            return self._set_aside(text)
        if self._room < length < math.inf or length > limit:
            self._cut()
            if self.is_whole:
                return ""
            shown = int(max(min(limit, self._room), _SHORTEST_CUT))
            self._room -= shown
            redacted, text = redact_and_cut(text, shown, self._redactor, self._redact), cut_text(text, shown)
        else:
            self._room -= length
            redacted = self._redact(text)
            if len(redacted) > limit:  # masks may be longer than what they replace
                self._cut()
                redacted = cut_text(redacted, int(limit))
        if redacted is not text and redacted != text:
            self.lose(Form.MASKED)
        return redacted

    def _set_aside(self, value: str | bytes) -> dict[str, Any]:
        """Return a mark in place of a large value. It is searched for secrets where it is stored."""
        assert self.large is not None
        mark = large_mark(value)
        if mark["$large"] not in self.large:
            self.large[mark["$large"]] = value
            self.large_bytes += mark["$size"]
        self._room -= mark["$size"]
        return mark

    def _encode_key(self, key: Any) -> Any:
        """Return a key of a mapping as plain data. No part of it is set aside, so that keys can be compared."""
        outer = self.large, self._conversations
        self.large = self._conversations = None
        try:
            return self.encode(key)
        finally:
            self.large, self._conversations = outer

    def _encode_long_number(self, number: int) -> dict[str, Any]:
        text = hex(number)
        limit = min(self._max_text, self._room)
        self._room -= len(text)
        if len(text) > limit:
            self._cut()
            text = cut_text(text, int(max(limit, _SHORTEST_CUT)))
        return {"$type": "int", "$repr": text}

    def _encode_as_text(self, value: Any, classified: Classification) -> Any:
        assert classified.text is not None
        return self._encode_text(str.__str__(classified.text(value)))

    def _encode_enum(self, value: Any, _: Classification) -> Any:
        """Return the value of a member of an enum. Its name is noted where several members may look alike on record."""
        content = value.value
        is_obvious = type(content) in _OBVIOUS
        self._note(value, type(value), {} if is_obvious else {"name": value.name})
        noted = len(self.notes)
        data = self.encode(content)
        del self.notes[noted:]  # the name says all
        return data

    def _encode_mapping(self, mapping: Mapping[Any, Any], _: Classification | None = None) -> dict[str, Any]:
        pairs = items_of(mapping)
        if (secret := named_value(mapping)) is not None:
            pairs = [(key, self._unless_secret("secret", value) if key == secret else value) for key, value in pairs]
        return self._encode_pairs(pairs)

    def _encode_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        start = len(self.notes)
        items: list[tuple[Any, Any]] = []
        key_notes: dict[int, list[Note]] = {}
        for key, value in pairs:
            name = self.encode(key) if self.large is None else self._encode_key(key)
            if len(self.notes) > start:
                key_notes[len(items)] = self._take_notes(start)
            items.append((name, self._unless_secret(key, value)))
        names = {key for key, _ in items if type(key) is str and not key.startswith("$")}
        if len(names) < len(items) or len(items) > min(self._max_items, self._parts):
            positions = iter(range(len(items)))

            def write(item: tuple[Any, Any]) -> list[Any]:
                self.notes += [(f"/0{place}", entry) for place, entry in key_notes.get(next(positions), ())]
                return [item[0], self.encode_at("1", item[1])]

            start = len(self.notes)
            written = self._encode_items(items, write)
            shift(self.notes, start, "$items")
            return {"$type": "dict", "$items": written}
        self._parts -= len(items)
        data: dict[str, Any] = {}
        noted: dict[str, list[Note]] = {}
        for name, value in items:
            data[name] = self.encode(value)
            if len(self.notes) > start:
                noted[escape(name)] = self._take_notes(start)
        if key_notes:
            keys = {escape(items[at][0]): notes for at, notes in key_notes.items()}
            self.notes += merge_members(keys, len(data), KEY)
        if noted:
            self.notes += merge_members(noted, len(data))
        return data

    def _take_notes(self, start: int) -> list[Note]:
        notes = self.notes[start:]
        del self.notes[start:]
        return notes

    def _encode_named_tuple(self, value: Any, classified: Classification) -> list[Any]:
        members = members_of(value, classified)
        return self._encode_items((self._unless_secret(key, item) for key, item in members), self.encode)

    def _encode_sequence(self, value: Any, _: Classification) -> list[Any]:
        items: Any = items_in(value)
        if self._conversations is not None and are_messages(items):
            last = self._conversations.last_of(items)
            if last is not None and last.size <= self._room:
                return self._share(last)  # type: ignore[return-value]  # a mark for a list
        if are_plain_numbers(items) and len(items) <= min(self._max_items, self._parts):
            self._parts -= len(items)
            return list(items)
        if are_pairs(items):
            return self._encode_items(items, self._encode_pair)
        if items is value and (shown := without_split_secrets(value, self._redactor)) is not value:
            self.lose(Form.MASKED)
            items = shown
        return self._encode_items(items, self.encode)

    def _share(self, last: MessageNode) -> dict[str, Any]:
        """Return a mark in place of a list of messages."""
        number = len(self.messages)
        self.messages.append(last)
        self.lose(last.form)
        self._room -= last.size
        self.large_bytes += last.size
        if self.large is not None:
            self.large.update(last.large)
        self.notes.append((f"/{EVERY}", {"$messages": number}))
        return {"$type": "list", "$messages": number, "$count": last.count}

    def _copy(self, message: EncodedMessage) -> dict[str, Any]:
        """Return a message that was encoded already."""
        self.notes += message.notes
        self.lose(message.form)
        self._room -= message.size
        if message.large and self.large is not None:
            for digest, value in message.large.items():
                if digest not in self.large:
                    self.large[digest] = value
                    self.large_bytes += len(value)
        return message.data  # type: ignore[no-any-return]

    def _encode_pair(self, pair: Any) -> Any:
        return self.encode(type(pair)((pair[0], self._unless_secret(pair[0], pair[1]))))

    def _encode_set(self, value: Any, _: Classification) -> list[Any]:
        """Return the members of a set in an order that is the same in all processes."""
        content = list(items_in(value))
        if (ordered := in_order(content)) is not None:
            return self._encode_items(ordered, self.encode)
        start, members = len(self.notes), []
        self._conversations, conversations = None, self._conversations  # the order depends on what members contain
        for member in content:
            data = self.encode(member)
            notes = self._take_notes(start)
            members.append((sort_key(data, notes), data, notes))
        self._conversations = conversations
        members.sort(key=lambda member: member[0])

        def write(member: tuple[Any, Any, list[Note]]) -> Any:
            self.notes += member[2]
            return member[1]

        return self._encode_items(members, write)

    def _encode_items(self, values: Iterable[Any], write: Callable[[Any], Any]) -> list[Any]:
        """Return the values as ``write`` returns them, up to the limits, and a mark for those that are left out."""
        written: list[Any] = []
        start = len(self.notes)
        noted: dict[str, list[Note]] = {}
        for position, value in enumerate(values := list(values)):
            if type(value) is not Cut:  # the mark of a loaded state does not count, and stays
                if position >= self._max_items or self._parts <= 0 or self.is_too_large:
                    self._cut()
                    written.append({"$cut": len(values) - position})
                    break
                self._parts -= 1
            written.append(write(value))
            if len(self.notes) > start:
                noted[str(position)] = self._take_notes(start)
        if noted:
            self.notes += merge_members(noted, len(written))
        return written

    def _encode_fields(self, value: Any, classified: Classification) -> dict[str, Any]:
        """Return what ``_encode_mapping`` returns for the fields, whose names mostly need no check."""
        if self._conversations is not None and is_message(value):
            message = self._conversations.encoded(value)
            if message is not None and message.size <= self._room:
                return self._copy(message)
        if value.__class__ is type(value):
            fields, state = split_fields(value, classified)
        else:  # a proxy, which has nothing of its own to see
            fields, state = {name: getattr(value, name) for name in classified.fields}, {}
        self._note(value, type(value), state)
        for name, default in classified.omitted.items():
            if name in fields and fields[name] == default:
                del fields[name]
        if len(fields) > self._parts or not set(fields).issubset(classified.fields):
            return self._encode_pairs(fields.items())
        self._parts -= len(fields)
        data: dict[str, Any] = {}
        noted = len(self.notes)
        for name, field in fields.items():
            data[name] = self.encode(self._unless_secret(name, field))
            if len(self.notes) > noted:
                shift(self.notes, noted, escape(name))
                noted = len(self.notes)
        return data

    def _encode_namespace(self, value: Any, _: Classification) -> dict[str, Any]:
        state = own_state(value)
        attributes = state.pop("attributes", {})
        self._note(value, type(value), state)
        return self._encode_pairs(attributes.items())

    def _encode_parts(self, value: Any, _: Classification) -> list[Any]:
        return self._encode_items(parts_of(value), self.encode)

    def _encode_bytes(self, value: Any, _: Classification) -> Any:
        content = bytes(value)
        if len(content) > min(self._max_text, self._room):
            self._cut()
            shown = repr(content[: MAX_REPR + self._redactor.margin])
            return {"$type": "bytes", "$repr": self._redact_free_text(shown, MAX_REPR, f"{len(content)} bytes")}
        if len(content) > LARGE and self.large is not None:
            return self._set_aside(content)
        self._room -= len(content)
        if any(self._redactor.redact(text) != text for text in texts_of(content)):
            return self._encode_opaque(content)
        return {"$type": "bytes", "$base64": to_base64(content)}

    def _encode_scalar(self, value: Any, _: Classification) -> Any:
        """Return an instance of a subclass as one of the class itself."""
        return self.encode(plain_scalar(value))

    def _encode_opaque(self, value: object, _: Classification | None = None) -> dict[str, Any]:
        self.lose(Form.OPAQUE)
        return {
            "$type": self._name_of(type(value)),
            "$repr": self._redact_free_text(guarded(repr, value), self._max_repr),
        }

    _WRITERS: ClassVar[dict[Kind, Callable[[Encoder, Any, Classification], Any]]] = {
        Kind.SECRET: lambda self, value, _: self.mask(value),
        Kind.PLACEHOLDER: _encode_placeholder,
        Kind.TEXT: _encode_as_text,
        Kind.ENUM: _encode_enum,
        Kind.MAPPING: _encode_mapping,
        Kind.NAMED_TUPLE: _encode_named_tuple,
        Kind.SEQUENCE: _encode_sequence,
        Kind.SET: _encode_set,
        Kind.EXCEPTION: lambda self, value, _: self.encode_error(value),
        Kind.FIELDS: _encode_fields,
        Kind.NAMESPACE: _encode_namespace,
        Kind.PARTS: _encode_parts,
        Kind.BYTES: _encode_bytes,
        Kind.PATH: lambda self, value, _: self.encode(plain_scalar(os.fspath(value))),
        Kind.SCALAR: _encode_scalar,
        Kind.OPAQUE: _encode_opaque,
    }


class _UnmaskedEncoder(Encoder):
    """Masks nothing, to find every text in a secret value: what is in it may name secrets of its own.

    Attributes:
        marked: The texts that stand in a ``Secret``.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(redactor)
        self.marked: list[str] = []

    def mask(self, value: Any) -> Any:
        if not isinstance(value, Secret):
            return self.encode(value)
        data = self.encode(value.value)
        self.marked += texts_in(data)
        return data

    def _encode_text(self, text: str) -> str:
        return text

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return value


class _ModelEncoder(Encoder):
    """Masks what is marked as a ``Secret``, but nothing for its key: for a model a page's "token" is only a word."""

    def __init__(self, redactor: Redactor, replace: Callable[[object], object] | None = None) -> None:
        super().__init__(redactor)
        self._replace = replace

    def _encode_classified(self, value: Any, cls: type) -> Any:
        other = value if self._replace is None else self._replace(value)
        return super()._encode_classified(value, cls) if other is value else self.encode(other)

    def _redact(self, text: str) -> str:
        return self._redactor.redact(text, by_name=False)

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return value
