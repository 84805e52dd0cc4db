"""Values as the JSON text that stands in journals and state files.

A record keeps two such texts, ``inputs`` and ``output``: members of a JSON object, without its braces, so that journal
and document are put together from them without encoding a value twice. The form is left out when it is PLAIN. When it
is TYPED, the types stand beside it, with their places: values of different types are written alike, and are not equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from railtracks.state._records import CallRecord, Form, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_key
from railtracks.state._serialization._conversations import Conversations
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._large_values import LARGE, Keep
from railtracks.state._serialization._plain_data import MAX_ITEMS, MAX_TEXT
from railtracks.state._shared_texts import MessageNode, SharedText, StoredText

if TYPE_CHECKING:
    from json import JSONDecoder

try:
    from _json import encode_basestring_ascii as quote  # what `json` uses, which takes long to import
except ImportError:  # an interpreter that has none in C
    from json.encoder import py_encode_basestring_ascii as quote

_MAX_SCALARS = 16
"""The number of arguments up to which it pays to try to write them without an encoder."""

MAX_TYPES = 16_777_216
"""The number of characters of the types of a value that is only shown. Beyond it they are left out."""
_MAX_FLAT = 1_000
"""The number of characters of a value up to which an object may be written without an encoder."""
_MAX_FLAT_MEMBERS = 100
_COMPLETED = Status.COMPLETED
NO_OUTPUT = '"output": null'


@cache
def _json_encoder() -> Callable[[Any], str]:
    from json import JSONEncoder  # here, as it takes long to import

    return JSONEncoder().encode


@cache
def json_decoder() -> JSONDecoder:
    """Return what parses JSON, for many texts or parts of one."""
    from json import JSONDecoder  # here, as above

    return JSONDecoder()


def dumps(data: Any) -> str:
    """Return plain data as JSON, in ASCII."""
    return _json_encoder()(data)


def loads(content: bytes | str) -> Any:
    """Return plain data from JSON.

    Raises:
        ValueError: The content is not JSON.
        RecursionError: It is nested too deeply.
    """
    from json import loads  # here, as above

    return loads(content)


@lru_cache(maxsize=512)  # few, as the key of a node, which is written by this too, may be long
def name_text(name: str) -> str:
    """Return the name of a node, a call or a session as JSON. There are few different ones."""
    return quote(name)


def facts_text(facts: Mapping[str, str | float | None]) -> str:
    """Return the members that describe a session as JSON, without braces."""
    return ", ".join(
        f'"{name}": {quote(value) if isinstance(value, str) else dumps(value)}' for name, value in facts.items()
    )


def member_text(
    key: object, value: object, redactor: Redactor, max_bytes: float = math.inf, keep: Keep | None = None
) -> tuple[str, Form, str | None]:
    """Return a value that belongs to ``key``, which may name a secret, as JSON, with form and types. Never raises.

    Args:
        key: The key.
        value: The value.
        redactor: The secrets that are known. Those that are found in the value are added.
        max_bytes: The number of bytes up to which the value is written whole. A larger one is cut.
        keep: Gets the large values in it, which are not written then; None: they are.
    """
    return _encode_whole(redactor, lambda encoder: dumps(encoder.encode_member(key, value)), max_bytes, keep)[:3]


SEE_BELOW = "(see the call below)\n"
"""In place of the traceback of an exception that a nested call has recorded."""
MAX_READ = 20_000
"""The bytes of a value that a call reads from the context up to which it is compared."""
MAX_DIGESTED = 10_000_000
"""The number of characters of a text that is compared by a digest."""


def read_text(key: str, value: object, redactor: Redactor) -> tuple[str, str | None] | None:
    """Return a value that was read as JSON, with its types; None if it is large, or not comparable. Never raises.

    Of a long text there is a digest.
    """
    encoder = Encoder(redactor, MAX_READ)
    if type(value) is str and len(value) > MAX_READ:
        if len(value) > MAX_DIGESTED:
            return None
        value = _digest(value)
    text = dumps(encoder.encode_member(key, value))
    return None if encoder.is_too_large or is_lossy(encoder.form) else (text, _types_text(encoder))


def _digest(text: str) -> dict[str, object]:
    from hashlib import blake2b  # here, as it takes long to import

    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    return {"$length": len(text), "$digest": digest.hexdigest()}


def object_text(members: Mapping[str, object], redactor: Redactor) -> str:
    """Return values by name as a JSON object. Those whose names name a secret are masked. Never raises."""
    if (flat := _flat_object_text(members, redactor)) is not None:
        return flat
    text, _, _ = _encode_stable(redactor, lambda encoder: dumps(encoder.encode(dict(members))), Encoder)
    return text


def _flat_object_text(members: Mapping[str, object], redactor: Redactor) -> str | None:
    """Return what ``object_text`` does for values that need no encoder, as most attributes are. None for others."""
    parts: list[str] = []
    for name, value in members.items():
        if "." not in name or name.startswith("$") or is_secret_key(name) or redactor.redact(name) != name:
            return None
        is_single = type(value) in (list, tuple) and len(value) == 1  # type: ignore[arg-type]
        text = _encode_scalar(value[0] if is_single else value, redactor)  # type: ignore[index]
        if text is None or len(text) > _MAX_FLAT or len(parts) == _MAX_FLAT_MEMBERS:
            return None
        parts.append(f"{name_text(name)}: [{text}]" if is_single else f"{name_text(name)}: {text}")
    return f"{{{', '.join(parts)}}}"


def inputs_text(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    redactor: Redactor,
    secret_positions: Collection[int] = (),
    max_bytes: float = math.inf,
    keep: Keep | None = None,
) -> str:
    """Return the arguments of a call as the text of a record, which shares nothing. Never raises.

    The arguments are those of ``stored_inputs_text``.
    """
    text = stored_inputs_text(args, kwargs, redactor, secret_positions, max_bytes, keep)
    assert isinstance(text, str)
    return text


def stored_inputs_text(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    redactor: Redactor,
    secret_positions: Collection[int] = (),
    max_bytes: float = math.inf,
    keep: Keep | None = None,
    conversations: Conversations | None = None,
) -> StoredText:
    """Return the arguments of a call as the text of a record. Never raises.

    Args:
        args: The positional arguments.
        kwargs: The others.
        redactor: The secrets that are known. Those that are found in the arguments are added.
        secret_positions: The positions in ``args`` of those whose parameters name a secret.
        max_bytes: The number of bytes up to which the arguments are written whole. Larger ones are cut.
        keep: As for ``member_text``.
        conversations: The messages that the text shares with others. None: it shares none.
    """
    if not kwargs and not secret_positions and len(args) <= _MAX_SCALARS:
        texts: list[str] = []
        for value in args:
            text = _encode_scalar(value, redactor)
            if text is None:
                break
            texts.append(text)
        else:
            return f'"input_args": [{", ".join(texts)}], "input_kwargs": {{}}'

    def is_secret(at: int) -> bool:
        return min(at, MAX_ITEMS - 1) in secret_positions  # where all further arguments are secrets, so is the last one

    def write(encoder: Encoder) -> str:
        shown = [encoder.mask(v) if v is not None and is_secret(at) else v for at, v in enumerate(args)]
        first = dumps(encoder.encode_at("input_args", shown))
        return f'"input_args": {first}, "input_kwargs": {dumps(encoder.encode_at("input_kwargs", dict(kwargs)))}'

    text, form, types, messages = _encode_whole(redactor, write, max_bytes, keep, conversations)
    text += _format_marks("input", form, types)
    return SharedText(text, messages) if messages else text


def output_text(record: CallRecord, redactor: Redactor, omit_traceback: bool = False) -> str:
    """Return the output of a call as ``stored_output_text`` does, whatever its size, as a text that shares nothing."""
    text = stored_output_text(record, redactor, omit_traceback)
    assert isinstance(text, str)
    return text


def stored_output_text(
    record: CallRecord,
    redactor: Redactor,
    omit_traceback: bool = False,
    max_bytes: float = math.inf,
    keep: Keep | None = None,
    conversations: Conversations | None = None,
) -> StoredText:
    """Return the result of a call that has ended, or its exception, or neither, as the text of a record.

    Args:
        record: The record of the call.
        redactor: The secrets that are known. Those that are found in the result are added.
        omit_traceback: Refer to a nested call for the traceback, which that call has recorded.
        max_bytes: As for ``result_text``.
        keep: As for ``member_text``. Of an exception, all is written.
        conversations: As for ``stored_inputs_text``. An exception shares none.
    """
    if record.status is _COMPLETED:
        return stored_result_text(record.result, redactor, max_bytes, keep, conversations)
    if record.status is Status.FAILED:
        shown_traceback = SEE_BELOW if omit_traceback else None
        return failure_text(record.exception, redactor, shown_traceback, max_bytes)
    return NO_OUTPUT


def result_text(result: object, redactor: Redactor, max_bytes: float = math.inf, keep: Keep | None = None) -> str:
    """Return the result of a call as the text of a record, which shares nothing. Never raises.

    The arguments are those of ``stored_result_text``.
    """
    text = stored_result_text(result, redactor, max_bytes, keep)
    assert isinstance(text, str)
    return text


def stored_result_text(
    result: object,
    redactor: Redactor,
    max_bytes: float = math.inf,
    keep: Keep | None = None,
    conversations: Conversations | None = None,
) -> StoredText:
    """Return the result of a call as the text of a record. Never raises.

    Args:
        result: The result.
        redactor: The secrets that are known. Those that are found in the result are added.
        max_bytes: The number of bytes up to which the result is written whole. A larger one is cut.
        keep: As for ``member_text``.
        conversations: As for ``stored_inputs_text``.
    """
    text = _encode_scalar(result, redactor)
    if text is not None and len(text) <= max_bytes:
        return f'"output": {text}'
    text, form, types, messages = _encode_whole(
        redactor, lambda encoder: dumps(encoder.encode(result)), max_bytes, keep, conversations
    )
    text = f'"output": {text}{_format_marks("output", form, types)}'
    return SharedText(text, messages) if messages else text


def failure_text(
    error: Any, redactor: Redactor, shown_traceback: str | None = None, max_bytes: float = math.inf
) -> str:
    """Return the exception of a failed call as the text of a record. Never raises.

    Args:
        error: The exception.
        redactor: The secrets that are known. Those that are found in the exception are added.
        shown_traceback: What to write in place of its traceback.
        max_bytes: The number of bytes up to which all of it is written. A larger one is cut.
    """
    from railtracks.state._serialization._failure_encoder import FailureEncoder  # here, as most calls do not fail

    def write(encoder: Encoder) -> str:
        assert isinstance(encoder, FailureEncoder)
        return dumps(encoder.encode_failure(error, shown_traceback))

    text, form, types, _ = _encode_whole(redactor, write, max_bytes, None, None, FailureEncoder)
    return f'"output": {text}{_format_marks("output", form, None if is_lossy(form) else types)}'


def format_inputs(args: object, kwargs: object, form: Form, types: object) -> str:
    """Return the text of a record's arguments from plain data that was read."""
    marks = _format_marks("input", form, None if types is None else dumps(types))
    return f'"input_args": {dumps(args)}, "input_kwargs": {dumps(kwargs)}{marks}'


