"""What identifies a node in all processes: the key under which its calls are recorded.

Keys are on disk. A run can only be resumed if its nodes still have the keys that it recorded, so what this module
returns for a given node must not change: ``tests/nodes/test_identity.py`` pins the keys of every kind of node.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from railtracks._main_module import module_name
from railtracks._public_path import public_path
from railtracks.exceptions import NodeCreationError
from railtracks.nodes._callables import innermost
from railtracks.nodes._node import Node
from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._plain_data import MAX_ITEMS, MAX_TEXT
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lossy

GIVEN_KEY = "key:"
"""What stands before a key that the user passed. No path of a definition begins with it."""
_KEY = re.compile(r"\w[\w.:/-]{0,199}")


def check_key(key: object, where: str) -> None:
    """Raise NodeCreationError unless this is None, or a text that may be the key of a node.

    Args:
        key: What the user passed.
        where: The public function that it was passed to.
    """
    if key is not None and (not isinstance(key, str) or not _KEY.fullmatch(key)):
        raise NodeCreationError(
            f"{where}: key must be at most 200 letters, digits and the characters . _ : / -, such as "
            f"'billing.charge', not {key!r}"
        )


def node_key(
    path: str, target: Any, version: str | None, secrets: tuple[str, ...]
) -> tuple[str | None, list[str] | None]:
    """Return the key of a node, and the secrets that it must not contain.

    Args:
        path: The path of the function that the node runs.
        target: The function, class, partial or other callable that the node was made of.
        version: The version of its code, if it has one.
        secrets: The node's own secrets.

    Returns:
        The key: ``path(what is bound to the target)@version``. None for lambdas, which have no name, and for a
        target bound to a value that cannot be written. The secrets are the node's own and those found in what is
        bound to it; None if nothing is bound and it has none of its own.
    """
    bound = bound_arguments(target)
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    positions = frozenset[int]() if bound is None else argument_positions(innermost(target), is_secret_name)
    text = "" if bound is None else inputs_text(*bound, redactor, positions, MAX_TEXT)
    known = None if bound is None and not secrets else redactor.known
    if path.endswith("<lambda>") or is_lossy(form_in(text)):
        return None, known
    return _key(path, text, version), known


def former_key(path: str, target: Any, version: str | None) -> str | None:
    """Return the key that version 3 of the format had for a node to which values are bound that are not plain data.

    None if it had the same, or if it had one key for nodes that differ.
    """
    from railtracks.state._serialization._former_text import former_inputs  # here, as it serves old records only

    bound = bound_arguments(target)
    text = None if bound is None else former_inputs(*bound, argument_positions(innermost(target), is_secret_name))
    return None if text is None or form_in(text) is Form.PLAIN else _key(path, text, version)


def _key(path: str, bound: str, version: str | None) -> str:
    return path + (f"({bound})" if bound else "") + (f"@{version}" if version is not None else "")


def definition_path(func: Any) -> str:
    """Return the module and qualified name of the function behind ``func``.

    It is the same in all processes, and different for different code.
    """
    inner = innermost(func)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    owner = getattr(named, "__objclass__", named)  # of a method of a builtin type
    module = getattr(owner, "__module__", "builtins")  # None for methods of builtin objects
    module = module_name(module, None if isinstance(owner, type) else inner)
    return public_path(named) if str(module).startswith("railtracks.") else f"{module}.{named.__qualname__}"


def bound_arguments(target: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return what is bound to ``target`` as positional and keyword arguments; None if nothing is.

    The owner of a bound method, and an object that is called itself, count as the first argument.
    """
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while isinstance(target, functools.partial):
        args, kwargs, target = (*target.args, *args), {**target.keywords, **kwargs}, target.func
    if not isinstance(target, FunctionType | BuiltinFunctionType | type | Node) and not hasattr(target, "__wrapped__"):
        owner = getattr(target, "__self__", target)
        args = (_class_path(owner) if isinstance(owner, type) else owner, *args)
    return (args, kwargs) if args or kwargs else None


def _class_path(cls: type) -> str:
    """Return the path of a class as keys have it: with the module of builtins, too."""
    module = module_name(cls.__module__)
    return public_path(cls) if module.startswith("railtracks.") else f"{module}.{cls.__qualname__}"


def argument_positions(target: Any, is_wanted: Callable[[str], bool]) -> frozenset[int]:
    """Return the positions of the positional arguments whose parameters have names for which ``is_wanted`` is true.

    Nothing here builds a signature, which would take too long for each session: the code object of the function is
    enough. A target without one, such as a builtin, has no such positions.
    """
    skipped = 0
    while not isinstance(target, FunctionType) or hasattr(target, "__wrapped__"):
        if isinstance(target, functools.partial):
            skipped, target = skipped + len(target.args), target.func
        elif isinstance(target, MethodType):
            skipped, target = skipped + 1, target.__func__
        elif isinstance(target, type):
            skipped, target = skipped + 1, target.__init__  # type: ignore[misc]
        elif hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        elif isinstance(call := vars(type(target)).get("__call__"), FunctionType):
            skipped, target = skipped + 1, call
        else:
            return frozenset()
    code = target.__code__
    count = code.co_argcount
    positions = {at - skipped for at in range(skipped, count) if is_wanted(code.co_varnames[at])}
    if code.co_flags & inspect.CO_VARARGS and is_wanted(code.co_varnames[count + code.co_kwonlyargcount]):
        positions.update(range(count - skipped, MAX_ITEMS))  # `inputs_text` takes the last one for all further ones
    return frozenset(positions)
