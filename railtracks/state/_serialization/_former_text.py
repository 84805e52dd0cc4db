"""The text that version 3 of the format wrote, to find its records again, and to check what was made of them.

Version 3 listed the types of a value without their places, and did not write what a value has beyond its members. So
values that differ may have one text. Where that is possible the text is not used, and the call runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from railtracks._public_path import public_path
from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import TEXT_TYPES, Classification, Kind, classify
from railtracks.state._serialization._contents import PYDANTIC_STATE, has_attributes
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._record_text import format_inputs, format_output
from railtracks.state._serialization._standard_types import find_standard

FORMER_LIMIT = 1_000
"""The number of characters of the names of types that version 3 wrote in full."""
NAME_GROWTH = 21
"""The number of characters by which the name that version 2 recorded for a class may be longer than the current one."""
_UNNAMED = "railtracks.llm.MessageHistory"
"""The class of the library whose values version 3 did not distinguish from lists."""
_SETTINGS = frozenset({"collections.ChainMap", "collections.defaultdict", "collections.deque", "mappingproxy"})
"""Types whose values have settings that version 3 did not write."""


class _FormerEncoder(Encoder):
    """Writes values as version 3 did.

    Attributes:
        types: The types of what is not plain data, in the order of the values.
    """

    def __init__(self) -> None:
        super().__init__(Redactor())
        self.types: list[type] = []

    def _note(self, value: object, cls: type, state: dict[str, Any]) -> None:
        if public_path(cls) == _UNNAMED:
            return
        self.lose(Form.TYPED)
        self.types.append(cls)
        if state or _may_have_state(value, cls):
            self.lose(Form.OPAQUE)

    def _encode_set(self, value: AbstractSet[Any], _: Classification) -> list[Any]:
        try:
            return self._encode_items(sorted(value), self.encode)
        except TypeError:
            return self._encode_items(sorted(value, key=repr), self.encode)

    _WRITERS = {**Encoder._WRITERS, Kind.SET: _encode_set}  # type: ignore[dict-item]


def _may_have_state(value: Any, cls: Any) -> bool:
    """Return whether values of this type may have something that version 3 did not write.

    Dataclasses and attrs classes count as if they could not, although one may be given attributes that are not fields.
    """
    if hasattr(cls, PYDANTIC_STATE):
        optional = any(not field.is_required() for field in cls.model_fields.values())
        return optional or cls.model_config.get("extra") == "allow" or bool(cls.__private_attributes__)
    if classify(cls).kind is Kind.FIELDS:
        return False
    path = public_path(cls)
    return (
        path in _SETTINGS
        or getattr(value, "tzinfo", None) is not None
        or (has_attributes(cls) and find_standard(path) is None and classify(cls).kind is not Kind.ENUM)
    )


def former_inputs(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], secret_positions: Collection[int] = ()
) -> str | None:
    """Return the arguments of a call as the text of a record of version 3.

    None if they are not all in that text, if there are secrets in them, or if other arguments had the same text.
    """
    encoder = _FormerEncoder()
    shown = [encoder.mask(v) if at in secret_positions and v is not None else v for at, v in enumerate(args)]
    first, second = encoder.encode(shown), encoder.encode(dict(kwargs))
    places = [each for item in (*first, *_members(second)) for each in _places(item)]
    if encoder.form not in (Form.PLAIN, Form.TYPED) or not _has_one_reading(encoder.types, places):
        return None
    return format_inputs(first, second, encoder.form, former_types(map(public_path, encoder.types)))


def former_output(value: object) -> str | None:
    """Return a result as the text of a record of version 3; None as in :func:`former_inputs`."""
    encoder = _FormerEncoder()
    data = encoder.encode(value)
    if encoder.form not in (Form.PLAIN, Form.TYPED) or not _has_one_reading(encoder.types, list(_places(data))):
        return None
    return format_output(data, encoder.form, former_types(map(public_path, encoder.types)))


def former_types(names: Iterable[str]) -> str | None:
    """Return the types in their order; of many the first, and a checksum that distinguishes them from others."""
    listed = list(names)
    text = " ".join(listed)
    if len(text) + NAME_GROWTH * len(listed) > FORMER_LIMIT:
        from railtracks.state._serialization._former_names import shortened_types

        return shortened_types(listed, FORMER_LIMIT) or text
    return text or None


# ---- whether a list of types can be read in one way only


def _members(data: Any) -> Iterator[Any]:
    """Yield the members of an array or object in the order in which version 3 listed their types."""
    if isinstance(data, list):
        yield from data
    elif isinstance(data, dict) and "$items" in data:
        pairs = [pair for pair in data["$items"] if isinstance(pair, list)]
        yield from (key for key, _ in pairs)
        yield from (item for _, item in pairs)
    elif isinstance(data, dict):
        yield from data.values()


def _places(data: Any) -> Iterator[Any]:
    yield data
    for member in _members(data):
        yield from _places(member)


def _has_one_reading(types: list[type], places: list[Any]) -> bool:
    """Return whether the types, in their order, belong to the places in one way only.

    They do if giving each type the first place that it can have comes to the same as giving each the last one.
    """
    backwards = _assign(types[::-1], places[::-1])
    return _assign(types, places) == [len(places) - 1 - at for at in reversed(backwards)]


def _assign(types: list[type], places: list[Any]) -> list[int]:
    assigned, at = [], 0
    for cls in types:
        while at < len(places) and not _can_be(cls, places[at]):
            at += 1
        assigned.append(at)
        at += 1
    return assigned


def _can_be(cls: Any, data: Any) -> bool:
    """Return whether a value of a class could have been written as this plain data."""
    classified = classify(cls)
    test = _TESTS.get(classified.kind)
    if classified.kind is Kind.FIELDS:
        names = set(classified.fields)
        return isinstance(data, dict) and names - classified.omitted.keys() <= data.keys() <= names
    return test is None or test(cls, data)


def _is_text_of(cls: Any, data: Any) -> bool:
    if not isinstance(data, str):
        return False
    text_type = next(TEXT_TYPES[path] for base in cls.__mro__ if (path := public_path(base)) in TEXT_TYPES)
    try:
        return text_type.write(text_type.read(cls, data)) == data
    except Exception:  # it is a text of something else
        return False


def _is_scalar_of(cls: Any, data: Any) -> bool:
    return not isinstance(data, list | dict) and any(issubclass(cls, base) for base in type(data).__mro__[:-1])


_TESTS: dict[Kind, Callable[[Any, Any], bool]] = {
    Kind.TEXT: _is_text_of,
    Kind.ENUM: lambda _, data: not isinstance(data, list | dict),
    Kind.MAPPING: lambda _, data: isinstance(data, dict),
    Kind.NAMED_TUPLE: lambda cls, data: isinstance(data, list) and len(data) == len(cls._fields),
    Kind.SEQUENCE: lambda _, data: isinstance(data, list),
    Kind.SET: lambda _, data: isinstance(data, list),
    Kind.BYTES: lambda _, data: isinstance(data, dict) and "$base64" in data,
    Kind.PATH: lambda _, data: isinstance(data, str),
    Kind.SCALAR: _is_scalar_of,
}
