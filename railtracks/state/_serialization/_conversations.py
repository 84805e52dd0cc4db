"""The messages of conversations, encoded once each: what the texts of records share. See ``_shared_texts.py``.

A message that was encoded before is known by its identity, and by what stands before it. That is enough, as messages
are frozen: only the dicts in some of them, such as the arguments of tool calls, are compared with what they were.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from typing import Any
from weakref import ref

import attrs

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._shared_texts import MessageNode, Notes, intern

FEWEST_SHARED = 3
"""The number of messages from which on a list of them is shared. Shorter ones are mostly written only once."""
_MARSHAL_VERSION = 2
"""A version of the format that depends on nothing but the values."""
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_message_types: set[type] = set()
_frozen_types: set[type] = set()
EncodeMessage = Callable[[Any], tuple[str, Notes, Form, dict[str, str | bytes]] | None]
"""Returns a message as JSON, its types, its form and the large values in it; None if it is too large."""


def register_messages(*classes: type) -> None:
    """Have lists of instances of these classes, which are frozen attrs classes, shared."""
    _message_types.update(classes)
    _frozen_types.update(classes)


def register_message_parts(*classes: type) -> None:
    """Note that instances of these attrs classes, which occur in messages, are frozen."""
    _frozen_types.update(classes)


def are_messages(items: Sequence[Any]) -> bool:
    """Return whether a sequence is one that is shared."""
    return len(items) >= FEWEST_SHARED and all(type(item) in _message_types for item in items)


class _Seen:
    """A message that was encoded.

    Attributes:
        message: The message.
        mutable: The parts of it that can change.
        content: What they contained.
        revision: That of the redactor.
        node: Refers to the node that was made of it.
    """

    __slots__ = ("content", "message", "mutable", "node", "revision")

    def __init__(self, message: Any, mutable: list[Any], content: bytes, revision: int, node: ref[MessageNode]) -> None:
        self.message: Any = message
        self.mutable: list[Any] = mutable
        self.content: bytes = content
        self.revision: int = revision
        self.node: ref[MessageNode] = node


class Conversations:
    """The messages that one session has encoded. Thread-safe.

    They are known as long as a record refers to them.

    Args:
        redactor: The secrets that the session knows. When it learns of one, all messages are searched once more.
        encode: Encodes a message.
    """

    def __init__(self, redactor: Redactor, encode: EncodeMessage) -> None:
        self._redactor = redactor
        self._encode = encode
        self._seen: dict[tuple[int, int], _Seen] = {}  # by the identities of the node before it and of the message
        self._guard = RLock()  # reentrant: a `__repr__` in a message may make a call

    def last_of(self, messages: Iterable[Any]) -> MessageNode | None:
        """Return the node of the last of some messages, oldest first; None if one of them is too large."""
        node: MessageNode | None = None
        seen, revision = self._seen, self._redactor.revision
        with self._guard:
            for message in messages:
                known = seen.get((id(node), id(message)))
                found = None
                if (
                    known is not None
                    and known.message is message
                    and known.revision == revision
                    and (not known.mutable or _content_of(known.mutable) == known.content)
                ):
                    found = known.node()
                if found is None:
                    found = self._add(node, message)
                    if found is None:
                        return None
                node = found
        return node

    def _add(self, before: MessageNode | None, message: Any) -> MessageNode | None:
        revision = self._redactor.revision
        mutable: list[Any] = []
        content = _content_of(mutable) if _find_mutable(message, mutable) else None
        encoded = self._encode(message)
        if encoded is None:
            return None
        node = intern(before, *encoded)
        if content is not None:
            key, seen = (id(before), id(message)), self._seen

            def forget(_: object) -> None:
                seen.pop(key, None)

            seen[key] = _Seen(message, mutable, content, revision, ref(node, forget))
        return node


def _content_of(mutable: list[Any]) -> bytes | None:
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
    if kind is tuple:
        return all(_find_mutable(item, found) for item in value)
    if kind not in _frozen_types:
        return False
    return all(_find_mutable(getattr(value, field.name), found) for field in attrs.fields(kind))
