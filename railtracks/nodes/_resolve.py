"""From anything that can be called to a node in the one form that the engine runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeGuard

from railtracks._policies import Policies, policies_of
from railtracks.exceptions import NodeCreationError
from railtracks.nodes._callables import holds, innermost, is_async
from railtracks.nodes._depends import with_dependencies
from railtracks.nodes._function import FunctionNode, function_node
from railtracks.nodes._identity import check_key
from railtracks.nodes._node import Node, WithPolicies

AS_NODE = "__railtracks_node__"
"""The method of classes of the library that returns an object as a node."""


def as_node(target: Any, api_name: str = "rt.call", *, in_list: bool = False) -> FunctionNode[..., Any]:
    """Return ``target``, which may be anything that ``rt.call`` takes, as a node.

    Args:
        target: The node, function, class or other callable.
        api_name: The public function that was called with it, for the error.
        in_list: Whether it stood in a list, of which ``api_name`` is the argument, such as ``tool_nodes``.

    Raises:
        NodeCreationError: ``target`` cannot be called; the text shows what to write.
    """
    kind = type(target)  # not `isinstance` below: a mock claims to be what it stands for, and is to be called
    if issubclass(kind, FunctionNode):
        return target  # type: ignore[no-any-return]
    if hasattr(kind, AS_NODE):
        own: FunctionNode[..., Any] = getattr(target, AS_NODE)()
        return own
    if _is_node_class(target):
        return _from_class(target, target)
    if _is_node_class(inner := innermost(target)):
        return _from_class(inner, target)
    if inspect.iscoroutine(target):
        target.close()  # or Python would warn that it was never awaited
        name = target.__name__
        raise NodeCreationError(
            f"{api_name} expects functions, not the coroutine of {name}(...); write {api_name}=[{name}]"
            if in_list
            else f"{api_name}() expected a function, not the coroutine of {name}(...); "
            f"write `{api_name}({name}, ...)`, with the function and its arguments separate"
        )
    if issubclass(kind, Node):
        name = type(target).__name__
        raise NodeCreationError(
            f"{api_name} expects classes, not an instance of {name}; write {api_name}=[{name}]"
            if in_list
            else f"{api_name}() expected a class, not an instance of {name}; "
            f"write `{api_name}({name}, ...)` with the arguments of its __init__"
        )
    if callable(target):
        return function_node(target)
    receiver = api_name if in_list else f"{api_name}()"
    raise NodeCreationError(
        f"{target!r} is not a node; pass {receiver} a function, the result of rt.function_node, "
        f"or a subclass of rt.nodes.Node"
    )


def invoke_if_node(result: Any) -> Any:
    """Invoke ``result`` if it is a class node that a factory made; return any other result as it is."""
    return result.invoke() if holds(_is_node, result) else result


def _is_node(result: object) -> bool:
    return isinstance(result, Node)


def _is_node_class(target: object) -> TypeGuard[type[Node[Any]]]:
    return issubclass(type(target), type) and issubclass(target, Node)  # type: ignore[arg-type]


def _key_of(cls: type[Node[Any]]) -> str | None:
    found = next(vars(base)["key"] for base in cls.__mro__ if "key" in vars(base))
    if found is vars(Node)["key"]:
        return None
    if not isinstance(found, classmethod | staticmethod):
        raise NodeCreationError(
            f"{cls.__name__}.key must be a class method that returns the key of the node on record, or None; if it is "
            f"something else, use another name"
        )
    key = cls.key()
    check_key(key, f"{cls.__name__}.key()")
    return key


def _policies_of(cls: type[Node[Any]]) -> Policies | None:
    return policies_of(cls.policies(), f"{cls.__name__}.policies()")


def _from_class(cls: type[Node[Any]], make: Callable[..., Node[Any]]) -> FunctionNode[..., Any]:
    """Wrap a node class; ``make`` makes its instances: the class itself, or a partial of it."""
    if inspect.isabstract(cls):
        raise NodeCreationError(f"{cls.__name__} has no invoke(); write `async def invoke(self): ...` in it")

    @functools.wraps(cls, updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        return make(*args, **kwargs).invoke()

    node = FunctionNode(
        run,
        name=cls.name(),
        node_type=cls.type(),
        is_async=is_async(cls.invoke),
        key=_key_of(cls),
        version=cls.version(),
        memo=cls.memo(),
        policies=make.policies if isinstance(make, WithPolicies) else _policies_of(cls),
    )
    node.body = with_dependencies(make, run, node.is_async)
    node.target = make
    node.reduced = as_node, (make,)
    node.secrets = cls.secrets()
    return node
