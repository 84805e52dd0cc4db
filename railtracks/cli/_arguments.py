"""The arguments of a flow as those of a command: what the annotations of its entry point say of them."""

from __future__ import annotations

import collections.abc
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import innermost

_CONTAINERS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list, set: set, frozenset: frozenset, tuple: tuple, collections.abc.Sequence: list,
    collections.abc.Collection: list, collections.abc.Iterable: list,
}  # fmt: skip


def parameters_of(node: FunctionNode[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a node with the types of their annotations."""
    try:
        hints = get_type_hints(innermost(node.func), include_extras=True)
    except Exception:  # an annotation may be anything; those that remain are used as texts
        hints = {}
    signature = inspect.signature(node.func)
    return [_with_type(each, hints.get(each.name, each.annotation)) for each in signature.parameters.values()]


def _with_type(parameter: inspect.Parameter, annotation: Any) -> inspect.Parameter:
    """Return a parameter whose annotation text can be converted to; without such a one, it is the text."""
    if isinstance(annotation, str) or annotation in (object, Any, Callable, inspect.Parameter.empty):
        annotation = str if annotation is not inspect.Parameter.empty else annotation
    elif _is_of_texts(annotation):
        annotation = Annotated[annotation, Parameter(converter=_texts)]
    return parameter.replace(annotation=annotation)


def _container(annotation: Any) -> Any:
    """Return the class of which a parameter takes several values, such as ``list``; None if it takes one."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, items = get_origin(annotation), get_args(annotation)
    is_fixed = origin is tuple and items[-1:] != (...,)
    return origin if origin in _CONTAINERS and not is_fixed else None


def _is_of_texts(annotation: Any) -> bool:
    return _container(annotation) is not None and get_args(annotation)[0] is str


def _texts(annotation: Any, tokens: Sequence[Any]) -> Any:
    """Return texts as the annotation has them. A single one that is a list of texts in JSON stands for these."""
    texts = [token.value for token in tokens]
    if len(texts) == 1 and texts[0].lstrip().startswith("["):
        try:
            found = json.loads(texts[0])
        except ValueError:  # it is a text that begins like a list
            found = None
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            texts = found
    return _CONTAINERS[_container(annotation)](texts)


def usage_of(parameters: Iterable[inspect.Parameter]) -> str:
    """Return how a command with these parameters is called: ``--needed VALUE [OPTIONS] COUNT [SHOPS...]``."""
    needed, places = [], []
    for each in parameters:
        is_optional = each.default is not inspect.Parameter.empty or each.kind is inspect.Parameter.VAR_POSITIONAL
        label = each.name.strip("_").replace("_", "-")
        is_many = each.kind is inspect.Parameter.VAR_POSITIONAL or _container(each.annotation) is not None
        shown = label.upper() + "..." * is_many
        if each.kind is inspect.Parameter.KEYWORD_ONLY and not is_optional:
            needed.append(f"--{label} {shown}")
        elif each.kind not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            places.append(f"[{shown}]" if is_optional else shown)
    return " ".join([*needed, "[OPTIONS]", *places])
