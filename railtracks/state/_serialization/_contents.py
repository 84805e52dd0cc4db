"""What a value consists of: its members, and what it has beyond those as its own state.

The own state is whatever the owner of a value can see in it that its members do not show: attributes that are no
fields, the ``maxlen`` of a deque, the name of a time zone. It is written beside the type, or two values that differ in
it would be written alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any, NamedTuple

from railtracks._public_path import alias_text, public_path
from railtracks.state._serialization._classify import Classification, Kind
from railtracks.state._serialization._parts import parts_type
from railtracks.state._serialization._standard_types import find_standard, numpy_scalar

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that is not built in
_FOREIGN = frozenset({
    "builtins", "collections", "datetime", "decimal", "fractions", "ipaddress", "numpy", "pathlib", "pydantic", "re",
    "typing", "uuid", "zoneinfo",
})  # fmt: skip
"""The libraries whose slots are not the state of a value: what they hold is written in another way, or a cache."""
CACHED_HASH = "_attrs_cached_hash"
"""The attribute in which attrs keeps a hash, which differs from process to process."""
PYDANTIC_STATE = "__pydantic_fields_set__"
"""The attribute that instances of pydantic models have, and other classes with ``model_fields`` do not."""


def names_of(value: tuple[Any, ...]) -> tuple[str, ...] | None:
    """Return the names of the items of a named tuple. None if there is not one for each item."""
    names = getattr(value, "_fields", None)
    return names if isinstance(names, tuple) and len(names) == len(value) else None


def members_of(value: Any, classification: Classification) -> Iterable[tuple[Any, Any]]:
    """Return what a value contains: key and value of each member. The key is None where members have none."""
    kind = classification.kind
    if kind is Kind.MAPPING:
        return items_of(value)
    if kind is Kind.NAMED_TUPLE and (names := names_of(value)) is not None:
        return zip(names, value, strict=True)
    if kind in (Kind.NAMED_TUPLE, Kind.SEQUENCE, Kind.SET):
        return ((None, item) for item in value)
    if kind is Kind.ENUM:
        return ((None, value.value),)
    if kind is Kind.FIELDS:
        fields, state = split_fields(value, classification)
        hidden = (state.get(name, {}).items() for name in ("attributes", "private"))
        return [*fields.items(), *(member for members in hidden for member in members)]
    if kind is Kind.NAMESPACE:
        return attributes_of(value).items()
    if kind is Kind.PARTS:
        return ((None, part) for part in parts_of(value))
    return {name: getattr(value, name) for name in classification.fields}.items()


def parts_of(value: Any) -> list[Any]:
    """Return the parts that a value of ``Kind.PARTS`` is made of.

    Raises:
        Exception: They do not say all of the value.
    """
    found = parts_type(type(value))
    assert found is not None
    return found.split(value)


def items_of(mapping: Any) -> Iterable[tuple[Any, Any]]:
    """Return the items of a mapping: those that it really has, if it is a dict whose class shows others."""
    cls = type(mapping)
    if (content := wrapped_dict(mapping)) is not None:
        return content.items()
    if issubclass(cls, dict) and cls.items is not dict.items:
        from collections import OrderedDict

        base: Any = OrderedDict if issubclass(cls, OrderedDict) else dict
        return base.items(mapping)  # type: ignore[no-any-return]
    return mapping.items()  # type: ignore[no-any-return]


def items_in(collection: Any) -> Iterable[Any]:
    """Return the items of a collection: those that it really has, if its class shows others."""
    cls = type(collection)
    for base in (list, tuple, set, frozenset):
        if issubclass(cls, base) and cls.__iter__ is not base.__iter__:
            return base.__iter__(collection)
    return collection  # type: ignore[no-any-return]


def wrapped_dict(value: Any) -> dict[Any, Any] | None:
    """Return the dict in a ``UserDict``. None for other values, and if it holds another mapping."""
    user_dict = getattr(sys.modules.get("collections"), "UserDict", None)
    if user_dict is None or not issubclass(type(value), user_dict):
        return None
    return value.data if type(value.data) is dict else None


def plain_scalar(value: Any) -> Any:
    """Return a text, number or bytes of any subclass as one of the class itself, whatever the subclass makes of it.

    Raises:
        Exception: The value only claims to be one, and cannot be converted.
    """
    for cls, exact in _EXACT.items():
        if issubclass(type(value), cls):
            return exact(value)
    if numpy_scalar(type(value)) is not None:
        return value.item()
    return next(cls(value) for cls in (str, int, float) if isinstance(value, cls))


_EXACT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: bytes.__bytes__,
    complex: complex.__complex__,
}


# ---- attributes


class _Layout(NamedTuple):
    """Where the instances of a class keep their attributes, and which settings they have."""

    has_dict: bool
    slots: dict[str, MemberDescriptorType]
    hidden: tuple[str, ...]
    """Attributes that hold what is written as the members of the value, or a cache."""
    settings: Callable[[Any], dict[str, Any]] | None
    is_model: bool
    """Whether it is a pydantic model."""
    is_bare: bool
    """Whether everything that an instance has is in its ``__dict__``, or belongs to a pydantic model."""


@lru_cache(maxsize=4096)
def _layout(cls: type) -> _Layout:
    slots: dict[str, MemberDescriptorType] = {}
    for base in reversed(cls.__mro__):
        if base.__flags__ & _HEAP_TYPE and base.__module__.partition(".")[0] not in _FOREIGN:
            for slot in vars(base).values():
                if type(slot) is MemberDescriptorType:
                    slots[slot.__name__] = slot
    paths = [public_path(base) for base in cls.__mro__]
    hidden = [name for path, names in _HIDDEN.items() if path in paths for name in names]
    settings = next((_SETTINGS[path] for path in paths if path in _SETTINGS), None)
    has_dict = cls.__dictoffset__ != 0
    is_bare = has_dict and not slots and settings is None and not issubclass(cls, tuple(_EXACT))
    names = (CACHED_HASH, "__orig_class__", *hidden)
    return _Layout(has_dict, slots, names, settings, hasattr(cls, PYDANTIC_STATE), is_bare)


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes that a value itself has, whatever its class makes of access to them."""
    cls: Any = type(value)
    layout = _layout(cls)
    found = dict(object.__getattribute__(value, "__dict__")) if layout.has_dict else {}
    for name, slot in layout.slots.items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:  # nothing was assigned to it
            continue
    for name in layout.hidden:
        found.pop(name, None)
    return found


