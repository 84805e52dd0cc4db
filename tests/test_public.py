"""The public face, and the stack of layers below it."""

import ast
import importlib
import inspect
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import railtracks as rt
from tests.layers import LAYERS, layer_of, table

ROOT = Path(rt.__file__).parent
MODULES = {
    ".".join(("railtracks", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

NAMESPACES = [rt, rt.context, rt.exceptions, rt.executors, rt.llm, rt.mcp, rt.nodes, rt.state]


def public(module):
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
    return getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]


PUBLIC = [(module.__name__, name) for module in NAMESPACES for name in public(module)]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_exists_and_has_a_docstring_of_its_own(module, name):
    thing = getattr(importlib.import_module(module), name)
    assert (thing.__doc__ or "").strip()
    if inspect.isclass(thing):
        assert thing.__doc__ not in [base.__doc__ for base in thing.__mro__[1:]]


@pytest.mark.parametrize("name", rt.__all__)
def test_the_public_methods_of_a_public_class_have_docstrings(name):
    thing = getattr(rt, name)
    if inspect.isclass(thing):
        members = {name: member for name, member in vars(thing).items() if not name.startswith("_")}
        own = [name for name, member in members.items() if callable(member) or isinstance(member, property)]
        assert [name for name in own if not (members[name].__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", rt.__all__)
def test_a_public_name_has_one_home(name):
    thing = getattr(rt, name)
    if inspect.ismodule(thing):
        assert thing.__name__ == f"railtracks.{name}"
        return
    homes = {
        module
        for module, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        if module != "railtracks.testing.trees"  # whose classes are named after what nodes do
    }
    assert homes == {thing.__module__}


@pytest.mark.parametrize("module", NAMESPACES, ids=lambda module: module.__name__)
def test_the_list_of_public_names_is_sorted_and_names_each_once(module):
    names = getattr(module, "__all__", [])
    assert names == sorted(set(names))


def lazy_names(tree):
    """Return (module, name) of a module's lazy names: those under TYPE_CHECKING, and those in its mapping."""
    typed, mapped = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [each for each in node.body if isinstance(each, ast.ImportFrom)]
            assert imports == node.body
            for each in imports:
                for alias in each.names:
                    inner = f"{each.module}.{alias.name}"
                    typed.add((inner if inner in MODULES else each.module, alias.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_attributes":
            modules = ast.literal_eval(node.args[1])
            mapped = {(module, name) for module, names in modules.items() for name in names}
    return typed, mapped


LAZY = [
    module for module, tree in TREES.items() if "lazy_attributes(" in ast.unparse(tree) and module != "railtracks._lazy"
]


@pytest.mark.parametrize("module", LAZY)
def test_lazy_names_are_those_that_type_checkers_see(module):
    typed, mapped = lazy_names(TREES[module])
    assert typed == mapped
    assert {name for _, name in mapped} <= set(importlib.import_module(module).__all__)


def test_lazy_modules_are_found():
    assert set(LAZY) == {"railtracks", "railtracks.llm", "railtracks.state"}


def test_importing_loads_nothing_of_sessions():
    code = """
import sys, railtracks
print([name for name in sys.modules if name.startswith(("railtracks._session", "railtracks.execution"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout == "[]\n"


def test_importing_loads_no_event_loop_and_nothing_heavy():
    code = """
import sys, railtracks
railtracks.Session, railtracks.Flow, railtracks.call  # what sessions need
heavy = "asyncio trio rich tomllib pydantic mcp cattrs json hashlib anyio.from_thread anyio.to_thread".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout == "[]\n"


# ---- the stack


def absolute(module, node):
    """The module that a ``from ... import`` names."""
    if not node.level:
        return node.module
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(node.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{node.module}" if node.module else package


def imported(module, tree):
    """The modules of ours that a module imports, wherever the import stands, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, node)
            inner = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else source for name in inner]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.partition(".")[0] == "railtracks")


def upward(module, tree):
    """Return the imports of modules that stand in a layer further down the list."""
    return [
        f"{module}:{line} imports {name}" for name, line in imported(module, tree) if layer_of(name) > layer_of(module)
    ]


IMPORTS = {module: {name for name, _ in imported(module, tree)} for module, tree in TREES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_above_in_the_list(module):
    assert upward(module, TREES[module]) == []


def test_every_layer_has_modules():
    assert {layer_of(module) for module in MODULES} == set(range(len(LAYERS)))


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and under TYPE_CHECKING count too."""
    TopologicalSorter(IMPORTS).prepare()


def test_design_md_shows_the_layers():
    text = (ROOT.parent / "docs" / "design.md").read_text(encoding="utf-8")
    assert f"```text\n{table()}\n```" in text


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("railtracks._identifiers", "import railtracks._logging"),
        ("railtracks._logging", "from railtracks._config import resolve_config"),
        ("railtracks.state._records", "def f():\n    from railtracks.state import _info"),
        ("railtracks.state._serialization._encoder", "from .. import Status"),
        ("railtracks.state._serialization._encoder", "from ... import Session"),
        ("railtracks.state._serialization._encoder", "from ..._calls._call import call"),
        ("railtracks.pubsub._publisher", "if TYPE_CHECKING:\n    from railtracks.execution._strategies import X"),
        ("railtracks.context", "from railtracks import _session"),
        ("railtracks._flow", "import railtracks as rt"),
        ("railtracks.nodes", "from ..execution import x"),
    ],
)
def test_the_check_itself_sees_an_upward_import(module, source):
    assert len(upward(module, ast.parse(source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("railtracks._config", "from railtracks._logging import Level"),
        ("railtracks.state", "from railtracks.state._info import X\nfrom ._stores import Y"),
        ("railtracks._calls._call", "import json\nfrom railtracks import context, nodes"),
    ],
)
def test_the_check_itself_lets_a_downward_import_pass(module, source):
    assert upward(module, ast.parse(source)) == []
