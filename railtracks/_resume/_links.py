"""Links: a call that cannot be identified, and the recorded calls whose place it takes.

An argument may have no written form, such as a client, or hold a secret; the node may have no key, as it is a method of
such an object; or the code of the caller has changed: its version, its name, or its parameters. Nothing of such a call
can be reused, but the calls that it makes are identified in their own right. So it is linked with a recorded call of
the same caller, and they are searched below that.

Two calls may be linked if nothing that can be compared differs: they call the same node with the same values bound to
it, or the recorded one calls a function that does not exist any more, and the arguments that both have are equal as far
as they are on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from railtracks._resume._canonical import CanonicalForms, shown_inputs
from railtracks._resume._definitions import is_defined
from railtracks.state._records import CallRecord
from railtracks.state._serialization._parts import FORMERLY_OPAQUE
from railtracks.state._serialization._record_text import form_in, is_lossy
from railtracks.state._serialization._renaming import split_key

MAX_COMPARED = 1_000
"""The number of recorded calls with other parameters that a new call is compared with."""


class _Recorded(Protocol):
    """A recorded call, as far as this module needs it."""

    record: CallRecord | None
    is_taken: bool
    is_linked: bool


T = TypeVar("T", bound=_Recorded)
_MatchKey = tuple[str | None, str | None]
_Base = tuple[str, str]
"""What names the node of a call, and what is bound to it."""


def base_of(record: CallRecord) -> _Base:
    """Return what names the node of a call: its key without its version, or else its name."""
    if record.node is None:
        return f"?{record.name}", ""
    path, bound, _ = split_key(record.node)
    return path, bound or ""


def is_of_library(record: CallRecord) -> bool:
    """Return whether a call is of a node of the library, such as a batch."""
    return base_of(record)[0].startswith("railtracks.")


def link_key(record: CallRecord) -> tuple[str, ...]:
    """Return the key of a call that has no match key: equal for calls in which nothing differs that is on record."""
    return *base_of(record), record.name, "" if record.inputs is None else shown_inputs(record.inputs)


class Group(Generic[T]):
    """Recorded calls of one caller that differ in nothing that a new call can be compared with, by creation.

    Attributes:
        nodes: The calls.
    """

    def __init__(self) -> None:
        self.nodes: list[T] = []
        self._next = 0

    def next_free(self) -> T | None:
        """Return the first call that no new call was matched or linked with; None if there is none left."""
        while self._next < len(self.nodes):
            node = self.nodes[self._next]
            if not node.is_taken and not node.is_linked:
                return node
            self._next += 1
        return None


class Links(Generic[T]):
    """The recorded calls of one caller, by what new calls can be linked with.

    Args:
        children: The recorded calls, in the order of creation.
    """

    def __init__(self, children: Sequence[T]) -> None:
        self._by_base: dict[_Base, list[T]] = {}
        self._by_name: dict[str, list[T]] = {}
        self._gone: dict[str, list[T]] = {}  # by what is bound to them: those of functions that do not exist any more
        for child in children:
            assert child.record is not None
            self._by_base.setdefault(base_of(child.record), []).append(child)
            self._by_name.setdefault(child.record.name, []).append(child)
        for (path, bound), found in self._by_base.items():
            if not path.startswith("?") and not is_defined(path):
                self._gone.setdefault(bound, []).extend(found)
        self._tables: dict[tuple[int, int], _Table[T]] = {}

    def find(self, record: CallRecord, forms: CanonicalForms) -> Iterator[Group[T]]:
        """Yield the recorded calls that a new call can be linked with.

        Those that it could be matched with are not among them, as they have places of their own.

        Args:
            record: The new call.
            forms: The canonical forms of its node's arguments. It must live as long as this object.
        """
        assert record.inputs is not None
        arguments: dict[str, str] | None = None
        for children in self._candidates(record):
            if arguments is None:
                arguments = forms.by_parameter(record.inputs)
            table = self._tables.get((id(children), id(forms)))
            if table is None:
                table = self._tables[id(children), id(forms)] = _Table(children, forms)
            for groups in table.equal(arguments):
                for key, group in groups.items():
                    if key is None or key != _comparable(record):
                        yield group
            if any(path in record.inputs for path in FORMERLY_OPAQUE):
                for groups in table.equal(forms.by_parameter(record.inputs, FORMERLY_OPAQUE)):
                    yield from (group for key, group in groups.items() if key is None)

    def _candidates(self, record: CallRecord) -> Iterator[list[T]]:
        """Yield the recorded calls of nodes that may be that of a new call."""
        base = base_of(record)
        found = [self._by_name.get(record.name)] if record.node is None else [
            self._by_base.get(base),
            self._by_base.get((f"?{record.name}", "")),
            self._gone.get(base[1]),
        ]  # fmt: skip
        yield from filter(None, found)


class _Table(Generic[T]):
    """Recorded calls by their arguments, as the signature of one node binds them."""

    def __init__(self, children: Sequence[T], forms: CanonicalForms) -> None:
        # By the names of the parameters, the arguments, and node and arguments as they are on record.
        self._by_shape: dict[tuple[str, ...], dict[tuple[str, ...], dict[_MatchKey | None, Group[T]]]] = {}
        for child in children:
            record = child.record
            assert record is not None
            if record.inputs is not None:
                arguments = forms.by_parameter(record.inputs)
                same_shape = self._by_shape.setdefault(tuple(arguments), {})
                groups = same_shape.setdefault(tuple(arguments.values()), {})
                groups.setdefault(_comparable(record), Group()).nodes.append(child)

    def equal(self, arguments: dict[str, str]) -> Iterator[dict[_MatchKey | None, Group[T]]]:
        """Yield the calls whose arguments are equal, as far as both have them."""
        shape = tuple(arguments)
        yield self._by_shape.get(shape, {}).get(tuple(arguments.values()), {})
        for other, by_values in self._by_shape.items():
            if other != shape:
                for values, groups in islice(by_values.items(), MAX_COMPARED):
                    recorded = dict(zip(other, values, strict=True))
                    if all(recorded[name] == arguments[name] for name in recorded.keys() & arguments.keys()):
                        yield groups


def _comparable(record: CallRecord) -> _MatchKey | None:
    """Return node and arguments of a call if they are all on record."""
    is_lossless = record.node is not None and record.inputs is not None and not is_lossy(form_in(record.inputs))
    return (record.node, record.inputs) if is_lossless else None
