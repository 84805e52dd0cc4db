"""Values to plain data and back: the one home of how anything a user passes or returns is written.

``encode`` never fails: what it does not know becomes its type and repr, and so does a part that misbehaves (a
``repr`` that raises, a mapping that changes under it, a cycle). Its marks are objects with keys that begin with
``$``; a mapping of the user's with such keys is written as a list of pairs, so that marks cannot be forged.
``encode(decode(encode(x))) == encode(x)`` for every x. While it encodes it keeps count of what is lost; see
:class:`Form`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache, lru_cache
from typing import Any, NewType, TypeVar

import attrs
import cattrs

from railtracks._public_path import public_path
from railtracks.exceptions import ConfigError
from railtracks.state._records import Form, Reason, Status
from railtracks.state._redaction._redactor import MASK, Redactor, Secret
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._placeholders import Cut, Opaque, RecordedError

T = TypeVar("T")

Value = NewType("Value", object)
"""The type of the fields of saved documents that hold whatever the user passed or returned."""

MAX_TEXT = 1_048_576
"""Characters of a text that are written."""
MAX_ITEMS = 10_000
"""Items of a collection that are written."""
MAX_PARTS = 100_000
"""Parts, at all levels together, of one value that are written."""
MAX_DEPTH = 64
"""Levels of nesting that are written."""
MAX_REPR = 1_000
"""Characters of a repr that are written."""


def _base64(content: bytes) -> str:
    from binascii import b2a_base64

    return b2a_base64(content, newline=False).decode()


def _from_base64(text: str) -> bytes:
    from binascii import a2b_base64

    return a2b_base64(text)


def _guarded(func: Callable[[Any], str], value: Any) -> str:
    try:
        return func(value)
    except Exception as exc:  # the user's __repr__ or __str__ may do anything
        return f"<{func.__name__} of {type(value).__qualname__} raised {type(exc).__qualname__}>"


def _cut_text(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = f"... [{len(text)} characters in all]"
    return text[: limit - len(mark)] + mark


def _fields(value: object) -> dict[str, Any] | None:
    """The fields of an instance of an attrs class, a dataclass or a pydantic model, by name; None for others."""
    kind: Any = type(value)
    names = _field_names(kind)
    return None if names is None else {name: getattr(value, name) for name in names}


@lru_cache(maxsize=4096)
def _field_names(kind: Any) -> tuple[str, ...] | None:
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if isinstance(pydantic_fields := getattr(kind, "model_fields", None), Mapping):
        return tuple(pydantic_fields)
    return None


def _traceback(value: BaseException) -> str:
    return "".join(traceback.format_exception(value)) if value.__traceback__ or value.__cause__ else ""


_TEXTS: dict[str, Callable[[Any], str]] = {
    "datetime.datetime": lambda v: v.isoformat(),
    "datetime.date": lambda v: v.isoformat(),
    "datetime.time": lambda v: v.isoformat(),
    "datetime.timedelta": str,
    "decimal.Decimal": str,
    "fractions.Fraction": str,
    "uuid.UUID": str,
}
"""Classes that have one obvious text, by name, so that their modules need not be imported."""


@lru_cache(maxsize=4096)
def _text_of(kind: Any) -> Callable[[Any], str] | None:
    """How an instance becomes the one obvious text of its class; None if there is none."""
    texts = (_TEXTS.get(public_path(base)) for base in kind.__mro__)
    return next((text for text in texts if text is not None), None)


PLAIN_KINDS: set[type] = {dict, list, bytes}
"""Types that need not be told: what is read is equal to what was written, and does for it."""

_LOSSES = (Form.PLAIN, Form.TYPED, Form.CUT, Form.OPAQUE, Form.MASKED)


class Encoder:
    """One value on its way to plain data.

    Args:
        redactor: The secrets that are known; what keys and ``Secret`` mark is added to them.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._parts = MAX_PARTS
        self._path: set[int] = set()
        self._loss = 0
        self.types: list[str] = []
        """The types that are not in what was written, in its order."""

    @property
    def form(self) -> Form:
        """How much of what was encoded so far can be read back."""
        return _LOSSES[self._loss]

    def _lose(self, form: Form) -> None:
        self._loss = max(self._loss, _LOSSES.index(form))

    def _lose_type(self, kind: type, written: type | None = None) -> None:
        if kind is not written:
            self._lose(Form.TYPED)
            self.types.append(public_path(kind))

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value)
        if kind is int:
            if -(2**1024) < value < 2**1024:
                return value
            self._lose(Form.OPAQUE)
            return {"$type": "int", "$repr": _cut_text(hex(value), MAX_REPR)}
        if kind is float:
            return value if math.isfinite(value) else {"$type": "float", "$repr": repr(value)}
        try:
            return self._compound(value, kind)
        except Exception:  # any attribute or iteration of a user's object may raise: tell what it was, lose no other
            return self._opaque(value)

    def member(self, key: Any, value: Any) -> Any:
        """A value that stands under ``key``."""
        return self.encode(self._unless_secret(key, value))

    def masked(self, value: Any) -> str:
        """The mask, in place of ``value``, the texts in which are secrets from now on."""
        self._lose(Form.MASKED)
        if not (type(value) is str and value == MASK):
            for text in _texts_in(_Revealing(Redactor()).encode(value)):
                self._redactor.add(text)
        return MASK

    def _text(self, text: str) -> str:
        shown = self._redactor.redact(text)
        if shown is not text and shown != text:
            self._lose(Form.MASKED)
        if len(shown) > MAX_TEXT:
            self._lose(Form.CUT)
        return _cut_text(shown, MAX_TEXT)

    def _prose(self, text: str, limit: int) -> str:
        return _cut_text(self._redactor.redact_free_text(text), limit)

    def _opaque(self, value: object) -> dict[str, Any]:
        self._lose(Form.OPAQUE)
        return {
            "$type": _guarded(public_path, type(value)),
            "$repr": self._prose(_guarded(repr, value), MAX_REPR),
        }

    def error(self, value: Any, shown_traceback: str | None = None) -> dict[str, Any]:
        """An exception. ``shown_traceback``: what to write in place of its traceback."""
        self._lose(Form.OPAQUE)
        if mark := self._mark(value):
            return mark  # type: ignore[no-any-return]
        return {
            "$type": public_path(type(value)),
            "$message": self._prose(_guarded(str, value), MAX_TEXT),
            "$traceback": shown_traceback or self._prose(_guarded(_traceback, value), MAX_TEXT),
        }

    def _compound(self, value: Any, kind: type) -> Any:
        if len(self._path) >= MAX_DEPTH or id(value) in self._path:
            self._lose(Form.CUT)
            return self._mark(value) or {"$type": public_path(kind), "$repr": "<cycle or too deep>"}
        self._path.add(id(value))
        try:
            return self._known(value, kind)
        finally:
            self._path.discard(id(value))

    def _mark(self, value: Any) -> Any:
        """The marks of a loaded state are written as they were read."""
        if isinstance(value, Opaque):
            return value.data
        if isinstance(value, Cut):
            return {"$cut": value.count}
        if isinstance(value, RecordedError):
            return {"$type": str(value.type), "$message": str(value.message), "$traceback": str(value.traceback)}
        return None

    def _known(self, value: Any, kind: type) -> Any:
        if isinstance(value, Secret):
            return self.masked(value)
        if mark := self._mark(value):
            self._lose(Form.OPAQUE)
            return mark
        for base in kind.__mro__ if _registered else ():
            if base in _registered:
                self._lose_type(kind, base)
                return {"$type": public_path(base), "$value": self.encode(converter().unstructure(value, base))}
        if (text := _text_of(kind)) is not None:
            self._lose_type(kind)
            return self.encode(text(value))
        if kind not in PLAIN_KINDS:
            self._lose_type(kind)
        if isinstance(value, Enum):
            return self.encode(value.value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple) or kind.__name__ == "deque":
            names: Any = getattr(value, "_fields", None)  # of a named tuple
            named = isinstance(value, tuple) and isinstance(names, tuple) and len(names) == len(value)
            return self._items(map(self._unless_secret, names, value) if named else value, self.encode)
        if isinstance(value, AbstractSet):
            return self._items(_in_order(value), self.encode)
        if isinstance(value, BaseException):
            return self.error(value)
        if (attributes := _fields(value)) is not None:
            return self._attributes(attributes)
        if isinstance(value, bytes | bytearray | memoryview):
            return self._bytes(bytes(value))
        if isinstance(value, os.PathLike):
            return self.encode(os.fspath(value))
        for plain in (str, int, float):
            if isinstance(value, plain):
                return self.encode(plain(value))
        return self._opaque(value)

    def _bytes(self, value: bytes) -> Any:
        text = value.decode("latin-1")
        if len(value) > MAX_TEXT or self._redactor.redact(text) != text:
            return self._opaque(value)
        return {"$type": "bytes", "$base64": _base64(value)}

    def _items(self, values: Iterable[Any], write: Callable[[Any], Any]) -> list[Any]:
        """The values as ``write`` gives them, up to the limits, and a mark for those that are left out."""
        written: list[Any] = []
        for position, value in enumerate(values := list(values)):
            if not isinstance(value, Cut):  # the mark of a loaded state does not count, and stays
                if position >= MAX_ITEMS or self._parts <= 0:
                    self._lose(Form.CUT)
                    written.append({"$cut": len(values) - position})
                    break
                self._parts -= 1
            written.append(write(value))
        return written

    def _mapping(self, mapping: Mapping[Any, Any]) -> dict[str, Any]:
        items = [(self.encode(key), self._unless_secret(key, value)) for key, value in mapping.items()]
        names = {key for key, _ in items if type(key) is str and not key.startswith("$")}
        if len(names) < len(items) or len(items) > min(MAX_ITEMS, self._parts):
            return {"$type": "dict", "$items": self._items(items, lambda item: [item[0], self.encode(item[1])])}
        self._parts -= len(items)
        return {key: self.encode(value) for key, value in items}

    def _attributes(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """As ``_mapping`` does, but of names that are fit to be keys."""
        if len(attributes) > self._parts:
            return self._mapping(attributes)
        self._parts -= len(attributes)
        return {name: self.encode(self._unless_secret(name, value)) for name, value in attributes.items()}

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return self.masked(value) if value is not None and _is_secret(key) else value


class _Revealing(Encoder):
    """Masks nothing: what stands under a secret key may name secrets of its own, and all of them are to be learnt."""

    def masked(self, value: Any) -> Any:
        return self.encode(value.value if isinstance(value, Secret) else value)

    def _text(self, text: str) -> str:
        return text

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return value


class _Showing(Encoder):
    """Masks what is marked as a ``Secret``, but nothing for its key: for a model a page's "token" is only a word."""

    def _unless_secret(self, key: Any, value: Any) -> Any:
        return value


def _is_secret(key: Any) -> bool:
    if type(key) is str:
        return is_secret_name(key)
    if isinstance(key, Enum):
        key = key.value
    name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    return isinstance(name, str) and is_secret_name(str.__str__(name))


HARMLESS = frozenset({str, int, float, bool, bytes, type(None)})
"""Types of values that hold no others, and so no key that could name a secret."""


def learn_secrets(value: object, redactor: Redactor) -> None:
    """Look through what holds other things, by their keys alone, for secrets to know. No repr is called."""
    if type(value) not in HARMLESS:
        _learn(value, redactor, MAX_DEPTH, {})


def _learn(value: object, redactor: Redactor, depth: int, seen: dict[int, object]) -> None:
    if type(value) in HARMLESS or not depth or id(value) in seen or len(seen) > MAX_PARTS:
        return
    seen[id(value)] = value  # kept, so that no other gets its id
    if isinstance(value, Secret):
        Encoder(redactor).masked(value)
        return
    try:
        members = _members(value)
        for key, item in members:
            if item is not None and _is_secret(key):
                Encoder(redactor).masked(item)
            else:
                _learn(key, redactor, depth - 1, seen)
                _learn(item, redactor, depth - 1, seen)
    except Exception:  # an attribute of a user's object may raise; what it would have given is not known then
        return


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple | AbstractSet) or type(value).__name__ == "deque":
        names: Any = getattr(value, "_fields", None)
        named = isinstance(value, tuple) and isinstance(names, tuple) and len(names) == len(value)
        return zip(names, value, strict=True) if named else ((None, item) for item in value)
    return (_fields(value) or {}).items()


