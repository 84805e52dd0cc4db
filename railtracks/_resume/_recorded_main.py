"""What the module ``__main__`` on record is in this process.

Versions 1 to 4 of the format recorded what a script defines under ``__main__``. It is found again from the same script,
and from a program that imports the script, if that can be no other module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from railtracks._main_module import MAIN, MAIN_NAMES, importable_name
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._identity import definition_path
from railtracks.state import CallRecord
from railtracks.state._serialization._annotated_classes import subclasses_of
from railtracks.state._serialization._renaming import rename_in_record, split_key

_PREFIX = f"{MAIN}."


def settle_main(*attempts: Sequence[CallRecord]) -> None:
    """Rename ``__main__`` in records, in place, to the module that it is; as it is if it could be several, or none.

    Args:
        *attempts: The records of all attempts of a run.
    """
    records = [record for records in attempts for record in records]
    names = _names_in(records)
    if not names:
        return
    module = _find_module(names, [record.node for record in records if record.node is not None])
    if module is None:
        return

    def rename(path: str) -> str:
        return f"{module}.{path.removeprefix(_PREFIX)}" if path.startswith(_PREFIX) else path

    def recorded(path: str) -> str:
        return _PREFIX + path.removeprefix(f"{module}.") if path.startswith(f"{module}.") else path

    versions = _agent_versions(recorded)
    for record in records:
        rename_in_record(record, rename, MAIN)
        if versions and record.node is not None:
            path, _, rest = split_key(record.node)
            if (path, rest) in versions:
                record.node = record.node.removesuffix(rest) + versions[path, rest]


def _names_in(records: Iterable[CallRecord]) -> set[str]:
    """Return the names at the top of the module ``__main__`` that stand in records."""
    found: set[str] = set()

    def note(path: str) -> str:
        if path.startswith(_PREFIX):
            found.add(path.removeprefix(_PREFIX).partition(".")[0])
        return path

    for record in records:
        rename_in_record(record, note, MAIN)
    return found


def _find_module(names: set[str], keys: Iterable[str]) -> str | None:
    """Return the module that defines all these names, if there is one and the records name it nowhere else."""
    main = sys.modules.get(MAIN)
    current = {} if main is None else vars(main)
    defined = _defined_in(current)
    if names <= defined:
        return importable_name(current)  # started as it was
    others = {
        name
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name not in MAIN_NAMES and names <= _defined_in(vars(module))
    }
    if len(others) == 1:
        (name,) = others
        return None if any(key.startswith(f"{name}.") for key in keys) else name
    return importable_name(current) if names & defined else None


def _defined_in(namespace: Mapping[str, Any]) -> set[str]:
    """Return the names of the functions and classes that a module defines."""
    own = namespace.get("__name__")
    kinds = (FunctionType, FunctionNode)
    things = [v for v in list(namespace.values()) if issubclass(type(v), type) or type(v) in kinds]
    return {str(thing.__qualname__) for thing in things if getattr(thing, "__module__", None) == own}


def _agent_versions(recorded: Callable[[str], str]) -> dict[tuple[str, str], str]:
    """Return the versions of agents by their paths and the versions that were recorded.

    The version of an agent depends on the keys of its tools.

    Args:
        recorded: Returns the path that was recorded for one of the module that ``__main__`` was.
    """
    found = {}
    agents: Any = subclasses_of(Node)
    for cls in agents:
        if hasattr(cls, "version_with") and "definition" in vars(cls):
            former, version = cls.version_with(recorded), cls.version()
            if former != version:
                found[definition_path(cls), f"@{former}"] = f"@{version}"
    return found
