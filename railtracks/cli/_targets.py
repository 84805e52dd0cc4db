"""What a user names on the command line: ``module:name`` and ``path.py:name``, for flows, nodes and stores."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from railtracks import Flow
from railtracks.cli._errors import MistakeError
from railtracks.exceptions import NodeCreationError
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node


def load_flow(target: str) -> Flow[..., Any]:
    """Return the flow that a text names. A node becomes a flow of its name.

    Args:
        target: As in ``app:flow``, ``pkg.app:flow`` or ``path/app.py:flow``.

    Raises:
        MistakeError: There is no such module, or no such flow in it.
        Exception: Whatever the module raises when it is imported.
    """
    found = load_object(target)
    if isinstance(found, Flow):
        return found
    try:
        node = as_node(found, f"railtracks run {target}")
    except NodeCreationError:
        raise MistakeError(f"{target} is {type(found).__name__}, and neither a flow nor a node") from None
    return Flow(node.name, node)


def load_object(target: str) -> Any:
    """Return what a text names; see ``load_flow``."""
    path, colon, name = target.rpartition(":")
    if not colon or not name:
        module = _import(path if colon else target)
        raise MistakeError(f"expected {target.rstrip(':')}:NAME; {_names_in(module, target.rstrip(':'))}")
    module = _import(path)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise MistakeError(f"there is no {name} in {path}; {_names_in(module, path)}") from None
    return found


def _import(path: str) -> Any:
    """Import a module by its name, or by the path of its file, as the one as which other programs import it."""
    if not all(part.isidentifier() for part in path.split(".")) and not path.endswith(".py"):
        raise MistakeError(f"{path!r} is not a module; expected MODULE:NAME or PATH.py:NAME")
    if path.endswith(".py") or os.sep in path:
        folder, name = _split(path)
    else:
        folder, name = os.getcwd(), path
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise MistakeError(f"there is no module {exc.name}; expected MODULE:NAME or PATH.py:NAME") from None
        raise
    file = getattr(module, "__file__", None)
    if path.endswith(".py") and (file is None or not os.path.samefile(file, path)):
        raise MistakeError(f"{path} cannot be imported: the module {name} is {file or 'a part of Python'}; rename it")
    return module


def _split(path: str) -> tuple[str, str]:
    """Return the folder that has to be on ``sys.path`` for a file to be imported, and the name of its module."""
    if not os.path.isfile(path):
        raise MistakeError(f"there is no file {path}")
    folder, file = os.path.split(os.path.abspath(path))
    parts = [file.removesuffix(".py")]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return folder, ".".join(parts)


def _names_in(module: Any, path: str) -> str:
    """Return which flows and nodes a module has, as a part of an error."""
    found = [name for name, value in vars(module).items() if isinstance(value, Flow | FunctionNode) and name[0] != "_"]
    return f"{path} has {', '.join(sorted(found))}" if found else f"{path} has no flows and no nodes"


def find_flow(module_name: str | None, flow_name: str) -> Flow[..., Any] | None:
    """Return the flow with a name that a module has, or else any module that is imported; None if there is none.

    Args:
        module_name: The module; None if it is not known.
        flow_name: The name of the flow.
    """
    modules = [module for module in [*sys.modules.values()] if isinstance(module, ModuleType)]
    if module_name is not None:
        try:
            modules.insert(0, _import(module_name))
        except MistakeError:
            return None
    for module in modules:
        for value in [*vars(module).values()]:
            if type(value) is Flow and value.name == flow_name:
                return value
    return None