def format_output(data: object, form: Form, types: object) -> str:
    """Return the text of a record's result or exception from plain data that was read."""
    return f'"output": {dumps(data)}{_format_marks("output", form, None if types is None else dumps(types))}'


def ensure_texts(record: CallRecord, redactor: Redactor) -> tuple[str, str]:
    """Return the record's two texts: those that it keeps, or else new ones."""
    inputs = record.inputs or inputs_text(record.args, record.kwargs, redactor)
    return inputs, record.output or output_text(record, redactor)


def parse_members(text: str) -> dict[str, Any]:
    """Return what a record's text says, as plain data."""
    return loads(f"{{{text}}}")  # type: ignore[no-any-return]


def form_in(text: str) -> Form:
    """Return the form that stands at the end of a record's text."""
    _, found, word = text[-40:].rpartition('_form": "') if text.endswith('"') else ("", "", "")
    return Form(word[:-1]) if found else Form.PLAIN


def is_former(text: str) -> bool:
    """Return whether a record's text, or the key of a node, lists types as a text: without places, as version 3 did."""
    return '_types": "' in text


def is_lossy(form: Form) -> bool:
    """Return whether there is something in the value that cannot be brought back, nor compared."""
    return form not in (Form.PLAIN, Form.TYPED)


_WHY_LOSSY = {
    Form.CUT: "too large, or nested too deeply",
    Form.OPAQUE: "a value has no written form",
    Form.MASKED: "a secret is masked",
    Form.UNKNOWN: "written by an early release",
}


