"""Texts of records that share the messages of conversations, so that a conversation is kept once.

A conversation goes on from call to call: each gets all messages until then, and returns them with some more. Written
whole each time, they would take the square of their length. So a message is kept with what stands before it, as a
``MessageNode``, and a text refers to the last message of each conversation in it::

    {"$type": "list", "$messages": 0, "$count": 3}      in place of the array of three messages
    "/input_args/0/*": {"$messages": 0}                 in place of their types

The numbers are places in ``SharedText.nodes``; in a file, they are those of the messages that were written before. The
texts of a ``SharingRecord`` are whole for whoever asks for them: only what writes files uses ``stored_texts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from threading import RLock
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from railtracks._concurrency._after_fork import after_fork
from railtracks.state._records import CallRecord, Form

_BEGINS = '"$messages": '
_NUMBER = re.compile(r'"\$messages": (\d+)')  # within a text, a backslash would stand before the second quote
_MARK = re.compile(
    r'\{"\$type": "list", "\$messages": (\d+), "\$count": \d+\}'
    r'|"([^"\\]*+(?:\\.[^"\\]*+)*+)": \{"\$messages": (\d+)\}'
)
Notes = tuple[tuple[str, str], ...]
"""The types of a message: each place, as JSON without quotes, and its entry, as JSON."""


class MessageNode:
    """A message in a conversation, after those before it. There is one for all equal ones: see ``intern``.

    Attributes:
        before: The message before it; None for the first one.
        text: The message as JSON.
        notes: Its types.
        own_form: How much of it is written.
        form: The same of the whole conversation.
        count: The number of messages up to this one.
        size: The number of bytes of all these, with types and large values.
        large: The large values in them, as far as they were encoded in this process.
        serial: A number that no other node of this process has.
    """

    __slots__ = ("__weakref__", "before", "count", "form", "large", "notes", "own_form", "serial", "size", "text")

    def __init__(
        self, before: MessageNode | None, text: str, notes: Notes, form: Form, large: dict[str, str | bytes]
    ) -> None:
        self.before: MessageNode | None = before
        self.text: str = text
        self.notes: Notes = notes
        self.own_form: Form = form
        self.form: Form = form
        self.count: int = 1
        self.size: int = len(text)
        self.large: dict[str, str | bytes] = large
        for place, entry in notes:
            self.size += len(place) + len(entry)
        for value in large.values():
            self.size += len(value)
        if before is not None:
            self.count += before.count
            self.size += before.size
            self.large = {**before.large, **large} if large else before.large
            if form is not before.form:
                self.form = max(form, before.form, key=_FORMS.index)
        self.serial: int = next(_serials)

    def add_large(self, own: dict[str, str | bytes]) -> None:
        """Add the large values in the conversation, which may not be known if it was read from a file."""
        above = {} if self.before is None else self.before.large
        if not (own.keys() <= self.large.keys() and above.keys() <= self.large.keys()):
            self.large = {**self.large, **above, **own}

    def chain(self) -> list[MessageNode]:
        """Return the nodes of the conversation, oldest first."""
        found: list[MessageNode] = []
        node: MessageNode | None = self
        while node is not None:
            found.append(node)
            node = node.before
        return found[::-1]


_FORMS = list(Form)
_serials = count()
_nodes: WeakValueDictionary[tuple[Any, ...], MessageNode] = WeakValueDictionary()
_guard = RLock()  # reentrant: a finalizer that runs while it is held may make a call


@after_fork
def _reset() -> None:
    global _guard
    _guard = RLock()  # another thread of the parent may have held it


def intern(
    before: MessageNode | None, text: str, notes: Notes, form: Form, large: dict[str, str | bytes] | None = None
) -> MessageNode:
    """Return the node of a message: the one that there is already, for an equal message after equal ones.

    Args:
        before: The message before it; None for the first one.
        text: The message as JSON.
        notes: Its types.
        form: How much of it is written.
        large: The large values in it.
    """
    key = (before, text, notes, form)
    with _guard:
        node = _nodes.get(key)
        if node is None:
            _nodes[key] = node = MessageNode(before, text, notes, form, large or {})
        else:
            node.add_large(large or {})
    return node


class SharedText:
    """A text of a record in which marks stand in place of conversations.

    Attributes:
        template: The text. The numbers in its marks are places in ``nodes``.
        nodes: The last message of each conversation.
    """

    __slots__ = ("nodes", "template")

    def __init__(self, template: str, nodes: tuple[MessageNode, ...]) -> None:
        self.template: str = template
        self.nodes: tuple[MessageNode, ...] = nodes

    @property
    def whole(self) -> str:
        """The text as it would be if nothing were shared."""
        chains = [node.chain() for node in self.nodes]

        def write(found: re.Match[str]) -> str:
            if found[1] is not None:
                return f"[{', '.join([node.text for node in chains[int(found[1])]])}]"
            return ", ".join(_types_of(chains[int(found[3])], found[2].removesuffix("/*")))

        return _MARK.sub(write, self.template)

    @property
    def key(self) -> str:
        """A text that two of them have in common if they are equal."""
        return self.numbered([node.serial for node in self.nodes])

    def numbered(self, numbers: list[int]) -> str:
        """Return the template with other numbers in its marks, given for each of ``nodes``."""
        return _NUMBER.sub(lambda found: f"{_BEGINS}{numbers[int(found[1])]}", self.template)


StoredText = str | SharedText


def _types_of(chain: list[MessageNode], place: str) -> Iterator[str]:
    """Yield the members of an object of types for the messages of a list that stands at ``place``."""
    first = chain[0].notes
    if len(chain) > 1 and all(node.notes == first for node in chain):  # as ``merge_members`` does
        for below, entry in first:
            yield f'"{place}/*{below}": {entry}'
        return
    for number, node in enumerate(chain):
        for below, entry in node.notes:
            yield f'"{place}/{number}{below}": {entry}'


def shares_messages(text: str) -> bool:
    """Return whether a text that was read from a file refers to messages."""
    return _BEGINS in text


def numbers_in(text: str) -> list[int]:
    """Return the numbers of the messages to which a text that was read from a file refers."""
    return [int(number) for number in dict.fromkeys(_NUMBER.findall(text))]


def shared_text(text: str, nodes: dict[int, MessageNode]) -> SharedText:
    """Return a text that was read from a file.

    Args:
        text: The text.
        nodes: The messages to which it refers, by their numbers there.
    """
    places = {number: place for place, number in enumerate(nodes)}
    template = _NUMBER.sub(lambda found: f"{_BEGINS}{places[int(found[1])]}", text)
    return SharedText(template, tuple(nodes.values()))


class MessageNumbers:
    """Numbers the messages of one journal or document, in the order in which they are first referred to."""

    def __init__(self) -> None:
        self._numbers: dict[MessageNode, int] = {}
        self._pending: list[str] = []

    def written(self, text: StoredText) -> str:
        """Return a text of a record as it is written in the file. ``take`` returns what is to be written with it."""
        if type(text) is str:
            return text
        assert isinstance(text, SharedText)
        return text.numbered([self._number_of(last) for last in text.nodes])

    def _number_of(self, last: MessageNode) -> int:
        numbers, new, node = self._numbers, [], last
        while node not in numbers:
            new.append(node)
            if node.before is None:
                break
            node = node.before
        for node in reversed(new):
            number = len(numbers)
            after = "" if node.before is None else f', "after": {numbers[node.before]}'
            types = ", ".join(f'"{place}": {entry}' for place, entry in node.notes)
            form = "" if node.own_form is Form.TYPED else f', "form": "{node.own_form.value}"'
            self._pending.append(f'{{"number": {number}{after}, "message": {node.text}, "types": {{{types}}}{form}}}')
            numbers[node] = number
        return numbers[last]

    def take(self) -> str | None:
        """Return the array of the messages that were numbered since, as JSON; None if there are none."""
        if not self._pending:
            return None
        text = f"[{', '.join(self._pending)}]"
        self._pending = []
        return text


_inputs: Any = CallRecord.__dict__["inputs"]
_output: Any = CallRecord.__dict__["output"]


class SharingRecord(CallRecord):
    """The record of a call with texts that share messages. Whoever asks for its texts gets them whole."""

    __slots__ = ()
    is_sharing: ClassVar[bool] = True

    @property
    def inputs(self) -> str | None:
        """The arguments as JSON members."""
        text = _inputs.__get__(self)
        return text.whole if type(text) is SharedText else text

    @inputs.setter
    def inputs(self, text: StoredText | None) -> None:
        _inputs.__set__(self, text)

    @property
    def output(self) -> str | None:
        """The result as JSON members."""
        text = _output.__get__(self)
        return text.whole if type(text) is SharedText else text

    @output.setter
    def output(self, text: StoredText | None) -> None:
        _output.__set__(self, text)


SharingRecord.__name__ = CallRecord.__name__  # in its repr
CallRecord.sharing_class = SharingRecord


def set_inputs(record: CallRecord, text: StoredText | None) -> None:
    """Set the arguments of a record as text."""
    if type(text) is SharedText and not record.is_sharing:
        record.__class__ = record.sharing_class
    record.inputs = text  # type: ignore[assignment]


def set_output(record: CallRecord, text: StoredText | None) -> None:
    """Set the result or the exception of a record as text."""
    if type(text) is SharedText and not record.is_sharing:
        record.__class__ = record.sharing_class
    record.output = text  # type: ignore[assignment]


def stored_inputs(record: CallRecord) -> StoredText | None:
    """Return the arguments of a record as they are kept."""
    return _inputs.__get__(record)  # type: ignore[no-any-return]


def stored_output(record: CallRecord) -> StoredText | None:
    """Return the result or the exception of a record as it is kept."""
    return _output.__get__(record)  # type: ignore[no-any-return]