def has_attributes(cls: type) -> bool:
    """Return whether instances of a class can have attributes beyond what the class itself defines."""
    return _layout(cls).has_dict


def own_state(value: Any) -> dict[str, Any]:
    """Return what a value has beyond its members, by name. Its fields, if it has some, are taken for attributes.

    Raises:
        Exception: Whatever an attribute of the value raises.
    """
    cls: Any = type(value)
    layout = _layout(cls)
    if not layout.has_dict and not layout.slots:
        return {} if layout.settings is None else layout.settings(value)
    state: dict[str, Any] = {} if layout.settings is None else layout.settings(value)
    if attributes := attributes_of(value):
        state["attributes"] = attributes
    if layout.has_dict and "__orig_class__" in object.__getattribute__(value, "__dict__"):
        state["generic"] = alias_text(value.__orig_class__)
    return state


def split_fields(value: Any, classification: Classification) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a value by name, and what it has beyond them."""
    cls: Any = type(value)
    layout = _layout(cls)
    names = classification.fields
    if layout.is_bare:
        held = object.__getattribute__(value, "__dict__")
        if len(held) == len(names) and all(name in held for name in names):  # as with nearly all values
            return ({name: held[name] for name in names}, {}) if not layout.is_model else _model(value, dict(held), {})
    state = own_state(value)
    held = state.pop("attributes", {})
    fields = {
        name: held.pop(name) for name in (list(held) if layout.is_model else names) if name in held and name in names
    }
    unset = [name for name in names if name not in fields]
    if not layout.is_model:  # a default that the class has, or a descriptor
        fields.update((name, getattr(value, name)) for name in unset if hasattr(value, name))
    if unset:
        state["unset"] = unset
    if issubclass(cls, tuple(_EXACT)):
        state["content"] = plain_scalar(value)
    if held:
        state["attributes"] = held
    return _model(value, fields, state) if layout.is_model else (fields, state)


def _model(value: Any, fields: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a pydantic model with those that it allows beyond its own, and what it has beyond all."""
    if value.__pydantic_extra__:
        fields.update(value.__pydantic_extra__)
    given = value.__pydantic_fields_set__
    if given != fields.keys():
        state["set"] = sorted(given)
    if value.__pydantic_private__:
        state["private"] = value.__pydantic_private__
    return fields, state


