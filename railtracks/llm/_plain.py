"""Messages and their parts as plain data, such as JSON has it, and back."""

from __future__ import annotations

from typing import Any

import attrs

READ = "railtracks.read"
"""In the metadata of a field: reads one of its items from plain data. The field is a tuple."""
_TEXTS = ("content", "id", "name", "tool_call_id")
_TAGS = ("role", "type")
"""Fields that say which class it is. They are written although they have their defaults."""


class Plain:
    """What has a form in JSON that pydantic reads and writes, too."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema  # pydantic has called this

        def read(value: object) -> Any:
            return value if isinstance(value, cls) else from_plain(value, cls)

        write = core_schema.plain_serializer_function_ser_schema(to_plain)
        return core_schema.no_info_plain_validator_function(read, serialization=write)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__}


def to_plain(value: Any) -> dict[str, Any]:
    """Return a message, or a part of one, as plain data, without fields that have their defaults."""
    plain = {}
    for field in attrs.fields(type(value)):
        content = getattr(value, field.name)
        if field.name in _TAGS or content != field.default:
            is_sequence = isinstance(content, tuple)
            plain[field.name] = [to_plain(each) for each in content] if is_sequence else content
    return plain


def from_plain(data: object, kind: type[Any]) -> Any:
    """Return the message, or the part of one, that ``to_plain`` has written.

    Args:
        data: What it has written.
        kind: The class.

    Raises:
        ValueError: It is something else. The error says what is wrong.
    """
    fields = attrs.fields_dict(kind)
    if not isinstance(data, dict):
        raise ValueError(f"expected the fields of a {kind.__name__}, got {data!r}")
    given = dict(data)
    for tag in _TAGS:
        if tag in fields and given.pop(tag, fields[tag].default) != fields[tag].default:
            raise ValueError(f"the {tag} is {data[tag]!r}; that of a {kind.__name__} is {fields[tag].default!r}")
    required = [name for name, field in fields.items() if field.default is attrs.NOTHING]
    wrong = [*(name for name in given if name not in fields), *(name for name in required if name not in given)]
    if wrong:
        raise ValueError(
            f"a {kind.__name__} has the fields {', '.join(fields)}; unknown or missing: {', '.join(wrong)}"
        )
    for name, field in fields.items():
        if READ in field.metadata and name in given:
            given[name] = [field.metadata[READ](each) for each in given[name] or ()]
    texts = [name for name in _TEXTS if name in given and not isinstance(given[name], str | type(fields[name].default))]
    if texts:
        raise ValueError(f"{texts[0]} of a {kind.__name__} is {given[texts[0]]!r}; expected a text")
    return kind(**given)
