"""Values made of their parts: exactly what was recorded, without any code of their classes where that is possible.

No ``__init__`` is called, as ``copy`` calls none: what it would compute or register was recorded, or happened already.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from types import MappingProxyType, MemberDescriptorType
from typing import Any

from railtracks._public_path import public_path
from railtracks.state._serialization._classify import TEXT_TYPES, Kind, classify
from railtracks.state._serialization._contents import CACHED_HASH, PYDANTIC_STATE
from railtracks.state._serialization._field_defaults import default_of
from railtracks.state._serialization._parts import parts_type
from railtracks.state._serialization._standard_types import find_standard, numpy_scalar

_SCALARS = (str, int, float, bytes, complex)


def build(cls: Any, content: Any, state: dict[str, Any], find_alias: Callable[[str], Any]) -> Any:
    """Return a value of a class.

    Args:
        cls: The class.
        content: What was written as plain data, with its parts built already.
        state: What the value had beyond that, by name.
        find_alias: Returns the generic alias that an annotation shows as a text.

    Raises:
        Exception: The value cannot be built.
    """
    classified = classify(cls)
    if classified.kind is Kind.FIELDS:
        value = _build_fields(cls, content, state, classified.fields)
    else:
        value = _BUILDERS[classified.kind](cls, content, state)
    if "attributes" in state:
        set_attributes(value, state["attributes"])
    if "generic" in state:
        set_attributes(value, {"__orig_class__": find_alias(state["generic"])})
    return value


def set_attributes(value: Any, attributes: dict[str, Any]) -> None:
    """Set attributes of a value by name, whatever its class makes of that."""
    own = object.__getattribute__(value, "__dict__") if type(value).__dictoffset__ else None
    for name, attribute in attributes.items():
        if own is not None and not _is_slot(type(value), name):
            own[name] = attribute
        else:
            object.__setattr__(value, name, attribute)


def _is_slot(cls: type, name: str) -> bool:
    return any(isinstance(vars(base).get(name), MemberDescriptorType) for base in cls.__mro__)


class LackingFieldsError(ValueError):
    """A value on record lacks fields that its class has got since without a default.

    The text continues a sentence that begins with the value.
    """

    def __init__(self, cls: type, names: list[str]) -> None:
        fields = " and ".join(f"`{name}`" for name in names)
        super().__init__(f"has other fields than {public_path(cls)} has now; give {fields} a default")


def _build_fields(cls: Any, content: dict[str, Any], state: dict[str, Any], names: tuple[str, ...]) -> Any:
    unset = state.get("unset", ())
    content, recorded = _with_defaults(cls, content, unset, names), content
    extra = {name: field for name, field in content.items() if name not in names}
    if lacking := [name for name in names if name not in content and name not in unset]:
        raise LackingFieldsError(cls, lacking)
    if any(name not in names for name in unset):
        raise ValueError(f"has other fields than {public_path(cls)} has now")
    base = next((base for base in _SCALARS if issubclass(cls, base)), None)
    value = object.__new__(cls) if base is None else base.__new__(cls, state["content"])
    held = {name: field for name, field in content.items() if name in names and name not in unset}
    if not hasattr(cls, PYDANTIC_STATE):
        if extra:
            raise ValueError(f"has fields that {public_path(cls)} has no longer: {', '.join(extra)}")
        set_attributes(value, held)
        if CACHED_HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
            object.__setattr__(value, CACHED_HASH, None)
        return value
    takes_extra = cls.model_config.get("extra") == "allow"
    if extra and not takes_extra:
        raise ValueError(f"has fields that {public_path(cls)} has no longer: {', '.join(extra)}")
    object.__setattr__(value, "__dict__", held)
    object.__setattr__(value, PYDANTIC_STATE, set(state.get("set", recorded)))
    if getattr(cls, "__pydantic_root_model__", False):  # which has no other attributes
        return value
    object.__setattr__(value, "__pydantic_extra__", extra if takes_extra else None)
    private = state.get("private") or ({} if cls.__private_attributes__ else None)
    object.__setattr__(value, "__pydantic_private__", private)
    return value


def _with_defaults(cls: Any, content: dict[str, Any], unset: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a recorded value, and the defaults of those that its class has got since."""
    added = [name for name in names if name not in content and name not in unset]
    if not added:
        return content
    try:
        return {**content, **{name: default_of(cls, name) for name in added}}
    except LookupError:
        return content


