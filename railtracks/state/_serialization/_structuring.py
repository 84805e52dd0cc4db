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
from railtracks.state._serialization._classify import TEXT_TYPES
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._encoder import encode
from railtracks.state._serialization._fitting import fits, is_foreign
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._record_text import dumps, form_in, is_lossy, parse_members, result_text
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
        raise ValueError(f"cannot be brought back as its annotation {_shown(annotation)} says ({exc})") from exc


def restore_result(output: str, annotation: Any) -> Any:
    """Return the result that the text of a record contains, as it was.

    Args:
        output: The record's text.
        annotation: The return annotation of the node; ``UNKNOWN`` if it has none.

    Raises:
        ValueError: The result cannot be brought back. The text says why, and follows "its result".
    """
    form = form_in(output)
    if is_lossy(form):
        raise ValueError(f"is not all on record ({form.value})")
    members = parse_members(output)
    data, types = members["output"], members.get("output_types")
    if form is Form.TYPED and not isinstance(types, dict):
        return _restore_former_result(output, data, annotation)
    try:
        value = restore(data, types, annotation)
    except UnknownTypeError as exc:
        raise ValueError(f"{exc}; {_advice(annotation)}") from exc
    if result_text(value, Redactor()) != output:
        if form is Form.PLAIN:
            raise ValueError("is of a type that is not registered in this process; use rt.state.register_hooks")
        raise ValueError("cannot be made again exactly as it was")
    if not _is_expected(value, annotation, form):
        raise ValueError(f"was not what its annotation says, {_shown(annotation)}")
    return value


def _is_expected(value: Any, annotation: Any, form: Form) -> bool:
    try:
        return not is_foreign(value, annotation) if form is Form.PLAIN else fits(value, annotation)
    except Exception:  # an annotation can be anything
        return True


def _advice(annotation: Any) -> str:
    if annotation in (UNKNOWN, Any, object):
        return "annotate what the node returns"
    return f"its annotation, {_shown(annotation)}, does not name it"


def _restore_former_result(output: str, data: Any, annotation: Any) -> Any:
    """Return a result that was recorded without the places of its types: what its annotation makes of it."""
    from railtracks.state._serialization._former_text import former_output  # here, as it serves old records only

    value = structure_as(data, annotation)
    text = former_output(value)
    if text is None:
        raise ValueError("was recorded by an earlier release, which did not record all of such values")
    if text != output:
        raise ValueError(f"was not what its annotation says, {_shown(annotation)}")
    return value


def _shown(annotation: Any) -> str:
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
