"""The module under which a script is on record: the one as which it would be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

from railtracks import _main_module
from railtracks._main_module import importable_name, module_name
from railtracks._public_path import public_path
from railtracks.nodes._identity import definition_path
from tests.programs import ROOT

SCRIPT = """
import functools, multiprocessing
from dataclasses import dataclass
import railtracks as rt
from railtracks._public_path import public_path
from railtracks.nodes._resolve import as_node

def wrapped(function):
    return functools.wraps(function)(lambda *args: function(*args))

@dataclass
class Order:
    size: int
    def cost(self): return 1
    @classmethod
    def of(cls): return 1

class Node(rt.nodes.Node):
    def invoke(self): return 1

@rt.function_node
@wrapped
def charge(): return 1

def show():
    keys = [as_node(each).key for each in (charge, charge.func, functools.partial(charge), Order.cost, Order, Node)]
    print({key.rpartition(".")[0].removesuffix(".Order") for key in [*keys, public_path(Order)]}, as_node(Order.of).key)

if __name__ == "__main__":
    show()
    if SPAWN:
        process = multiprocessing.get_context("spawn").Process(target=show)
        process.start()
        process.join()
"""


def run(*command, stdin=None, folder=None, **environment):
    """Run Python in the working directory, and return what it prints."""
    given = {**os.environ, "PYTHONPATH": ROOT, **environment}
    return subprocess.run(
        [sys.executable, *command], env=given, cwd=folder, input=stdin, capture_output=True, text=True, check=True
    ).stdout


def of_class(module):
    return f'{{\'{module}\'}} {module}.Order.of("input_args": ["{module}.Order"], "input_kwargs": {{}})\n'


@pytest.mark.parametrize(
    ("command", "path", "module"),
    [
        (["app.py"], "", "app"),
        (["./app.py"], "", "app"),
        (["-m", "app"], "", "app"),
        (["-m", "pkg.app"], "", "pkg.app"),
        (["-m", "pkg"], "", "pkg.__main__"),
        (["pkg/app.py"], "", "app"),
        (["pkg/app.py"], ".", "pkg.app"),
        (["sub/app.py"], ".", "app"),
        (["link.py"], "", "app"),
        (["-P", "app.py"], "", "__main__"),
        (["-P", "sub/app.py"], ".", "sub.app"),
        (["my-app.py"], "", "__main__"),
        (["app"], "", "__main__"),
        (["app.pyz"], "", "__main__"),
        (["folder"], "", "__main__"),
        (["-c", SCRIPT.replace("SPAWN", "0")], "", "__main__"),
        (["-"], "", "__main__"),
        (["-c", "import runpy; runpy.run_path('app.py', run_name='__main__')"], "", "app"),
        (["-c", "import runpy; runpy.run_module('app', run_name='__main__', alter_sys=True)"], "", "app"),
        (["-c", "import app; app.show()"], "", "app"),
        (["-m", "pdb", "-c", "continue", "-c", "quit", "app.py"], "", "app"),
    ],
)
def test_script_is_the_module_as_which_it_is_imported(tmp_path, command, path, module):
    source = SCRIPT.replace("SPAWN", "0")
    for file in ("app.py", "my-app.py", "app", "pkg/app.py", "pkg/__main__.py", "sub/app.py", "folder/__main__.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(source)
    (tmp_path / "pkg/__init__.py").touch()
    (tmp_path / "else").mkdir()
    (tmp_path / "else/app.py").write_text(source)
    (tmp_path / "link.py").symlink_to(tmp_path / "else/app.py")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", source)
    paths = {"PYTHONPATH": os.pathsep.join([ROOT, *([str(tmp_path)] if path else [])])}
    printed = run(*command, folder=tmp_path, stdin=source if command == ["-"] else None, **paths)
    assert printed.replace("The program finished and will be restarted\n", "") == of_class(module)


def test_child_process_has_the_module_of_its_parent(tmp_path):
    (tmp_path / "app.py").write_text(SCRIPT.replace("SPAWN", "1"))
    assert run("app.py", folder=tmp_path) == of_class("app") * 2
    assert run("-m", "app", folder=tmp_path) == of_class("app") * 2


@pytest.fixture
def no_cache(monkeypatch):
    monkeypatch.setattr(_main_module, "_importable_name", _main_module._importable_name.__wrapped__)


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ({}, None),
        ({"__spec__": None}, None),
        ({"__file__": "<stdin>"}, None),
        ({"__file__": None, "__spec__": object()}, None),
        ({"__spec__": SimpleNamespace(name="shop.app")}, "shop.app"),
        ({"__spec__": SimpleNamespace(name="__main__"), "__file__": "folder/app.py"}, "app"),
        ({"__file__": "folder/app.py"}, "app"),
        ({"__file__": "folder/app.pyc"}, "app"),
        ({"__file__": "folder/below/app.py"}, "below.app"),
        ({"__file__": "folder/be-low/app.py"}, None),
        ({"__file__": "folder/time.py"}, None),  # a module that is built in comes first
        ({"__file__": "folder/pytest.py"}, None),  # another file has that name here
        ({"__file__": "other/app.py"}, None),
    ],
)
def test_name_of_a_namespace(monkeypatch, tmp_path, no_cache, namespace, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "folder"), None])
    assert importable_name(namespace) == name


def test_function_counts_with_the_globals_that_it_has():
    """A test or a notebook runs code in namespaces that are not the module ``__main__``."""
    namespace = {"__name__": "__main__"}
    exec("def f(): pass", namespace)
    assert definition_path(namespace["f"]) == "__main__.f"
    assert public_path(namespace["f"]) == "__main__.f"
    assert module_name("other", namespace["f"]) == "other"
