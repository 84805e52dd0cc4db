"""An index of known texts, to find those that occur in another text without a search for each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from struct import unpack_from
from sys import byteorder

MIN_LENGTH = 6
"""The fewest characters that an indexed text may have."""
_WORD = 4  # bytes of an item of a memoryview of format "I"
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by what is left over of a word
_STRIDES = (16, 8, 4)
_MASKS = [int.from_bytes(bytes([255] * gram + [0] * (_WORD - gram)), byteorder) for gram in range(_WORD + 1)]
"""What remains of a word that is a gram of so many characters."""


class TextIndex:
    """The texts that are known, indexed by a few of their characters.

    A text that is searched is sampled: of every ``stride`` characters, only the first few (a gram) are read. A
    window of ``stride + gram - 1`` characters contains exactly one sampled gram, wherever it stands. So one window of
    each known text is chosen, and all grams in it are put into a set. A text none of whose sampled grams is in that set
    contains none of the known texts, and most texts are done with then, in a single call of ``set.isdisjoint``.
    Otherwise the windows around the grams that were found are looked up.

    The shorter the shortest known text is, the more places of a text must be sampled. A text that is too short for the
    index needs a new one.

    Searching is safe while another thread adds or removes a text. Adding and removing are not safe in two threads at
    once.

    Args:
        texts: At least one text, each with ``MIN_LENGTH`` characters or more.

    Attributes:
        shortest: The fewest characters that a text to be added may have.
        removed: How many texts were removed. Their grams remain, and cause a few needless look-ups.
    """

    __slots__ = ("_gram", "_grams", "_step", "_stride", "_window_of", "_windows", "removed", "shortest")

    def __init__(self, texts: Collection[str]) -> None:
        shortest = min(map(len, texts))
        self._gram = min(_WORD, shortest - min(_STRIDES) + 1)
        self._stride = next(stride for stride in _STRIDES if stride + self._gram - 1 <= shortest)
        self._step = self._stride // _WORD
        self.shortest = self._stride + self._gram - 1
        self.removed = 0
        self._grams: set[int] = set()
        self._windows: dict[str, tuple[str, ...]] = {}  # each with the texts for which it was chosen
        self._window_of: dict[str, str] = {}
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Index a text that is not in the index, and has ``shortest`` characters or more."""
        window = self._choose(text)
        data = window.encode("ascii", "replace").ljust(self._stride + _WORD - 1, b"\0")
        for offset in range(_WORD):
            words = unpack_from(f"{self._step}I", data, offset)
            self._grams.update(words if self._gram == _WORD else [word & _MASKS[self._gram] for word in words])
        self._windows[window] = (*self._windows.get(window, ()), text)
        self._window_of[text] = window

    def remove(self, text: str) -> None:
        """Remove a text that is in the index."""
        window = self._window_of.pop(text)
        if owners := tuple(owner for owner in self._windows[window] if owner != text):
            self._windows[window] = owners
        else:
            del self._windows[window]
        self.removed += 1

    def find(self, text: str) -> Collection[str]:
        """Return the known texts that occur in ``text``, in any order, and perhaps some that do not."""
        if len(text) < self.shortest:
            return ()
        words = _words(text, self._gram)
        if self._step > 1:
            words = words[:: self._step]
        return () if self._grams.isdisjoint(words) else self._find_near(text, words)

    def _choose(self, text: str) -> str:
        """Return the last window of ``text`` that no other text has: secrets often share how they begin."""
        starts = range(len(text) - self.shortest, -1, -self.shortest)
        windows = (text[start : start + self.shortest] for start in starts)
        return next((window for window in windows if window not in self._windows), text[-self.shortest :])

    def _find_near(self, text: str, words: Iterable[int]) -> set[str]:
        # Each distinct window counts once, or a text that repeats itself would take a time of its length times the
        # number of known texts.
        windows = {
            window
            for place, word in enumerate(words)
            if word in self._grams
            for start in range(max((place - 1) * self._stride + 1, 0), place * self._stride + 1)
            if (window := text[start : start + self.shortest]) in self._windows
        }
        return {known for window in windows for known in self._windows.get(window, ())}


def _words(text: str, gram: int) -> memoryview:
    """Return, as a number each, the first ``gram`` of every four characters, from the first on.

    Characters outside ASCII all count as the same one, so that each character is one byte.
    """
    data = text.encode("ascii", "replace")
    data += _PADDING[len(data) % _WORD]
    if gram < _WORD:
        shortened = bytearray(data)
        shortened[gram::_WORD] = bytes(len(data) // _WORD)
        return memoryview(shortened).cast("I")
    return memoryview(data).cast("I")
