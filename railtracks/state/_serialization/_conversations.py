"""The messages of conversations, encoded once each: what the texts of records share. See ``_shared_texts.py``.

A message that was encoded before is known by its identity, and by what stands before it. That is enough, as messages
are frozen: only the dicts in some of them, such as the arguments of tool calls, are compared with what they were.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Sequence
from functools import cache
from threading import RLock
from typing import Any, NamedTuple
from weakref import ref

import attrs

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._places import Note
from railtracks.state._shared_texts import MessageNode

FEWEST_SHARED = 3
"""The number of messages from which on a list of them is shared. Shorter ones are mostly written only once."""
_RECENT = 1_000
"""The number of messages that were encoded last and are not encoded again: an agent's answer is part of its history."""
_MARSHAL_VERSION = 2
"""A version of the format that depends on nothing but the values."""
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_message_types: set[type] = set()
_frozen_types: set[type] = set()


def register_messages(*classes: type) -> None:
    """Have lists of instances of these classes, which are frozen attrs classes, shared."""
    _message_types.update(classes)
    _frozen_types.update(classes)


def register_message_parts(*classes: type) -> None:
    """Note that instances of these attrs classes, which occur in messages, are frozen."""
    _frozen_types.update(classes)


def is_message(value: Any) -> bool:
    """Return whether a value is a message."""
    return type(value) in _message_types


def are_messages(items: Sequence[Any]) -> bool:
    """Return whether a sequence is one that is shared."""
    return len(items) >= FEWEST_SHARED and all(map(is_message, items))


class EncodedMessage(NamedTuple):
    """A message as plain data."""

    data: Any
    notes: list[Note]
    form: Form
    large: dict[str, str | bytes]
    """The large values in it."""
    size: int
    """The number of characters of its texts."""


class _Content:
    """What a message contained when it was encoded.

    Args:
        message: The message.
        revision: That of the redactor.
    """

    __slots__ = ("_content", "_message", "_mutable", "_revision")

    def __init__(self, message: Any, revision: int) -> None:
        self._message = message  # so that its identity is not used again
        self._revision = revision
        self._mutable: list[Any] = []
        is_understood = _find_mutable(message, self._mutable)
        self._content = _dumped(self._mutable) if is_understood else None

    @property
    def is_known(self) -> bool:
        """Whether it can be seen that the message has changed."""
        return self._content is not None

    def is_that_of(self, message: Any, revision: int) -> bool:
        """Return whether a message would be encoded as it was."""
        if message is not self._message or revision != self._revision:
            return False
        return not self._mutable or _dumped(self._mutable) == self._content


class Conversations:
    """The messages that one session has encoded. Thread-safe.

    They are known as long as a record refers to them.

    Args:
        redactor: The secrets that the session knows. When it learns of one, all messages are searched once more.
        encode: Encodes a message. Returns None if it is too large.
        make_node: Makes a node of one, after another one.
    """

    def __init__(
        self,
        redactor: Redactor,
        encode: Callable[[Any], EncodedMessage | None],
        make_node: Callable[[MessageNode | None, EncodedMessage], MessageNode],
    ) -> None:
        self._redactor = redactor
        self._encode = encode
        self._make_node = make_node
        # By the identities of the node before it, and of the message.
        self._nodes: dict[tuple[int, int], tuple[_Content, ref[MessageNode]]] = {}
        self._recent: dict[int, tuple[_Content, EncodedMessage]] = {}
        self._guard = RLock()  # reentrant: a `__repr__` in a message may make a call

    def last_of(self, messages: Sequence[Any]) -> MessageNode | None:
        """Return the node of the last of some messages, oldest first; None if one of them is too large."""
        node: MessageNode | None = None
        nodes, revision = self._nodes, self._redactor.revision
        with self._guard:
            for message in messages:
                known = nodes.get((id(node), id(message)))
                found = known[1]() if known is not None and known[0].is_that_of(message, revision) else None
                node = found or self._add(node, message)
                if node is None:
                    return None
        return node

    def encoded(self, message: Any) -> EncodedMessage | None:
        """Return a message as plain data, which must not be changed; None if it is too large."""
        return self._encoded(message)[1]

    def _encoded(self, message: Any) -> tuple[_Content | None, EncodedMessage | None]:
        revision = self._redactor.revision
        with self._guard:
            found = self._recent.get(id(message))
            if found is not None and found[0].is_that_of(message, revision):
                return found
            content = _Content(message, revision)
            encoded = self._encode(message)
            if encoded is None or not content.is_known:
                return None, encoded
            self._recent[id(message)] = content, encoded
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
            return content, encoded

    def _add(self, before: MessageNode | None, message: Any) -> MessageNode | None:
        content, encoded = self._encoded(message)
        if encoded is None:
            return None
        node = self._make_node(before, encoded)
        if content is not None:
            key, nodes = (id(before), id(message)), self._nodes
            nodes[key] = content, ref(node, lambda _: nodes.pop(key, None))
        return node


def _dumped(mutable: list[Any]) -> bytes | None:
    """Return what some parts of a message contain; None if it cannot be compared."""
    try:
        return marshal.dumps(mutable, _MARSHAL_VERSION)
    except ValueError:  # not plain data
        return None


def _find_mutable(value: Any, found: list[Any]) -> bool:
    """Add the parts of a message that can change to ``found``. Return whether all of it is understood."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is dict or kind is list:
        found.append(value)
        return True
    parts = value
    if kind is not tuple:
        if kind not in _frozen_types:
            return False
        parts = [getattr(value, name) for name in _names_of(value.__class__)]
    others = [part for part in parts if type(part) not in _SCALARS]
    return all(_find_mutable(part, found) for part in others)


@cache
def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))