def _texts_in(data: Any) -> Iterator[str]:
    """All texts in plain data, but for the keys, and the texts of numbers."""
    if isinstance(data, dict):
        if "$base64" in data:
            content = _from_base64(data["$base64"])
            yield content.decode("latin-1")
            yield repr(content)[2:-1]
            yield repr(b"'\"" + content)[5:-1]
            with contextlib.suppress(UnicodeDecodeError):
                yield content.decode()
        else:
            for key, value in data.items():
                if key not in ("$type", "$cut"):
                    yield from _texts_in(value)
    elif isinstance(data, list):
        for item in data:
            yield from _texts_in(item)
    elif data is not None and not isinstance(data, bool):
        yield str(data)


def _in_order(values: AbstractSet[Any]) -> list[Any]:
    """The members of a set in an order that is the same in all processes, as far as they can be ordered."""
    try:
        return sorted(values)
    except Exception:  # members of different kinds, or with a comparison of their own, which may do anything
        return sorted(values, key=lambda value: _guarded(repr, value))


def encode(value: object) -> Any:
    """``value`` as what ``json`` can write. Never raises; see the module's docstring for what becomes of what."""
    return Encoder(Redactor()).encode(value)


def encode_shown(value: object) -> Any:
    """The same for a model to read: what stands under keys that name secrets is not masked."""
    return _Showing(Redactor()).encode(value)


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def decode(data: Any) -> Any:
    """The value that ``encode`` wrote as ``data``, as far as it can be brought back."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$cut" in data:
        return Cut(data["$cut"])
    if "$type" in data:
        return _decode_marked(data["$type"], data)
    return {key: decode(value) for key, value in data.items()}


def _decode_marked(name: str, data: dict[str, Any]) -> Any:
    if "$items" in data:
        return _decode_pairs(data)
    if "$traceback" in data:
        return RecordedError(name, data["$message"], data["$traceback"])
    if "$base64" in data:
        return _from_base64(data["$base64"])
    if "$value" in data and name in _by_name:
        return converter().structure(data["$value"], _by_name[name])
    if name == "float":
        return float(data["$repr"])
    return Opaque(name, data)


def _decode_pairs(data: dict[str, Any]) -> Any:
    """A mapping whose keys are not all texts; as it was read if its keys cannot be keys any more, or were cut."""
    try:
        pairs = [(_hashable(decode(key)), decode(value)) for key, value in data["$items"]]
        mapping = dict(pairs)
    except (TypeError, ValueError):
        return Opaque("dict", data)
    return mapping if len(mapping) == len(pairs) else Opaque("dict", data)


def _plain_enum(member: Enum) -> Any:
    return member.value


@cache
def converter(detailed_validation: bool = True) -> cattrs.Converter:
    """What is loaded goes through this converter, and the values of registered types, both ways. Made when needed."""
    made = cattrs.Converter(detailed_validation=detailed_validation)
    for words in (Status, Reason, Form):  # members are texts already, but not plain ones
        made.register_unstructure_hook(words, _plain_enum)
    made.register_unstructure_hook(Value, encode)
    made.register_structure_hook(Value, lambda data, _: data)  # decoded later; the data itself is needed too
    return made


def registered() -> AbstractSet[type]:
    """The types that saved state was taught."""
    return _registered


_registered: set[type] = set()
_by_name: dict[str, type] = {}


def register_hooks(cls: type[T], unstructure: Callable[[T], Any], structure: Callable[[Any], T]) -> None:
    """Teach saved state a type, its subclasses included, in this process, from now on.

    Args:
        cls: The class.
        unstructure: From an instance to plain data: text, numbers, None, lists and dicts with text keys. If it
            raises, the value is written as its type and repr.
        structure: From that data to an instance, when a state is loaded. What it raises leaves the load as a
            ``StateError`` that names the place.

    Raises:
        ConfigError: ``cls`` is no class, or a hook is not callable.
    """
    if not isinstance(cls, type):
        raise ConfigError(f"register_hooks: {cls!r} is no class; give the class itself, such as MyType")
    if cls in (object, type(None), bool, int, float, str, bytes, list, tuple, set, dict):
        raise ConfigError(
            f"register_hooks: {cls.__name__} has its own form in the document; wrap it in a class of yours"
        )
    for label, hook in (("unstructure", unstructure), ("structure", structure)):
        if not callable(hook):
            raise ConfigError(f"register_hooks: {label} is {hook!r}; give a function of one argument")
    converter().register_unstructure_hook(cls, unstructure)
    converter().register_structure_hook(cls, lambda data, _: structure(data))
    _registered.add(cls)
    _by_name[public_path(cls)] = cls
