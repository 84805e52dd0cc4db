"""The digest of a function's code: what changes it, and what does not."""

from __future__ import annotations

import builtins
import functools
import operator
import os
import subprocess
import sys
import textwrap

import pytest

import railtracks as rt
from railtracks.nodes import Node, function_node
from railtracks.nodes._code import code_of, has_changed
from railtracks.nodes._resolve import as_node
from railtracks.testing import ScriptedModel
from tests.programs import ROOT

CLASS = """
def f():
    class C:
        x = 1
        def m(self): self.a = self.b = 1
    return C
"""
BASE = """
def f(x: int, y=1, *, z=(1, 2)) -> int:
    total = 0
    for i in range(x):
        if i in {1, 2, 3}:
            total += i
    return [lambda: total, "a"]
"""
SAME = {
    "lines": (BASE, "\n\n\n" + BASE.replace("\n    return", "\n\n\n    return")),
    "comments and names of lines": (BASE, BASE.replace("total = 0", "total = (  # nothing\n        0)")),
    "docstring": (BASE, BASE.replace("total = 0", "'''What it does.'''\n    total = 0")),
    "another docstring": (BASE.replace("total = 0", "'a'; total = 0"), BASE.replace("total = 0", "'b'; total = 0")),
    "name": (BASE, BASE.replace("def f", "def g") + "f = g\n"),
    "lines and name of a class in it": (CLASS, "\n\n" + CLASS.replace("def f", "\ndef g") + "f = g\n"),
    "docstring of a function in it": (
        "def f():\n    def g():\n        'a'\n        return 1\n    return g",
        "def f():\n    def g():\n        return 1\n    return g",
    ),
    "what is around it": (BASE, "import os\ndef helper(): return 2\n" + BASE),
    "wrapper": (BASE, "import functools\n" + BASE + "g = f\nf = functools.wraps(g)(lambda *args: g(*args))"),
    "partial": (BASE, "import functools\n" + BASE + "f = functools.partial(f, 3)"),
    "node": (BASE, "import railtracks as rt\n" + BASE + "f = rt.function_node(name='other', version='2')(f)"),
    "default without a written form": ("def f(x=object()): pass", "def f(x=object()): pass"),
    "annotation without a written form": (
        "from typing import Annotated\ndef f(x: Annotated[int, object()]): pass",
        "from typing import Annotated\ndef f(x: Annotated[int, object()]): pass",
    ),
    "module": (
        "class C: pass\ndef f(x: list[C], y: C = C()): pass",
        "__name__ = 'elsewhere'\nclass C: pass\ndef f(x: list[C], y: C = C()): pass",
    ),
    "secret default": ("def f(token='hunter2'): pass", "def f(token='hunter3'): pass"),
}
DIFFERENT = {
    "constant": (BASE, BASE.replace("total = 0", "total = 1")),
    "type of a constant": (BASE, BASE.replace("total = 0", "total = 0.0")),
    "sign of zero": ("def f(): return 0.0", "def f(): return -0.0"),
    "constants in a set": (BASE, BASE.replace("{1, 2, 3}", "{1, 2, 4}")),
    "operator": (BASE, BASE.replace("+=", "-=")),
    "name of what is called": (BASE, BASE.replace("range", "list")),
    "attribute": ("def f(x): return x.a", "def f(x): return x.b"),
    "order of calls": ("def f(): a(); b()", "def f(): b(); a()"),
    "text": (BASE, BASE.replace('"a"', '"b"')),
    "function in it": (BASE, BASE.replace("lambda: total", "lambda: -total")),
    "class in it": (CLASS, CLASS.replace("= 1\n    return", "= 2\n    return")),
    "default": (BASE, BASE.replace("y=1", "y=2")),
    "type of a default": (BASE, BASE.replace("y=1", "y=True")),
    "keyword default": (BASE, BASE.replace("(1, 2)", "[1, 2]")),
    "no default": (BASE, BASE.replace("y=1", "y")),
    "annotation": (BASE, BASE.replace("x: int", "x: str")),
    "return annotation": (BASE, BASE.replace("-> int", "-> list[int]")),
    "parameter": (BASE, BASE.replace("y=1", "w=1")),
    "async": (BASE, BASE.replace("def f", "async def f")),
    "what is caught": (
        "def f():\n    try: a()\n    except KeyError: pass",
        "def f():\n    try: a()\n    except ValueError: pass",
    ),
    "what is in the try block": (
        "def f():\n    try:\n        a(); b()\n    except KeyError: pass",
        "def f():\n    try:\n        a()\n    except KeyError: pass\n    else: b()",
    ),
}


