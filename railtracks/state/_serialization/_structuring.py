"""Plain data to values of the types that annotations name."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from types import GenericAlias, NoneType
from typing import Any, get_args, get_origin

import cattrs
from cattrs.preconf.json import make_converter

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._added_fields import is_same_result
from railtracks.state._serialization._classify import TEXT_TYPES
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._encoder import encode
from railtracks.state._serialization._fitting import fits, is_foreign
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._large_values import Find, discard, expand, find_nothing, has_large
from railtracks.state._serialization._record_text import (
    dumps,
    failure_text,
    form_in,
    is_lossy,
    json_decoder,
    parse_members,
    result_text,
    why_lossy,
)
from railtracks.state._serialization._restoring import UnknownTypeError, restore
from railtracks.state._serialization._standard_types import find_standard
from railtracks.state._serialization._type_hints import (
    UNKNOWN,
    element_of,
    is_list_class,
    is_named_tuple,
    is_pydantic,
    is_union,
    resolved_hints,
)


def _parsers() -> dict[type, Callable[[str], Any]]:
    parsers: dict[type, Callable[[str], Any]] = {pathlib.Path: pathlib.Path, pathlib.PurePath: pathlib.PurePath}
    for path, text_type in TEXT_TYPES.items():
        cls = find_standard(path)
        assert cls is not None
        parsers[cls] = partial(text_type.read, cls)
    return parsers


PARSERS: dict[type, Callable[[str], Any]] = _parsers()
"""Types whose values are written as texts, and what reads those."""


_OUTPUT_BEGINS = len('"output": ')
_EXACT = (int, bool, float, NoneType)
"""Types whose values are written in one way only, and are read as they were."""


def structure_as(data: Any, annotation: Any) -> Any:
    """Return plain data as a value of what the annotation names. The caller checks whether it is the value that it was.

    Raises:
        ValueError: The data does not fit. The text says why, and follows "it".
    """
    if annotation is UNKNOWN or annotation is Any or annotation is object:
        return decode(data)
    try:
        return _converter().structure(_without_marks(data), annotation)
    except Exception as exc:  # an annotation can be anything, and so can the code of what it names
        raise ValueError(
            f"cannot be brought back as its annotation {shown_annotation(annotation)} says ({exc})"
        ) from exc


def restore_result(output: str, annotation: Any, find: Find = find_nothing) -> Any:
    """Return the result that the text of a record contains, as it was.

    Args:
        output: The record's text.
        annotation: The return annotation of the node; ``UNKNOWN`` if it has none.
        find: Returns the large values in it.

    Raises:
        ValueError: The result cannot be brought back. The text says why, and follows "its result".
    """
    form = form_in(output)
    if is_lossy(form):
        raise ValueError(f"is not all on record ({why_lossy(form)})")
    if form is Form.PLAIN and (annotation in _EXACT or annotation is UNKNOWN):
        data, end = json_decoder().raw_decode(output, _OUTPUT_BEGINS)
        if end == len(output) and type(data) in _EXACT and (annotation is type(data) or annotation is UNKNOWN):
            return data  # as by far the most are: its text says all of it
    members = parse_members(output)
    is_large = has_large(output)
    if is_large:
        members = expand(members, find)
    data, types = members["output"], members.get("output_types")
    if form is Form.TYPED and not isinstance(types, dict):
        return _restore_former_result(output, data, annotation)
    try:
        value = restore(data, types, annotation)
    except UnknownTypeError as exc:
        raise ValueError(f"{exc}; {_advice(annotation)}") from exc
    text = result_text(value, Redactor(), keep=discard if is_large else None)
    if text != output and not is_same_result(output, value, text, "output"):
        if form is Form.PLAIN:
            raise ValueError("is of a type that is not registered in this process; use rt.state.register_hooks")
        raise ValueError("cannot be made again exactly as it was")
    if not (_may_be_expected if form is Form.PLAIN else is_expected)(value, annotation):
        raise ValueError(f"was not what its annotation says, {shown_annotation(annotation)}")
    return value


def restore_error(output: str, *annotations: Any) -> BaseException:
    """Return the exception of a failed call that the text of a record contains, as it was, but for its traceback.

    A cause or a context that could not be recorded is a ``RecordedError``.

    Args:
        output: The record's text.
        annotations: Annotations that may name classes of what it consists of. Its own class and those of the other
            exceptions in it need none: they are found where they are defined, if that module is loaded.

    Raises:
        ValueError: The exception cannot be brought back. The text says why, and continues a sentence that begins with
            "it".
    """
    form = form_in(output)
    if form is Form.PLAIN:
        raise ValueError("was recorded by an earlier release, which did not record all of an exception")
    if is_lossy(form):
        raise ValueError(f"is not all on record ({why_lossy(form)})")
    members = parse_members(output)
    data = members["output"]
    error = restore(data, members["output_types"], *annotations)
    if not isinstance(error, BaseException) or failure_text(error, Redactor(), data["$traceback"]) != output:
        raise ValueError("cannot be made again exactly as it was")
    return error


def is_expected(value: object, annotation: Any) -> bool:
    """Return whether a value is what an annotation says, as far as that can be judged."""
    try:
        return fits(value, annotation)
    except Exception:  # an annotation can be anything
        return True


def _may_be_expected(value: object, annotation: Any) -> bool:
    """Return whether plain data may stand for what an annotation says, which may be wrong."""
    try:
        return not is_foreign(value, annotation)
    except Exception:  # as above
        return True


def _advice(annotation: Any) -> str:
    if annotation in (UNKNOWN, Any, object):
        return "annotate what the node returns"
    return f"its annotation, {shown_annotation(annotation)}, does not name it"


def _restore_former_result(output: str, data: Any, annotation: Any) -> Any:
    """Return a result that was recorded without the places of its types: what its annotation makes of it."""
    from railtracks.state._serialization._former_text import former_output  # here, as it serves old records only

    value = structure_as(data, annotation)
    text = former_output(value)
    if text is None:
        raise ValueError("was recorded by an earlier release, which did not record all of such values")
    if text != output and not (type(value) is annotation and _has_only_new_fields(output, text)):
        raise ValueError(f"was not what its annotation says, {shown_annotation(annotation)}")
    return value


def _has_only_new_fields(output: str, text: str) -> bool:
    """Return whether a result differs from the recorded one only in fields that its class has got since."""
    was, now = parse_members(output), parse_members(text)
    before, after = was.pop("output"), now.pop("output")
    if type(before) is not dict or type(after) is not dict or was != now:
        return False
    return dumps(before) == dumps({name: value for name, value in after.items() if name in before})


def shown_annotation(annotation: Any) -> str:
    """Return an annotation as it is written, for messages."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


