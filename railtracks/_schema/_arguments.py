"""Arguments and answers that a model wrote, as values of the annotated types.

The values are checked strictly, but for readings that lose nothing. The errors list all that is wrong, so that the
model can correct it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from railtracks._schema._builder import is_wrapped
from railtracks._schema._entries import maps_of_entries
from railtracks._schema._fields import Field
from railtracks._schema._json_check import fitted
from railtracks._schema._lossless import json_in, union_cache
from railtracks._schema._problems import format_problems, format_value, problems_of
from railtracks._schema._validation import (
    expect_object,
    structure,
    structure_members,
    without_annotated,
)


class ArgumentError(ValueError):
    """The data that a model wrote does not fit. The text is for the model: all that is wrong, each with its path."""


def arguments_for(
    parameters: Sequence[Field], given: Mapping[str, Any] | str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments to call a node with.

    Args:
        parameters: What ``parameters_of`` returns for the node; it can be used for many calls.
        given: JSON data by the names of parameters. A text is what a model wrote instead of an object.

    Returns:
        The positional and the keyword arguments.

    Raises:
        ArgumentError: The data does not fit the parameters.
    """
    said = _object_in(given)
    rest = next((field for field in parameters if field.kind is inspect.Parameter.VAR_KEYWORD), None)
    named = [field for field in parameters if field is not rest]
    values = _run(lambda: structure_members(said, named, "argument", rest))
    positional = [field for field in named if field.kind is inspect.Parameter.POSITIONAL_ONLY]
    while positional and positional[-1].key not in values:
        positional.pop()
    return tuple(values.pop(field.key, field.default) for field in positional), values


def arguments_by_schema(schema: Mapping[str, Any], given: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the keyword arguments to call a node with whose parameters a JSON Schema describes.

    Args:
        schema: The schema, which is that of an object.
        given: As for ``arguments_for``.

    Raises:
        ArgumentError: The data does not fit the schema.
    """
    said = _object_in(given)
    fit: dict[str, Any] = _run(lambda: fitted(said, schema))
    return fit


def _object_in(given: Mapping[str, Any] | str) -> Mapping[str, Any]:
    said = json_in(given) if isinstance(given, str) else given
    if isinstance(said, Mapping):
        return said
    raise ArgumentError(f'the arguments must be a JSON object, such as {{"name": "value"}}, not {format_value(given)}')


def structured_output(text: str, cls: Any, schema: Mapping[str, Any] | None = None) -> Any:
    """Return a model's answer as a value of the type that ``output_schema`` described to it.

    Args:
        text: JSON. There may be other text around it, such as a Markdown fence.
        cls: The type.
        schema: The schema of the type. Where it has maps, lists of entries are taken for them. None: they are not.

    Raises:
        ArgumentError: The text is not JSON, or does not fit the type.
    """
    data = _read_answer(text)
    if schema is not None:
        data = maps_of_entries(data, schema)
    kind = without_annotated(cls)
    if not is_wrapped(cls):
        return _run(lambda: structure(data, kind))
    value = Field("value", "value", kind, required=True)
    what = 'an object with the key "value"'
    return _run(lambda: structure_members(expect_object(data, what), [value], "key"))["value"]


def _read_answer(text: str) -> Any:
    """Return the JSON data in an answer: the whole text, or else all from the first brace to the last one.

    Nothing smaller is tried: a part of an answer that is not whole would pass for the answer.
    """
    from json import loads  # here, because importing it takes time

    start, end = text.find("{"), text.rfind("}") + 1
    texts = [_without_fence(text), *([text[start:end]] if 0 <= start < end else [])]
    problems = []
    for each in texts:
        try:
            return loads(each, parse_constant=_refuse_constant)
        except ValueError as exc:
            problems.append(exc)
        except RecursionError as exc:
            raise ArgumentError("the answer is nested too deeply") from exc
    raise ArgumentError(f"the answer must be JSON alone, and this is none: {problems[0]}") from problems[0]


def _without_fence(text: str) -> str:
    text = text.strip()
    first, _, rest = text.partition("\n")
    is_fenced = rest.endswith("```") and first.rstrip() in ("```", "```json")
    return rest.removesuffix("```") if is_fenced else text


def _refuse_constant(name: str) -> Any:
    """Refuse NaN and the infinities, which Python's parser would accept."""
    raise ValueError(f"{name} is no JSON number")


def _run(work: Callable[[], Any]) -> Any:
    """Return the result of ``work``, and turn whatever it raises into one error for the model."""
    token = union_cache.set({})
    try:
        return work()
    except RecursionError as exc:
        raise ArgumentError("what was given is nested too deeply") from exc
    except Exception as exc:  # a class of the user may raise anything
        raise ArgumentError(format_problems(problems_of(exc))) from exc
    finally:
        union_cache.reset(token)
