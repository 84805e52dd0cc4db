"""The arguments of a call as people see them: the beginning of each, on one line, without secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from railtracks.state._records import CallRecord
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._placeholders import IGNORED
from railtracks.state._serialization._record_text import parse_members
from railtracks.state._serialization._shown_data import MORE, shorten, shorten_middle, shown_data, shown_members

SHOWN_ARGUMENTS = 8
"""The number of arguments that are shown in a line of a log."""
SHOWN_CHARACTERS = 120
"""The number of characters of each that are shown there."""
_MAX_TEXT = 100
_MAX_ITEMS = 5
_MAX_PARTS = 40
_MAX_PARSED = 20_000
"""The number of characters of a record's arguments up to which they are parsed. Of larger ones, the size is shown."""


class _ArgumentEncoder(Encoder):
    """Encodes a value of which only a line is shown."""

    _max_repr = _MAX_TEXT

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(redactor)
        self._max_text = _MAX_TEXT
        self._max_items = _MAX_ITEMS
        self._parts = _MAX_PARTS

    def _encode_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """Return the first pairs alone: encoding a million keys would hold up the event loop."""
        return super()._encode_pairs(islice(pairs, _MAX_ITEMS + 1))


def shown_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    redactor: Redactor,
    secret_positions: Collection[int] = (),
    limit_of_each: int = SHOWN_CHARACTERS,
) -> str:
    """Return the arguments of a call as text, such as ``7, "text", limit=[1, 2]``. Never raises.

    Args:
        args: The positional arguments.
        kwargs: The others.
        redactor: The secrets that are known. Those that are found in the arguments are added.
        secret_positions: The positions in ``args`` of those whose parameters name a secret.
        limit_of_each: The number of characters of each that are returned at most.
    """

    def shown(key: str | None, value: Any) -> str:
        if value is IGNORED:
            return MORE
        encoder = _ArgumentEncoder(redactor)
        data = encoder.encode(value) if key is None else encoder.encode_member(key, value)
        # Its texts are cut already, and say how long they are; the length of all of it would say nothing.
        text = shorten(redactor.redact_free_text(shown_data(data, 2 * _MAX_TEXT)), SHOWN_CHARACTERS)
        return shorten_middle(text, limit_of_each)

    texts = [
        shown("secret" if at in secret_positions else None, value) for at, value in enumerate(args[:SHOWN_ARGUMENTS])
    ]
    rest = SHOWN_ARGUMENTS - len(texts)
    texts += [f"{name}={shown(name, value)}" for name, value in islice(kwargs.items(), rest)]
    left = len(args) + len(kwargs) - len(texts)
    return ", ".join([*texts, *([f"… [{left} more]"] if left else [])])


def recorded_arguments(inputs: str, limit: int, limit_of_each: int) -> str:
    """Return the arguments in the text of a record, which is without secrets.

    Args:
        inputs: The text.
        limit: The number of characters to return at most.
        limit_of_each: That of each argument.
    """
    if len(inputs) > _MAX_PARSED:
        return f"{MORE} {len(inputs)} characters"
    members = parse_members(inputs)
    args, kwargs = members["input_args"], members["input_kwargs"]
    args = args if isinstance(args, list) else [args]  # one mark for all, if one of them cannot be written by itself
    return shown_members(args, kwargs, limit, limit_of_each)


def arguments_of(record: CallRecord, redactor: Redactor, limit: int, limit_of_each: int) -> str:
    """Return the arguments of a recorded call, live or loaded. Never raises.

    Args:
        record: The record of the call.
        redactor: The secrets that are known. Those that are found in the arguments are added.
        limit: The number of characters to return at most.
        limit_of_each: That of each argument.
    """
    if record.inputs is None:
        return shorten(shown_arguments(record.args, record.kwargs, redactor, (), limit_of_each), limit)
    return redactor.redact_free_text(recorded_arguments(record.inputs, limit, limit_of_each))


def result_of(record: CallRecord, redactor: Redactor, limit: int) -> str:
    """Return the result of a call that has completed, live or loaded. Never raises.

    Args:
        record: The record of the call.
        redactor: The secrets that are known. Those that are found in the result are added.
        limit: The number of characters to return at most.
    """
    if record.output is None:
        return shown_arguments((record.result,), {}, redactor, (), limit)
    if len(record.output) > _MAX_PARSED:
        return f"{MORE} {len(record.output)} characters"
    return redactor.redact_free_text(shown_data(parse_members(record.output)["output"], limit))
