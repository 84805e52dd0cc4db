"""The public face, and the stack of layers below it."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import railtracks as rt

ROOT = Path(rt.__file__).parent
MODULES = {
    ".".join(("railtracks", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

NAMESPACES = [rt, rt.context, rt.exceptions, rt.llm, rt.nodes, rt.state]


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
    }
    assert homes == {thing.__module__}


@pytest.mark.parametrize("module", NAMESPACES, ids=lambda module: module.__name__)
def test_the_list_of_public_names_is_sorted_and_names_each_once(module):
    names = getattr(module, "__all__", [])
    assert names == sorted(set(names))


def test_importing_loads_no_event_loop_and_nothing_heavy():
    code = """
import sys, railtracks
heavy = "asyncio trio rich tomllib pydantic hashlib anyio.from_thread anyio.to_thread".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout == "[]\n"


# ---- the stack

LAYERS = """
1   exceptions | _later _ids | _scope | _notifier | _backend _shield _threads
2   _logging _config
3   state._records state._events state._redact state._marks state._secrets state._codec state._text
3   state._typed | state._machine state._document state._writer state._journal state._heads state._past
3   state._files state._lock state._syncer state._info state._stores state._sqlite state._runs state
4   pubsub._subscription pubsub._publisher pubsub
5   nodes._node nodes._function nodes
6   execution._groups execution._run execution._strategy execution._resources execution._streams
6   execution._commit execution._replay execution._recorder
6   execution._announcer execution._coordinator execution
7   context
8   _lifetime _portal _resumption _session _decorator
9   _call _terminal _ask
10  llm._messages llm._model llm._injection llm._docs llm._fields llm._inline llm._problems
10  llm._schema llm._strict llm._arguments llm._clients llm._events llm._sdk llm._chat_format llm._asyncio_thread
10  llm._openai llm._anthropic llm._anyllm llm
10  agents._response agents._sink agents._tools agents._attributes agents._conversation agents._agent agents._histories
10  agents._stream agents
11  _flow
12  railtracks
13  testing._whereabouts testing._doors testing._threads_seen testing._sockets testing._turns testing._clock
13  testing._asyncio_loop testing._trio_loop testing._loops testing._stepping
13  testing._trace testing.faults testing._injection testing._witness testing._report testing._outcome
13  testing._simulate testing._promise testing.invariants testing.trees testing.strategies testing.machine
13  testing.models
13  testing
13  pytest_plugin
"""


def places():
    """The place of each module: its layer, and its rank there. Beside a ``|`` stand modules of one rank."""
    found = {}
    rank = 0
    for line in LAYERS.strip().splitlines():
        layer, *names = line.split()
        rank += 1
        for position, name in enumerate(names):
            rank += position > 0 and "|" not in (name, names[position - 1])
            if name != "|":
                found[name if name == "railtracks" else f"railtracks.{name}"] = (int(layer), rank)
    return found


PLACES = places()


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
    return [
        f"{module}:{line} imports {name}" for name, line in imported(module, tree) if PLACES[name] >= PLACES[module]
    ]


def test_every_module_has_a_place_in_the_stack():
    assert set(PLACES) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module):
    assert upward(module, TREES[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("railtracks._ids", "import railtracks._scope"),
        ("railtracks._logging", "from railtracks._config import merge"),
        ("railtracks.state._records", "def f():\n    from railtracks.state import _info"),
        ("railtracks.state._codec", "from . import Status"),
        ("railtracks.state._codec", "from .. import Session"),
        ("railtracks.state._codec", "from .._call import call"),
        ("railtracks.execution._run", "if TYPE_CHECKING:\n    from railtracks.execution._strategy import X"),
        ("railtracks.context", "from railtracks import _session"),
        ("railtracks._portal", "from railtracks._session import Session"),
        ("railtracks._flow", "import railtracks as rt"),
        ("railtracks.nodes", "from . import x"),
    ],
)
def test_the_check_itself_sees_an_upward_import(module, source):
    assert len(upward(module, ast.parse(source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("railtracks._config", "from railtracks._logging import Level"),
        ("railtracks.state", "from railtracks.state._info import X\nfrom ._machine import Y"),
        ("railtracks._call", "import json\nfrom railtracks import context, nodes"),
    ],
)
def test_the_check_itself_lets_a_downward_import_pass(module, source):
    assert upward(module, ast.parse(source)) == []
