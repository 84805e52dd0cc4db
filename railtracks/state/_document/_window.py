"""The part of a text that is held in memory while all of it passes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

SEPARATORS = (", ", ",\n")
"""What stands between the items of an array: until version 4, and from version 5 on."""


class OtherFormatError(Exception):
    """The text does not go on as expected; or the window does not reach far enough yet."""


def after(text: str, at: int, expected: str) -> int:
    """Return the position behind a text that must come next."""
    if not text.startswith(expected, at):
        raise OtherFormatError
    return at + len(expected)


class Window:
    """The part of the document that is in memory: a text, and the position in it."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self.text = ""
        self.at = 0

    def fill(self) -> bool:
        """Drop what was read, and add what comes next. Return whether there was more."""
        rest = len(self.text) - self.at
        parts = [self.text[self.at :]]
        added = 0
        for piece in self._pieces:
            parts.append(str(piece, "ascii"))
            added += len(piece)
            if added >= rest:  # so that a value much larger than a piece is not tried again for each
                break
        self.text, self.at = "".join(parts), 0
        return added > 0

    def take(self, parse: Callable[[str, int], int]) -> None:
        """Move behind what ``parse`` finds at the position; if it finds nothing, there may be too little text yet."""
        while True:
            try:
                self.at = parse(self.text, self.at)
                return
            except (OtherFormatError, StopIteration, ValueError):
                if not self.fill():
                    raise OtherFormatError from None

    def skips(self, *expected: str) -> bool:
        """Move behind one of some texts of one length if it comes next, and return whether it does."""
        length = len(expected[0])
        while len(self.text) - self.at < length:
            if not self.fill():
                return False
        found = self.text.startswith(expected, self.at)
        if found:
            self.at += length
        return found

    def expect(self, *expected: str) -> None:
        """Move behind one of some texts of one length, which must come next."""
        if not self.skips(*expected):
            raise OtherFormatError

    def items(self, parse: Callable[[str, int], int]) -> None:
        """Move behind the items of an array, whose bracket was opened, and behind the bracket that closes it."""
        if self.skips("]"):
            return
        while True:
            try:
                text, at = self.text, self.at
                while True:
                    at = parse(text, at)
                    self.at = at
                    if text[at : at + 2] not in SEPARATORS:
                        break
                    at += 2
                if self.skips("]"):
                    return
                self.expect(*SEPARATORS)
            except (OtherFormatError, StopIteration, ValueError):
                if self.text.startswith(SEPARATORS, self.at):
                    self.at += 2
                if not self.fill():
                    raise OtherFormatError from None
