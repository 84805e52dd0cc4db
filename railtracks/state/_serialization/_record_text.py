"""Values as the JSON text that stands in journals and state files.

A record keeps two such texts, ``inputs`` and ``output``: members of a JSON object, without its braces, so that journal
and document are put together from them without looking at a value twice. The form is left out when it is PLAIN. When it
is TYPED, the types stand beside it: values of different types are written alike, and are not equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from math import isfinite
from typing import Any

from railtracks.state._records import CallRecord, Form, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import MAX_TEXT, Encoder

try:
    from _json import encode_basestring_ascii as quote  # what `json` uses, which takes its time to import
except ImportError:  # an interpreter that has none in C
    from json.encoder import py_encode_basestring_ascii as quote

_MANY = 16
"""More arguments than this are not worth a look for the short way."""

MAX_TYPES = 1_000
"""Characters of the names of types that are written in full."""
NAME_GROWTH = 21
"""Characters by which the name that version 2 recorded for a class may be longer than the current one."""
_COMPLETED = Status.COMPLETED
NO_OUTPUT = '"output": null'


@cache
def _encoder() -> Callable[[Any], str]:
    from json import JSONEncoder  # here, as it takes its time to import

    return JSONEncoder().encode


def dumps(data: Any) -> str:
    """Plain data as JSON, in ASCII."""
    return _encoder()(data)


def loads(content: bytes | str) -> Any:
    """Plain data from JSON. ValueError if it is none, RecursionError if it is nested too deeply."""
    from json import loads  # as above

    return loads(content)


@lru_cache(maxsize=4096)
def name_text(name: str) -> str:
    """A name, of which there are few, as JSON."""
    return quote(name)


def _settled(redactor: Redactor, write: Callable[[Encoder], str]) -> tuple[str, Encoder]:
    """What ``write`` gives; once more if it came upon a secret, which may stand in what was written before that."""
    known = redactor.revision
    encoder = Encoder(redactor)
    text = write(encoder)
    if redactor.revision != known:
        encoder = Encoder(redactor)
        text = write(encoder)
    return text, encoder


def member_text(key: object, value: object, redactor: Redactor) -> tuple[str, Form]:
    """A value that stands under ``key``, which may name a secret, as JSON; and how much of it that is. Never raises."""
    text, encoder = _settled(redactor, lambda encoder: dumps(encoder.member(key, value)))
    return text, encoder.form


def object_text(members: Mapping[str, object], redactor: Redactor) -> str:
    """Some named values, of which those whose names tell a secret are masked, as a JSON object. Never raises."""
    text, _ = _settled(redactor, lambda encoder: dumps(encoder.encode(dict(members))))
    return text


def inputs_text(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], redactor: Redactor, hidden: Collection[int] = ()
) -> str:
    """The arguments of a call. ``hidden``: the places of those whose parameters name a secret."""
    if not kwargs and not hidden and len(args) <= _MANY:
        texts: list[str] = []
        for value in args:
            shown = _scalar(value, redactor)
            if shown is None:
                break
            texts.append(shown)
        else:
            return f'"input_args": [{", ".join(texts)}], "input_kwargs": {{}}'

    def write(encoder: Encoder) -> str:
        shown = [encoder.masked(v) if place in hidden and v is not None else v for place, v in enumerate(args)]
        return f'"input_args": {dumps(encoder.encode(shown))}, "input_kwargs": {dumps(encoder.encode(dict(kwargs)))}'

    text, encoder = _settled(redactor, write)
    return text + _marks("input", encoder.form, _types_text(encoder.types))


def output_text(record: CallRecord, redactor: Redactor, again: bool = False) -> str:
    """The result of a call that has ended, or its exception, or neither.

    ``again``: a call below it has told the traceback.
    """
    if record.status is _COMPLETED:
        return result_text(record.result, redactor)
    if record.status is Status.FAILED:
        error = Encoder(redactor).error(record.exception, "(see the call below)\n" if again else None)
        return f'"output": {dumps(error)}'
    return NO_OUTPUT


def result_text(result: object, redactor: Redactor) -> str:
    """A result, as the text of a record says it."""
    text = _scalar(result, redactor)
    if text is not None:
        return f'"output": {text}'
    text, encoder = _settled(redactor, lambda encoder: dumps(encoder.encode(result)))
    return f'"output": {text}{_marks("output", encoder.form, _types_text(encoder.types))}'


def inputs_of(args: object, kwargs: object, form: Form, types: str | None) -> str:
    """The arguments again, from the plain data that was read."""
    return f'"input_args": {dumps(args)}, "input_kwargs": {dumps(kwargs)}{_marks("input", form, types)}'


def output_of(data: object, form: Form, types: str | None) -> str:
    """The result or the exception again, from the plain data that was read."""
    return f'"output": {dumps(data)}{_marks("output", form, types)}'


def settle_texts(record: CallRecord, redactor: Redactor) -> tuple[str, str]:
    """The record's two texts: those that it keeps, or else new ones."""
    inputs = record.inputs or inputs_text(record.args, record.kwargs, redactor)
    return inputs, record.output or output_text(record, redactor)


def members(text: str) -> dict[str, Any]:
    """What a record's text says, as plain data."""
    return loads(f"{{{text}}}")  # type: ignore[no-any-return]


def form_in(text: str) -> Form:
    """The form that stands at the end of a record's text."""
    _, found, word = text[-40:].rpartition('_form": "') if text.endswith('"') else ("", "", "")
    return Form(word[:-1]) if found else Form.PLAIN


def is_lost(form: Form) -> bool:
    """Is there something that cannot be brought back, nor compared?"""
    return form not in (Form.PLAIN, Form.TYPED)


def _marks(of: str, form: Form, types: str | None) -> str:
    shown = "" if types is None else f', "{of}_types": {quote(types)}'
    return "" if form is Form.PLAIN else f'{shown}, "{of}_form": "{form.value}"'


def _types_text(types: list[str]) -> str | None:
    """Return the types in their order; of many the first, and a checksum that distinguishes them from others."""
    text = " ".join(types)
    if len(text) + NAME_GROWTH * len(types) > MAX_TYPES:
        from railtracks.state._serialization._former_names import (
            shortened_types,  # here, as few values have so many types
        )

        return shortened_types(types, MAX_TYPES) or text
    return text or None


def _scalar(value: object, redactor: Redactor) -> str | None:
    """The text of what can be written without an encoder, by far the most; None for others."""
    kind = type(value)
    if kind is int:
        return repr(value) if -(2**63) <= value < 2**63 else None  # type: ignore[operator]
    if kind is str:
        text: str = value  # type: ignore[assignment]
        return quote(text) if len(text) < MAX_TEXT and redactor.redact(text) == text else None
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is float and isfinite(value):  # type: ignore[arg-type]
        return repr(value)
    return None
