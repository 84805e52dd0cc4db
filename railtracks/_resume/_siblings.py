"""The recorded calls of one caller, by what a new call is matched with: its node and its arguments.

A new try of a call that had failed is matched with the next try of what that one was matched with.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import islice

from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._definitions import is_defined
from railtracks._resume._links import MAX_COMPARED
from railtracks.state._records import CallRecord
from railtracks.state._serialization._added_fields import Classes
from railtracks.state._serialization._compact_text import compact_inputs
from railtracks.state._serialization._record_text import form_in, is_former, is_lossy
from railtracks.state._serialization._renaming import split_key

MatchKey = tuple[str, str]
_END = -1
_VALUE = r'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+.\w]++)'
_SIMPLE = re.compile(rf'"input_args": \[((?:{_VALUE}(?:, {_VALUE})*+)?)\], "input_kwargs": \{{\}}')
_VALUES = re.compile(_VALUE)


def match_key(record: CallRecord) -> MatchKey | None:
    """Return the key of a recorded call among its siblings: node and arguments. None if it cannot be matched."""
    if record.node is None or record.inputs is None or is_lossy(form_in(record.inputs)):
        return None
    return record.node, compact_inputs(record.inputs)


def _count_simple(inputs: str) -> int | None:
    """Return the number of arguments in a text if they are positional, and texts, numbers, True, False or None.

    If two such texts have as many arguments and are not equal, their arguments are not equal, whatever the parameters.
    """
    found = _SIMPLE.fullmatch(inputs)
    return None if found is None else len(_VALUES.findall(found[1]))


class Siblings:
    """An index of the calls of one caller. It holds their positions, and no object for each: there may be very many.

    Args:
        records: The calls, in the order of creation.
        next_tries: The positions of calls that were tried again, each with that of its next try.

    Attributes:
        taken: By position, whether a call was found here.
        have_former: Whether one of them was recorded by a release that wrote types without their places.
    """

    def __init__(self, records: Sequence[CallRecord], next_tries: Mapping[int, int]) -> None:
        self._records = records
        # By the identity of the record of a call that was tried again: its position, and that of its next try.
        self._next_tries = {id(records[at]): (at, following) for at, following in next_tries.items()}
        later = {*next_tries.values()}
        self._by_node: dict[str, _OfNode] = {}
        self._next_equal = array("q", [_END]) * len(records)
        self.taken: bytearray = bytearray(len(records))
        self.have_former: bool = False
        self._have_keys = True
        for position in reversed(range(len(records))):  # so that the first of equal ones comes last, and is found
            if position in later:
                continue
            key = match_key(records[position])
            if key is None:
                self._have_keys = False
            else:
                self.have_former = self.have_former or is_former(key[1]) or is_former(key[0])
                of_node = self._by_node.get(key[0])
                if of_node is None:
                    of_node = self._by_node[key[0]] = _OfNode(_count_simple(key[1]))
                elif of_node.count is not None and of_node.count != _count_simple(key[1]):
                    of_node.count = None
                self._next_equal[position] = of_node.first.get(key[1], _END)
                of_node.first[key[1]] = position
                of_node.left += 1

    def take(self, key: MatchKey, forms: CanonicalForms | None, is_taken: Callable[[int], bool]) -> int | None:
        """Return the position of the first call that has this key and is left; None if there is none. Once for each.

        Args:
            key: The key.
            forms: The canonical forms of the node's arguments. If they are passed, a call of the same node whose
                arguments have the same form is found if none has the key itself.
            is_taken: Returns whether the call at a position is not left.
        """
        of_node = self._by_node.get(key[0])
        if of_node is None or not of_node.left:
            return None
        position = self._first_equal(of_node.first, key[1], is_taken)
        if position is None and forms is not None and not self._are_simple(of_node, key):
            position = self._first_of_form(of_node, key[1], forms, is_taken)
        if position is not None:
            of_node.left -= 1
            self.taken[position] = True
        return position

    def take_next_try(self, record: CallRecord, is_taken: Callable[[int], bool]) -> int | None:
        """Return the position of the try that followed a call that was found here; None if there is none left.

        Args:
            record: The call.
            is_taken: As for :meth:`take`.
        """
        before, position = self._next_tries.get(id(record), (None, _END))
        if before is None or not self.taken[before] or is_taken(position):
            return None
        self.taken[position] = True
        return position

    def have_no_links(self, key: MatchKey) -> bool:
        """Return whether it is quickly seen that none of the calls can be linked with a new one that has this key.

        It is if all calls of its node have simple arguments: those that are not equal differ in one. To compare their
        canonical forms takes long if there are very many, and would find the same.
        """
        if not self._have_keys or not self._are_all_defined:
            return False
        of_node = self._by_node.get(key[0])
        with_base = self._bases[_base(key[0])]
        return with_base == 0 if of_node is None else with_base == 1 and self._are_simple(of_node, key)

    def _are_simple(self, of_node: _OfNode, key: MatchKey) -> bool:
        return of_node.count is not None and not self.have_former and of_node.count == _count_simple(key[1])

    @cached_property
    def _bases(self) -> Counter[tuple[str, str]]:
        """How many nodes, in several versions, have the same name and the same values bound to it."""
        return Counter(map(_base, self._by_node))

    @cached_property
    def _are_all_defined(self) -> bool:
        """Whether no function that they call was renamed or removed."""
        return all(is_defined(path) for path, _ in self._bases)

    def _first_equal(self, first: dict[str, int], inputs: str, is_taken: Callable[[int], bool]) -> int | None:
        found = first.get(inputs)
        if found is None:
            return None
        while found != _END and is_taken(found):
            found = self._next_equal[found]
        first[inputs] = found  # what is before it is not searched again
        return None if found == _END else found

    def _first_of_form(
        self, of_node: _OfNode, inputs: str, forms: CanonicalForms, is_taken: Callable[[int], bool]
    ) -> int | None:
        if of_node.by_form is None or of_node.forms is None:
            of_node.forms = forms  # kept: it knows the signature of the node, which takes long to find
            of_node.by_form = self._index_forms(of_node.first, forms, is_taken)
        form = of_node.forms.of(inputs)
        candidates = [] if form is None else of_node.by_form.get(form, [])
        return next((position for position in candidates if not is_taken(position)), None)

    def _index_forms(
        self, first: dict[str, int], forms: CanonicalForms, is_taken: Callable[[int], bool]
    ) -> dict[str | None, list[int]]:
        by_form: dict[str | None, list[int]] = {}
        for position in self._left(first, is_taken):
            by_form.setdefault(forms.of(self._inputs(position)), []).append(position)
        return by_form

    def _left(self, first: dict[str, int], is_taken: Callable[[int], bool]) -> list[int]:
        """Return the positions of those calls of a node that are left, in the order of creation."""
        positions = []
        for found in first.values():
            while found != _END:
                if not is_taken(found):
                    positions.append(found)
                found = self._next_equal[found]
        return sorted(positions)

    def _inputs(self, position: int) -> str:
        inputs = self._records[position].inputs
        assert inputs is not None
        return inputs

    def take_without_fields(
        self, key: MatchKey, forms: CanonicalForms, classes: Classes, is_taken: Callable[[int], bool]
    ) -> int | None:
        """Do as ``take`` for the first call that differs only in fields with defaults that its classes have got since.

        Args:
            key: The key of the new call.
            forms: The canonical forms of the node's arguments.
            classes: The classes with fields in the arguments of the new call.
            is_taken: Returns whether the call at a position is not left.
        """
        of_node = self._by_node.get(key[0])
        if of_node is None or not of_node.left:
            return None
        names = frozenset(classes)
        if names not in of_node.lacking:
            left = self._left(of_node.first, is_taken)
            of_node.lacking[names] = [each for each in left if forms.lacks_fields(self._inputs(each), classes)]
        waiting = (position for position in of_node.lacking[names] if not is_taken(position))
        for position in islice(waiting, MAX_COMPARED):
            if forms.is_same_without_fields(self._inputs(position), key[1], classes):
                of_node.left -= 1
                self.taken[position] = True
                return position
        return None


def _base(node: str) -> tuple[str, str]:
    path, bound, _ = split_key(node)
    return path, bound or ""


class _OfNode:
    """The calls that call the same node.

    Attributes:
        count: The number of arguments, if all calls have as many and all are simple.
        first: By the text of the arguments, the position of the first call that may be left.
        left: How many calls are left, at most.
        forms: The canonical forms, once one was searched.
        by_form: By canonical form, the positions of the calls that were left at that time.
        lacking: By the names of classes, the positions of those whose arguments have instances that lack fields.
    """

    __slots__ = ("by_form", "count", "first", "forms", "lacking", "left")

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.first: dict[str, int] = {}
        self.left = 0
        self.forms: CanonicalForms | None = None
        self.by_form: dict[str | None, list[int]] | None = None
        self.lacking: dict[frozenset[str], list[int]] = {}
