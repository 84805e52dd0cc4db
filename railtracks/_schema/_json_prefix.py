"""JSON of which only the beginning has come, read as it comes. The work is linear in the length of the text.

What is read is what ``json.loads`` reads: for a text that is not JSON, reading stops where that is seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 100
"""How deeply values may be nested. What is nested more deeply is not read."""
_MAX_TOKEN = 400
"""Characters of a number."""
_SPACE = re.compile(r"[ \t\n\r]*")
_CHARACTERS = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(
    r'\\(?:["\\/bfnrt]|u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=[^\\]|\\[^u]))|u(?![dD][89abAB])[0-9a-fA-F]{4})'
)
_PART_OF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,4}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?")
_SCALAR = re.compile(r"[-+.0-9a-zA-Z]+")


class Node:
    """A value, or the beginning of one.

    Attributes:
        value: Of an object, a dict of nodes; of an array, a list of nodes; of a text, its parts; else the value itself.
        is_text: Whether it is a text.
        is_whole: Whether its end has come.
        cache: For the reader of the nodes.
    """

    __slots__ = ("cache", "is_text", "is_whole", "value")

    def __init__(self, value: Any, is_text: bool = False, is_whole: bool = False) -> None:
        self.value, self.is_text, self.is_whole = value, is_text, is_whole
        self.cache: Any = None

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self.value) > 1:
            self.value[:] = ["".join(self.value)]
        return self.value[0] if self.value else ""

    def data(self) -> Any:
        """Return the value as plain data, as far as it has come."""
        if self.is_text:
            return self.text
        if isinstance(self.value, dict):
            return {key: node.data() for key, node in self.value.items()}
        return [node.data() for node in self.value] if isinstance(self.value, list) else self.value


class PrefixReader:
    """Reads the first JSON object of a text that comes piece by piece. What is before it and after it is passed over.

    Attributes:
        top: The object. None before its beginning.
        has_changed: Whether ``top`` holds more than when this was last set to False.
        has_failed: Whether the text is not JSON. Then nothing more is read.
    """

    def __init__(self) -> None:
        self.top: Node | None = None
        self.has_changed = self.has_failed = False
        self._stack: list[Node] = []  # the containers that are open, and the text
        self._key: Node | None = None  # the key that is open, or whose value comes
        self._rest = ""
        self._next: Callable[[str, int], int] = self._start

    def feed(self, text: str) -> None:
        """Add what came."""
        if self.has_failed or (self.top is not None and self.top.is_whole):
            return
        text, position = self._rest + text, 0
        while position < len(text):
            found = self._next(text, position)
            if found < 0:
                self.has_failed = True
                return
            if found == position:  # the rest is a part of something
                break
            position = found
            if self.top is not None and self.top.is_whole:
                return
        self._rest = text[position:]

    # ---- Each of these reads from a position, and returns the next one; the same if more is needed, and -1 if the text
    # ---- is not JSON.

    def _start(self, text: str, position: int) -> int:
        found = text.find("{", position)
        if found < 0:
            return len(text)
        return self._value(text, found)

    def _value(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        if position == len(text):
            return position
        if text[position] == "]" and self._stack and self._stack[-1].value == []:
            return self._close(position)
        if text[position] in "{[":
            return self._open(Node({} if text[position] == "{" else []), position)
        if text[position] == '"':
            node = Node([], is_text=True)
            self._place(node)
            self._stack.append(node)
            self._next = self._characters
            return position + 1
        return self._scalar(text, position)

    def _scalar(self, text: str, position: int) -> int:
        match = _SCALAR.match(text, position)
        if match is None or match.end() - position > _MAX_TOKEN:
            return -1
        if match.end() == len(text):
            return position
        try:
            value = json.loads(match[0], parse_constant=_refuse)
        except ValueError:
            return -1
        self._place(Node(value, is_whole=True))
        self._next = self._after_value
        return match.end()

    def _open(self, node: Node, position: int) -> int:
        if len(self._stack) == MAX_DEPTH:
            return -1
        if self.top is None:
            self.top = node
        else:
            self._place(node)
        self.has_changed = True
        self._stack.append(node)
        self._next = self._key_or_end if isinstance(node.value, dict) else self._value
        return position + 1

    def _place(self, node: Node) -> None:
        """Put a value into the innermost container."""
        holder = self._stack[-1].value
        if isinstance(holder, dict):
            assert self._key is not None
            holder[self._key.text] = node
            self._key = None
        else:
            holder.append(node)
        self.has_changed = True

    def _key_or_end(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        if position == len(text):
            return position
        if text[position] == "}" and not self._stack[-1].value:
            return self._close(position)
        if text[position] != '"':
            return -1
        self._key = Node([], is_text=True)
        self._next = self._characters
        return position + 1

    def _characters(self, text: str, position: int) -> int:
        """Read the next characters of a key or a text."""
        node = self._stack[-1] if self._key is None else self._key
        if text[position] == '"':
            return self._end_text(node, position + 1)
        match = _CHARACTERS.match(text, position) or _ESCAPE.match(text, position)
        if match is None:
            part = _PART_OF_ESCAPE.match(text, position)
            return position if part is not None and part.end() == len(text) else -1
        said = match[0]
        node.value.append(json.loads(f'"{said}"') if said.startswith("\\") else said)
        self.has_changed = self.has_changed or node is not self._key
        return match.end()

    def _end_text(self, node: Node, position: int) -> int:
        node.is_whole = True
        if node is self._key:
            self._next = self._colon
        else:
            self._stack.pop()
            self.has_changed = True
            self._next = self._after_value
        return position

    def _colon(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        if position == len(text):
            return position
        self._next = self._value
        return position + 1 if text[position] == ":" else -1

    def _after_value(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        if position == len(text):
            return position
        holder, mark = self._stack[-1], text[position]
        if mark == ",":
            self._next = self._next_key if isinstance(holder.value, dict) else self._next_item
            return position + 1
        return self._close(position) if mark == ("}" if isinstance(holder.value, dict) else "]") else -1

    def _next_key(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        return -1 if text[position : position + 1] == "}" else self._key_or_end(text, position)

    def _next_item(self, text: str, position: int) -> int:
        position = self._after_space(text, position)
        return -1 if text[position : position + 1] == "]" else self._value(text, position)

    def _close(self, position: int) -> int:
        self._stack.pop().is_whole = True
        self.has_changed = True
        self._next = self._after_value
        return position + 1

    @staticmethod
    def _after_space(text: str, position: int) -> int:
        match = _SPACE.match(text, position)
        assert match is not None
        return match.end()


def _refuse(name: str) -> Any:
    """Refuse NaN and the infinities, which Python's parser would accept."""
    raise ValueError(name)
