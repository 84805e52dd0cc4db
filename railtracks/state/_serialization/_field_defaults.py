"""The defaults of the fields of classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs

from railtracks.state._serialization._contents import PYDANTIC_STATE


def default_of(cls: Any, name: str) -> Any:
    """Return the default of a field of a class.

    Raises:
        LookupError: It has none.
        Exception: Whatever makes the default raises.
    """
    if attrs.has(cls):
        default = getattr(attrs.fields(cls), name).default
        if isinstance(default, attrs.Factory) and not default.takes_self:  # type: ignore[arg-type]
            return default.factory()
        if default is attrs.NOTHING or isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            raise LookupError(name)
        return default
    if dataclasses.is_dataclass(cls):
        field = next(field for field in dataclasses.fields(cls) if field.name == name)
        if field.default_factory is not dataclasses.MISSING:
            return field.default_factory()
        if field.default is dataclasses.MISSING:
            raise LookupError(name)
        return field.default
    if not hasattr(cls, PYDANTIC_STATE) or cls.model_fields[name].is_required():
        raise LookupError(name)
    return cls.model_fields[name].get_default(call_default_factory=True)