def why_lossy(form: Form) -> str:
    """Return for people why something in the value cannot be brought back."""
    return _WHY_LOSSY[form]


def _format_marks(of: str, form: Form, types: str | None) -> str:
    shown = "" if types is None else f', "{of}_types": {types}'
    return "" if form is Form.PLAIN else f'{shown}, "{of}_form": "{form.value}"'


def _encode_whole(
    redactor: Redactor,
    write: Callable[[Encoder], str],
    max_bytes: float,
    keep: Keep | None = None,
    conversations: Conversations | None = None,
    encoders: Callable[..., Encoder] = Encoder,
) -> tuple[str, Form, str | None, tuple[MessageNode, ...]]:
    """Return what ``write`` returns, the form, the types, and the messages in place of which there are marks.

    What is larger than ``max_bytes`` is cut, to be shown.
    """
    text, types, encoder = _encode_stable(
        redactor, write, encoders, max_bytes, math.inf, keep is not None, conversations
    )
    size = len(text) + len(types or "") + encoder.large_bytes
    if encoder.is_too_large or size > max_bytes:
        text, types, encoder = _encode_stable(redactor, write, encoders, None, min(MAX_TEXT, max_bytes))
        encoder.lose(Form.CUT)
    elif keep is not None and encoder.large:
        for digest, value in encoder.large.items():
            keep(digest, value)
    return text, encoder.form, types, tuple(encoder.messages)