def compiled(source):
    namespace = {"__name__": "somewhere"}
    exec(compile(textwrap.dedent(source), "a file", "exec"), namespace)
    return namespace["f"]


@pytest.mark.parametrize("kind", SAME)
def test_what_does_not_count(kind):
    one, other = (code_of(compiled(source)) for source in SAME[kind])
    assert one is not None
    assert one == other


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_counts(kind):
    one, other = (code_of(compiled(source)) for source in DIFFERENT[kind])
    assert one is not None
    assert has_changed(one, other)


def test_all_differ():
    """No two programs of the tables have one digest by accident."""
    sources = {source for pair in DIFFERENT.values() for source in pair}
    assert len({code_of(compiled(source)) for source in sources}) == len(sources)


class Greet(Node[str]):
    greeting = "Hello"

    def __init__(self, name):
        self.name_to_greet = name

    async def invoke(self):
        return self.name_to_greet


class OtherInvoke(Greet):
    async def invoke(self):
        return f"Hi {self.name_to_greet}"


class OtherInit(Greet):
    def __init__(self, name):
        self.name_to_greet = name.upper()


class Methods:
    def __init__(self):
        self.x = 1

    def method(self):
        return 1

    @classmethod
    def of_class(cls):
        return 2

    @function_node
    def node(self):
        return 3

    def __call__(self):
        return 4


def test_class_nodes_have_the_code_of_both_methods():
    codes = {code_of(cls) for cls in (Greet, OtherInvoke, OtherInit)}
    assert len(codes) == 3
    assert code_of(functools.partial(Greet, "a")) == code_of(Greet) == as_node(Greet).code


def test_methods_and_objects_that_are_called():
    targets = (Methods().method, Methods.of_class, Methods().node, Methods(), Methods)
    codes = [as_node(target).code for target in targets]
    assert len(set(codes)) == 5
    assert code_of(Methods.method) == codes[0]
    assert code_of(Methods.__call__) == codes[3]
    assert code_of(Methods.__init__) == codes[4]


@pytest.mark.parametrize(
    "target",
    [len, int, str.upper, "text".upper, operator.itemgetter(1), functools.partial(len), rt.ask, builtins.print,
     rt.agent_node(llm=ScriptedModel(["a"])), rt.broadcast],
)  # fmt: skip
def test_what_has_no_code_of_its_own(target):
    assert as_node(target).code is None


def test_functools_caches_have_the_code_of_their_function():
    assert code_of(functools.lru_cache(compiled(BASE))) == code_of(compiled(BASE))


@pytest.mark.parametrize(
    ("recorded", "current", "changed"),
    [
        (None, None, False),
        (None, "cpython-3.11.7:a", False),
        ("cpython-3.11.7:a", None, False),
        ("cpython-3.11.7:a", "cpython-3.11.7:a", False),
        ("cpython-3.11.7:a", "cpython-3.11.7:b", True),
        ("cpython-3.11.7:a", "cpython-3.12.0:b", False),
        ("cpython-3.11.7:a", "cpython-3.11.7-O1:b", False),
    ],
)
def test_code_of_another_interpreter_is_not_known(recorded, current, changed):
    assert has_changed(recorded, current) is changed


def all_codes():
    return [code_of(compiled(source)) for pair in (*SAME.values(), *DIFFERENT.values()) for source in pair]


def test_it_is_the_same_in_all_processes():
    program = "from tests.nodes import test_code as t; print(t.all_codes())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": ROOT, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1


def test_optimized_code_is_of_another_interpreter():
    program = "from tests.nodes import test_code as t; print(t.code_of(t.compiled(t.BASE)))"
    code = subprocess.run(
        [sys.executable, "-O", "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    ).stdout.strip()  # fmt: skip
    assert "-O1:" in code
    assert not has_changed(code, code_of(compiled(BASE)))


def test_it_does_not_change_while_the_function_runs():
    function = compiled("def f(x):\n    for i in range(x): y = i + x\n    return y")
    before = code_of(function)
    for _ in range(100):
        function(100)
    fresh = compiled("def f(x):\n    for i in range(x): y = i + x\n    return y")
    fresh.__code__ = function.__code__.replace(co_filename="other")
    assert code_of(fresh) == before