def _build_text(cls: Any, content: str, state: dict[str, Any]) -> Any:
    from datetime import timezone  # here, as few programs have such values

    read = next(TEXT_TYPES[path].read for base in cls.__mro__ if (path := public_path(base)) in TEXT_TYPES)
    value = read(cls, content)
    if cls is timezone:
        return timezone(value.utcoffset(None), state["zone_name"]) if "zone_name" in state else value
    if "zone" in state:
        from zoneinfo import ZoneInfo

        value = value.replace(tzinfo=ZoneInfo(state["zone"]))
    elif "zone_name" in state:
        value = value.replace(tzinfo=timezone(value.utcoffset(), state["zone_name"]))
    elif "zone_type" in state:
        from pydantic_core import TzInfo

        value = value.replace(tzinfo=TzInfo(value.utcoffset().total_seconds()))
    elif "zone_object" in state:
        value = value.replace(tzinfo=state["zone_object"])
    if "fold" in state:
        value = value.replace(fold=state["fold"])
    if "is_safe" in state:
        from uuid import SafeUUID

        object.__setattr__(value, "is_safe", SafeUUID(state["is_safe"]))
    return value


def _build_mapping(cls: Any, content: dict[Any, Any], state: dict[str, Any]) -> Any:
    from collections import ChainMap, OrderedDict, UserDict, defaultdict

    if cls is MappingProxyType:
        return MappingProxyType(state.get("of", content))
    if issubclass(cls, ChainMap):
        value = object.__new__(cls)
        value.maps = state["maps"]
    elif issubclass(cls, UserDict):
        value = object.__new__(cls)
        value.data = state.get("data", content)
    elif issubclass(cls, dict):
        base: Any = OrderedDict if issubclass(cls, OrderedDict) else dict
        value = (defaultdict if issubclass(cls, defaultdict) else base).__new__(cls)
        for key, item in content.items():
            base.__setitem__(value, key, item)
        if "factory" in state:
            vars(defaultdict)["default_factory"].__set__(value, find_standard(state["factory"]))
    else:
        value = _bare(cls, state)
    return value


def _bare(cls: Any, state: dict[str, Any]) -> Any:
    """Return an instance of a class of which everything is in its attributes."""
    if "attributes" not in state:
        raise ValueError(f"is of a type that cannot be made of what is on record ({public_path(cls)})")
    return object.__new__(cls)


def _build_sequence(cls: Any, content: list[Any], state: dict[str, Any]) -> Any:
    if issubclass(cls, tuple):
        return tuple.__new__(cls, content)
    if issubclass(cls, list):
        value = list.__new__(cls)
        list.extend(value, content)
        return value
    return cls(content, state.get("maxlen"))


def _build_set(cls: Any, content: list[Any], state: dict[str, Any]) -> Any:
    if issubclass(cls, frozenset):
        return frozenset.__new__(cls, content)
    if issubclass(cls, set):
        value = set.__new__(cls)
        set.update(value, content)
        return value
    return _bare(cls, state)


def _build_namespace(cls: Any, content: dict[Any, Any], _: dict[str, Any]) -> Any:
    value = cls.__new__(cls)
    set_attributes(value, content)
    return value


def _build_parts(cls: Any, content: list[Any], _: dict[str, Any]) -> Any:
    found = parts_type(cls)
    assert found is not None
    return found.join(cls, content)


def _build_bytes(cls: Any, content: bytes, state: dict[str, Any]) -> Any:
    if cls is memoryview:
        return memoryview(bytearray(content) if "writable" in state else content)
    if numpy_scalar(cls) is not None:
        return cls(content)
    if issubclass(cls, bytearray):
        value = bytearray.__new__(cls)
        bytearray.extend(value, content)
        return value
    return bytes.__new__(cls, content)


def _build_path(cls: Any, content: Any, state: dict[str, Any]) -> Any:
    return cls(content) if issubclass(cls, PurePath) else _bare(cls, state)


def _build_scalar(cls: Any, content: Any, _: dict[str, Any]) -> Any:
    if numpy_scalar(cls) is not None:
        return cls(content)
    base = next(base for base in _SCALARS if issubclass(cls, base))
    return base.__new__(cls, content)


def _build_enum(cls: Any, content: Any, state: dict[str, Any]) -> Any:
    return cls[state["name"]] if "name" in state else cls(content)


_BUILDERS: dict[Kind, Callable[[Any, Any, dict[str, Any]], Any]] = {
    Kind.TEXT: _build_text,
    Kind.ENUM: _build_enum,
    Kind.MAPPING: _build_mapping,
    Kind.NAMED_TUPLE: _build_sequence,
    Kind.SEQUENCE: _build_sequence,
    Kind.SET: _build_set,
    Kind.NAMESPACE: _build_namespace,
    Kind.PARTS: _build_parts,
    Kind.BYTES: _build_bytes,
    Kind.PATH: _build_path,
    Kind.SCALAR: _build_scalar,
}