# ---- settings


def _zone(value: Any) -> dict[str, Any]:
    zone = value.tzinfo
    found: dict[str, Any] = {"fold": 1} if value.fold else {}
    path = "" if zone is None else public_path(type(zone))
    if path == "datetime.timezone":
        found.update(_zone_name(zone))
    elif path == "zoneinfo.ZoneInfo" and zone.key is not None:
        found["zone"] = zone.key
    elif path == "pydantic_core._pydantic_core.TzInfo":
        found["zone_type"] = "pydantic"
    elif zone is not None:
        found["zone_object"] = zone
    return found


def _zone_name(zone: Any) -> dict[str, Any]:
    given = zone.__getinitargs__()
    return {"zone_name": given[1]} if len(given) == 2 else {}  # offset and name


def _factory(value: Any) -> dict[str, Any]:
    factory = value.default_factory
    if factory is None:
        return {}
    path = public_path(factory) if isinstance(factory, type) else ""
    return {"factory": path if path and find_standard(path) is factory else factory}


def _safety(value: Any) -> dict[str, Any]:
    return {} if value.is_safe.value is None else {"is_safe": value.is_safe.value}


def _view(value: Any) -> dict[str, Any]:
    if value.format != "B" or value.ndim != 1 or not value.c_contiguous:
        raise ValueError("a view that bytes do not describe")
    return {} if value.readonly else {"writable": True}


def _proxied(value: Any) -> dict[str, Any]:
    inner = value.copy()
    return {} if type(inner) is dict else {"of": inner}


_SETTINGS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "datetime.datetime": _zone,
    "datetime.time": _zone,
    "datetime.timezone": _zone_name,
    "uuid.UUID": _safety,
    "collections.deque": lambda value: {} if value.maxlen is None else {"maxlen": value.maxlen},
    "collections.defaultdict": _factory,
    "collections.OrderedDict": lambda value: {} if public_path(type(value)) == _ORDERED else {"ordered": True},
    "collections.ChainMap": lambda value: {"maps": value.maps},
    "collections.UserDict": lambda value: {} if wrapped_dict(value) is not None else {"data": value.data},
    "memoryview": _view,
    "mappingproxy": _proxied,
}
"""What instances of a class and of its subclasses have beyond their members, except for attributes."""
_ORDERED = "collections.OrderedDict"
_NETWORK = ("network_address", "netmask", "_prefixlen", "hostmask", "broadcast_address", "hosts")
_INTERFACE = ("network", "netmask", "_prefixlen", "hostmask")
_HIDDEN = {
    "collections.UserDict": ("data",),
    "collections.UserList": ("data",),
    "collections.UserString": ("data",),
    "collections.ChainMap": ("maps",),
    "ipaddress.IPv4Network": _NETWORK,
    "ipaddress.IPv6Network": _NETWORK,
    "ipaddress.IPv4Interface": _INTERFACE,
    "ipaddress.IPv6Interface": _INTERFACE,
}