def _encode_stable(
    redactor: Redactor, write: Callable[[Encoder], str], encoders: Callable[..., Encoder], *limits: Any
) -> tuple[str, str | None, Encoder]:
    """Return what ``write`` returns. If it finds a secret, write again, as the text before may contain the secret."""
    known = redactor.revision
    encoder = encoders(redactor, *limits)
    text = write(encoder)
    if redactor.revision != known:
        encoder = encoders(redactor, *limits)
        text = write(encoder)
    return text, _types_text(encoder), encoder


def _types_text(encoder: Encoder) -> str | None:
    """Return the types in what was encoded as JSON; None if there are none. Too many are left out, as if cut."""
    if not encoder.notes:
        return None
    text = ", ".join(
        [f"{quote(place)}: {quote(entry) if type(entry) is str else dumps(entry)}" for place, entry in encoder.notes]
    )
    if len(text) > MAX_TYPES and not encoder.is_whole:
        encoder.lose(Form.CUT)
        return None
    return f"{{{text}}}"


def _encode_scalar(value: object, redactor: Redactor) -> str | None:
    """Return the JSON text of a value that needs no encoder, as by far the most do. None for others."""
    kind = type(value)
    if kind is int:
        return repr(value) if -(2**63) <= value < 2**63 else None  # type: ignore[operator]
    if kind is str:
        text: str = value  # type: ignore[assignment]
        return quote(text) if len(text) <= LARGE and redactor.redact(text) == text else None
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is float and math.isfinite(value):  # type: ignore[arg-type]
        return repr(value)
    return None
