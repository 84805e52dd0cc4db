"""Values as the JSON text that stands in journals and state files.

A record keeps two such texts, ``inputs`` and ``output``: members of a JSON object, without its braces, so that journal
and document are put together from them without looking at a value twice. The form is left out when it is PLAIN.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as quote
from math import isfinite
from typing import Any

from railtracks.state._codec import MAX_TEXT, Encoder
from railtracks.state._records import CallRecord, Form, Status
from railtracks.state._secrets import Secrets

_dumps = JSONEncoder().encode
_MANY = 16
"""More arguments than this are not worth a look for the short way."""

_COMPLETED = Status.COMPLETED
NO_OUTPUT = '"output": null'


def dumps(data: Any) -> str:
    """Plain data as JSON, in ASCII."""
    return _dumps(data)


def loads(content: bytes | str) -> Any:
    """Plain data from JSON. ValueError if it is none, RecursionError if it is nested too deeply."""
    return json.loads(content)


@lru_cache(maxsize=4096)
def name_text(name: str) -> str:
    """A name, of which there are few, as JSON."""
    return quote(name)


def value_text(value: object, secrets: Secrets) -> tuple[str, Form]:
    """A value as JSON, and how much of it that is. Never raises."""
    text = _scalar(value, secrets)
    if text is not None:
        return text, Form.PLAIN
    encoder = Encoder(secrets)
    return _dumps(encoder.encode(value)), encoder.form


def member_text(key: object, value: object, secrets: Secrets) -> tuple[str, Form]:
    """The same for a value that stands under ``key``, which may name a secret."""
    encoder = Encoder(secrets)
    return _dumps(encoder.member(key, value)), encoder.form


def inputs_text(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], secrets: Secrets, hidden: Collection[int] = ()
) -> str:
    """The arguments of a call. ``hidden``: the places of those whose parameters name a secret."""
    encoder: Encoder | None = None
    texts: list[str] = []
    if not kwargs and not hidden and len(args) <= _MANY:
        for value in args:
            text = _scalar(value, secrets)
            if text is None:
                encoder = encoder or Encoder(secrets)
                text = _dumps(encoder.encode(value))
            texts.append(text)
        form = "" if encoder is None else _form("input_form", encoder.form)
        return f'"input_args": [{", ".join(texts)}], "input_kwargs": {{}}{form}'
    encoder = Encoder(secrets)
    shown = [encoder.masked(value) if place in hidden else value for place, value in enumerate(args)]
    keywords = _dumps(encoder.encode(dict(kwargs)))  # first: it may name a secret that is in the others
    text = f'"input_args": {_dumps(encoder.encode(shown))}, "input_kwargs": {keywords}'
    return text + _form("input_form", encoder.form)


def output_text(record: CallRecord, secrets: Secrets) -> str:
    """The result of a call that has ended, or its exception, or neither."""
    if record.status is _COMPLETED:
        text = _scalar(record.result, secrets)
        if text is not None:
            return f'"output": {text}'
        text, form = value_text(record.result, secrets)
        return f'"output": {text}{_form("output_form", form)}'
    if record.status is Status.FAILED:
        return f'"output": {value_text(record.exception, secrets)[0]}'
    return NO_OUTPUT


def inputs_of(args: object, kwargs: object, form: Form) -> str:
    """The arguments again, from the plain data that was read."""
    return f'"input_args": {_dumps(args)}, "input_kwargs": {_dumps(kwargs)}{_form("input_form", form)}'


def output_of(data: object, form: Form) -> str:
    """The result or the exception again, from the plain data that was read."""
    return f'"output": {_dumps(data)}{_form("output_form", form)}'


def settle_texts(record: CallRecord, secrets: Secrets) -> tuple[str, str]:
    """The record's two texts: those that it keeps, or else new ones."""
    inputs = record.inputs or inputs_text(record.args, record.kwargs, secrets)
    return inputs, record.output or output_text(record, secrets)


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


def _form(key: str, form: Form) -> str:
    return "" if form is Form.PLAIN else f', "{key}": "{form.value}"'


def _scalar(value: object, secrets: Secrets) -> str | None:
    """The text of what can be written without an encoder, by far the most; None for others."""
    kind = type(value)
    if kind is int:
        return repr(value) if -(2**63) <= value < 2**63 else None  # type: ignore[operator]
    if kind is str:
        text: str = value  # type: ignore[assignment]
        return quote(text) if len(text) < MAX_TEXT and secrets.hide(text) == text else None
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is float and isfinite(value):  # type: ignore[arg-type]
        return repr(value)
    return None
