"""Arguments in one canonical form: equal for calls that differ only in how they pass the same arguments.

It does not matter whether an argument is passed by position or by keyword, in which order keywords and the keys of
dicts come, and whether a default is passed or left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from types import FunctionType, MethodType
from typing import Any

from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._added_fields import Classes, Part, is_same, lacks_fields, part_of
from railtracks.state._serialization._canonical_text import canonical_text
from railtracks.state._serialization._compact_text import compact_inputs
from railtracks.state._serialization._large_values import discard
from railtracks.state._serialization._places import Place, read_places
from railtracks.state._serialization._record_text import dumps, form_in, is_former, is_lossy, parse_members, result_text


class CanonicalForms:
    """Makes the canonical form of arguments of one function.

    Args:
        target: The function, class or other callable.
    """

    def __init__(self, target: Callable[..., Any]) -> None:
        self._target = target

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self._target)
        except (TypeError, ValueError):  # some builtins have none
            return None

    def of(self, inputs: str, without: Collection[str] = ()) -> str | None:
        """Return the canonical form of the arguments in the text of a record; None if it has none.

        Args:
            inputs: The text.
            without: The names of parameters that do not count.
        """
        bound = self._bound(inputs, _canonical)
        if bound is None:
            return None
        return dumps(sorted((name, self._shown(name, value)) for name, value in bound.items() if name not in without))

    def _bound(self, inputs: str, form: Callable[[Any, Place | None], Any]) -> dict[str, Any] | None:
        """Return the arguments in the text of a record by their parameters, with defaults; None if they do not fit.

        Args:
            inputs: The text.
            form: Returns what stands for an argument, given its value and its place.
        """
        if self._signature is None or is_former(inputs):
            return None
        args, kwargs, places = _parsed(inputs)
        if "$items" in kwargs:
            return None
        by_position, by_name = places.member("input_args"), places.member("input_kwargs")
        parts = [form(arg, by_position and by_position.member(at)) for at, arg in enumerate(args)]
        named = {name: form(arg, by_name and by_name.member(name)) for name, arg in kwargs.items()}
        try:
            bound = self._signature.bind(*parts, **named)
        except TypeError:  # recorded with other parameters
            return None
        bound.apply_defaults()
        return bound.arguments

    def by_parameter(self, inputs: str, hidden: Collection[str] = ()) -> dict[str, str]:
        """Return the arguments in the text of a record by the names of their parameters, for comparing them.

        Of what has no written form only the type counts, and of what is masked nothing.

        Args:
            inputs: The text.
            hidden: Types whose values are shown as if they had no written form.
        """
        args, kwargs, places = _parsed(inputs)
        by_position, by_name = places.member("input_args"), places.member("input_kwargs")

        def show(arg: Any, place: Place | None) -> _Canonical:
            return _Canonical(canonical_text(arg, place, True, hidden))

        texts = [show(arg, by_position and by_position.member(at)) for at, arg in enumerate(args)]
        named = {name: show(arg, by_name and by_name.member(name)) for name, arg in kwargs.items()}
        if self._signature is not None:
            try:
                bound = self._signature.bind(*texts, **named)
            except TypeError:  # recorded with other parameters
                pass
            else:
                bound.apply_defaults()
                return {name: dumps(self._shown(name, value)) for name, value in sorted(bound.arguments.items())}
        names = [] if self._signature is None else list(self._signature.parameters)
        found = {name: dumps(text) for name, text in named.items()}
        for at, text in enumerate(texts):
            is_named = at < len(names) and names[at] not in named  # not another argument's name
            found[names[at] if is_named else f"#{at}"] = dumps(text)
        return dict(sorted(found.items()))

    def lacks_fields(self, inputs: str, classes: Classes) -> bool:
        """Return whether arguments on record lack fields that their classes have now."""
        return any(lacks_fields(part, classes) for part in (self._parts(inputs) or {}).values())

    def is_same_without_fields(self, recorded: str, given: str, classes: Classes) -> bool:
        """Return whether arguments differ only in fields that the recorded ones lack, and that have their defaults."""
        before, now = self._parts(recorded), self._parts(given)
        if before is None or now is None or before.keys() != now.keys():
            return False
        return all(is_same(before[name], part, classes) for name, part in now.items())

    def _parts(self, inputs: str) -> dict[str, Part] | None:
        """Return the arguments in the text of a record by their parameters; None if they do not fit these."""
        bound = self._bound(inputs, Part)
        if bound is None:
            return None
        assert self._signature is not None
        found: dict[str, Part] = {}
        for name, value in bound.items():
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                found.update((f"{name}[{at}]", part) for at, part in enumerate(value))
            elif kind is inspect.Parameter.VAR_KEYWORD:
                found.update((f"{name}.{key}", part) for key, part in value.items())
            elif isinstance(value, Part):
                found[name] = value
            elif (default := part_of(value)) is not None:
                found[name] = default
        return found

    def _shown(self, name: str, value: Any) -> Any:
        """Return the canonical form of what is bound to a parameter: texts that were given, or its default."""
        assert self._signature is not None
        match self._signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                return list(value)
            case inspect.Parameter.VAR_KEYWORD:
                return dict(sorted(value.items()))
        if type(value) is _Canonical:
            return str(value)
        return _default(value) or f"the default of {name}"


def forms_key(target: Callable[..., Any]) -> tuple[int, bool]:
    """Return a key that callables have in common which have one signature, such as the methods of several objects.

    It holds as long as one of them lives.
    """
    is_method = isinstance(target, MethodType)
    function = target.__func__ if isinstance(target, MethodType) else target
    is_plain = isinstance(function, FunctionType) and not function.__dict__
    if is_plain and not function.__defaults__ and not function.__kwdefaults__:
        return id(function.__code__), is_method  # a function that is defined in a call is another one each time
    return id(function), is_method


def shown_inputs(inputs: str) -> str:
    """Return arguments in the text of a record as one text. Of what has no written form it has only the type."""
    args, kwargs, places = _parsed(inputs)
    by_position, by_name = places.member("input_args"), places.member("input_kwargs")
    return f"{canonical_text(args, by_position, True)} {canonical_text(kwargs, by_name, True)}"


def _parsed(inputs: str) -> tuple[list[Any], dict[str, Any], Place]:
    """Return positional and keyword arguments in the text of a record, and the types in them by place."""
    members = parse_members(compact_inputs(inputs))
    types = members.get("input_types", {})
    return members["input_args"], members["input_kwargs"], read_places(types if isinstance(types, Mapping) else {})


class _Canonical(str):
    """The canonical form of a value; of a class of its own, as the default of a parameter may be any text."""

    __slots__ = ()


def canonical_value(text: str) -> str:
    """Return the canonical form of the value in the text of a result, which has to be all there."""
    members = parse_members(text)
    return _canonical(members["output"], read_places(members.get("output_types", {})))


def _default(value: object) -> str | None:
    """Return the canonical form of a default; None if it cannot be compared."""
    text = result_text(value, Redactor(), keep=discard)
    return None if is_lossy(form_in(text)) else canonical_value(text)


def _canonical(data: Any, place: Place | None) -> _Canonical:
    return _Canonical(canonical_text(data, place))
