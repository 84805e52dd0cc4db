"""What a model gives, as what annotations say: strictly, and with errors that the model can learn from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from railtracks._schema._fields import Field
from railtracks._schema._problems import found_in, shown, told
from railtracks._schema._schema import is_wrapped
from railtracks._schema._validation import as_object, members, plain, structure, tried


class ArgumentError(ValueError):
    """What a model gave does not fit. The text is for the model: it lists all that is wrong, each with its place."""


def arguments_for(
    parameters: Sequence[Field], given: Mapping[str, Any] | str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments to call a node with.

    Args:
        parameters: What ``parameters_of`` says of the node; to be found once for many calls.
        given: By name, as JSON data. A text is what a model gave instead of an object.

    Returns:
        The positional and the keyword arguments.

    Raises:
        ArgumentError: They do not fit the parameters.
    """
    if not isinstance(given, Mapping):
        raise ArgumentError(f'the arguments must be a JSON object, such as {{"name": "value"}}, not {shown(given)}')
    rest = next((field for field in parameters if field.kind is inspect.Parameter.VAR_KEYWORD), None)
    named = [field for field in parameters if field is not rest]
    values = _settled(lambda: members(given, named, "argument", rest))
    ahead = [field for field in named if field.kind is inspect.Parameter.POSITIONAL_ONLY]
    while ahead and ahead[-1].key not in values:
        ahead.pop()
    return tuple(values.pop(field.key, field.default) for field in ahead), values


def structured_output(text: str, cls: Any) -> Any:
    """What a model answered, as a value of the type that ``output_schema`` told it of.

    Args:
        text: JSON; a Markdown fence may be around it.
        cls: The type.

    Raises:
        ArgumentError: It is no JSON, or does not fit.
    """
    from json import loads  # here, as it takes its time to import

    try:
        data = loads(_unfenced(text), parse_constant=_no_number)
    except ValueError as exc:
        raise ArgumentError(f"the answer must be JSON alone, and this is none: {exc}") from exc
    except RecursionError as exc:
        raise ArgumentError("the answer is nested too deeply") from exc
    kind = plain(cls)
    if not is_wrapped(cls):
        return _settled(lambda: structure(data, kind))
    value = Field("value", "value", kind, required=True)
    return _settled(lambda: members(as_object(data), [value], "key"))["value"]


def _unfenced(text: str) -> str:
    text = text.strip()
    first, _, rest = text.partition("\n")
    fenced = rest.endswith("```") and first.rstrip() in ("```", "```json")
    return rest.removesuffix("```") if fenced else text


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _settled(work: Callable[[], Any]) -> Any:
    """What ``work`` gives; what goes wrong in it becomes one error for the model."""
    token = tried.set({})
    try:
        return work()
    except RecursionError as exc:
        raise ArgumentError("what was given is nested too deeply") from exc
    except Exception as exc:  # a class of the user's may raise anything when it is made
        raise ArgumentError(told(found_in(exc))) from exc
    finally:
        tried.reset(token)