@cache
def _converter() -> cattrs.Converter:
    made = make_converter(detailed_validation=False)
    for kind, parse in PARSERS.items():
        made.register_structure_hook(kind, _reading(parse))
    made.register_structure_hook(bytes, lambda value, _: value)  # brought back already
    made.register_structure_hook(Any, lambda value, _: value)
    made.register_structure_hook_func(_is_any_list, _structure_any_list)
    made.register_structure_hook_func(is_list_class, _structure_list_class)
    made.register_structure_hook_func(lambda hint: hint in registered_types, lambda value, _: value)
    made.register_structure_hook_func(is_pydantic, lambda value, hint: hint.model_validate(value))
    made.register_structure_hook_func(is_named_tuple, _structure_named_tuple)
    made.register_structure_hook_func(is_union, structure_union)
    return made


def _reading(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: parse(value)


def _structure_named_tuple(data: Any, hint: Any) -> Any:
    hints = resolved_hints(hint)  # cattrs does not understand those that are texts
    structure = _converter().structure
    return hint(*(structure(value, hints.get(name, Any)) for name, value in zip(hint._fields, data, strict=True)))


def _is_any_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (Sequence, Iterable, Collection)


def _structure_any_list(data: Any, hint: Any) -> Any:
    """Return a list: the value was one, if its type is not on record beside it."""
    (element,) = get_args(hint) or (Any,)
    made: Any = GenericAlias(list, (element,))
    return _converter().structure(data, made)


def _structure_list_class(data: Any, hint: Any) -> Any:
    cls, element = get_origin(hint) or hint, element_of(hint)
    return cls([_converter().structure(item, element) for item in data])


def structure_union(data: Any, union: Any) -> Any:
    """Return the data as the first member of a union from whose value it could have been written.

    cattrs does this for simple unions only. The union hook of ``_schema`` is another one: data of a model has no
    written form to compare with, so its members are strict, and it has to say why none fits.

    Raises:
        ValueError: No member fits.
    """
    if data is None and NoneType in get_args(union):
        return None
    for member in get_args(union):
        with contextlib.suppress(Exception):  # a member that does not fit; if none does, the error below says so
            value = _converter().structure(data, member)
            if dumps(encode(value)) == dumps(encode(data)):
                return value
    raise ValueError(f"no member of {union} fits")


def _without_marks(data: Any) -> Any:
    """Return plain data in which mappings with keys of any type, bytes and registered types are brought back."""
    if isinstance(data, list):
        return [_without_marks(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    if "$items" in data:
        return {_as_key(key): _without_marks(value) for key, value in data["$items"]}
    if "$type" in data:
        return decode(dict(data))
    return {key: _without_marks(value) for key, value in data.items()}


def _as_key(data: Any) -> Any:
    return tuple(map(_as_key, data)) if isinstance(data, list) else _without_marks(data)
