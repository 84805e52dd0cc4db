"""The harness reaches the runtime by public names, ``_test_hooks`` and ``_test_probe``, and by nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import railtracks as rt

ROOT = Path(rt.__file__).parent
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("testing", "pytest_plugin")
    for path in sorted((ROOT / folder).rglob("*.py"))
}

SEAM = {"railtracks._test_hooks", "railtracks._test_probe"}
"""The private modules of the runtime that the harness may import."""

FOREIGN = {
    "_asyncio_loop.py": {"_callback", "_getframe", "_when"},  # asyncio: a handle's callback, a timer's deadline; sys
    "_asyncio_order.py": {"_callback"},
    "_asyncio_sleeps.py": {"_callback", "_getframe", "_scheduled", "_when"},  # asyncio: timers, also if they are over
    "_asyncio_steps.py": {"_args", "_callback"},
    "_blocked_threads.py": {"_send_message_to_trio"},  # trio: how threads reach its event loop
    "_exploration.py": {"_cancel_status"},  # trio: whether a task is cancelled
    "_held_locks.py": {"_is_owned"},  # threading: whether a thread holds an RLock
    "_leaks.py": {"_cancel_all_tasks"},  # asyncio: what cancels the tasks that are left
    "_nested_loops.py": {"_getframe"},  # sys: whether asyncio polls
    "_store_events.py": {"_getframe"},  # sys: the code that stores a value
    "_switches.py": {"_getframe"},
    "_tasks.py": {"_counter", "_railtracks_order"},  # trio: the age of a task; ours, at tasks of asyncio
    "_thread_kinds.py": {"_DummyThread", "_railtracks_work", "_target"},  # threading; ours
    # concurrent.futures: the size and the threads of a pool, and the end of a future; sys; ours, at pools
    "_thread_patches.py": {
        "_getframe", "_invoke_callbacks", "_max_workers", "_railtracks_work", "_threads",
    },
    "_thread_waits.py": {"_getframe"},
    "_virtual_locks.py": {"_getframe"},
    "_world.py": {"_getframe"},  # sys: which code asks for the time
    # trio: the order of its tasks, and MockClock; its timers
    "_trio_loop.py": {"_ALLOW_DETERMINISTIC_SCHEDULING", "_autojump", "_counter", "_heap", "_r"},
    "_trio_sleeps.py": {"_cancel_status", "_counter", "_heap", "_registered_deadline", "_tasks"},  # trio: its timers
    # asyncio: whether somebody retrieved an exception; sys; warnings
    "_unseen.py": {"_get_filters", "_getframe", "_log_traceback"},
}  # fmt: skip
"""The private attributes of Python's library, asyncio and trio that the harness uses.

docs/design-harness.md says what for.
"""


def own_names(tree):
    """Return the names of functions, classes and attributes that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
                        yield each.attr
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id


def private_reads(tree):
    """Return the private attributes that a module uses of objects which are not its own."""
    own = set(own_names(tree))
    found = set()
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        ):
            name = node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            name = str(node.args[1].value) if isinstance(node.args[1], ast.Constant) else ""
        if name.startswith("_") and not name.endswith("__") and name not in own:
            found.add(name)
    return found


def private_imports(tree):
    """Return the private modules and names of the runtime that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            outside = parts[0] == "railtracks" and parts[1:2] not in (["testing"], ["pytest_plugin"])
            private = any(part.startswith("_") and not part.endswith("__") for part in parts)
            if outside and private and ".".join(parts[:2]) not in SEAM:
                found.add(name)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_harness_uses_no_private_attribute_of_the_runtime(module):
    assert private_reads(MODULES[module]) - FOREIGN.get(Path(module).name, set()) == set()


@pytest.mark.parametrize("name", FOREIGN)
def test_each_exception_is_still_needed(name):
    module = next(module for module in MODULES if Path(module).name == name)
    assert FOREIGN[name] - private_reads(MODULES[module]) == set()


@pytest.mark.parametrize("module", MODULES)
def test_the_harness_imports_public_names_and_the_seam_only(module):
    assert private_imports(MODULES[module]) == set()


def test_the_seam_has_no_name_that_the_harness_does_not_use():
    from railtracks import _test_hooks, _test_probe

    used = {
        alias.name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in SEAM
        for alias in node.names
    }
    assert set(_test_probe.__all__) - used == {"RunningCall"}
    assert {"Observer", "RuntimeHooks", "harness_options", "runtime_hooks"} <= used
    assert used <= set(_test_probe.__all__) | set(vars(_test_hooks))


@pytest.mark.parametrize(
    "source",
    [
        "session._store",
        "frame.coordinator._entries.clear()",
        "getattr(session, '_store', None)",
        "class A:\n    def f(self):\n        return self.session._store",
    ],
)
def test_the_check_sees_a_private_attribute(source):
    assert len(private_reads(ast.parse(source))) == 1


@pytest.mark.parametrize(
    "source",
    ["self._x", "__name__", "x.__class__", "class A:\n    def __init__(self):\n        self._x = 1\n\nA()._x"],
)
def test_the_check_passes_what_is_public_or_its_own(source):
    assert private_reads(ast.parse(source)) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import railtracks._config",
        "from railtracks._config import merge",
        "from railtracks.state._records import REUSED",
        "def f():\n    from railtracks import _flow",
    ],
)
def test_the_check_sees_a_private_import(source):
    assert len(private_imports(ast.parse(source))) == 1
