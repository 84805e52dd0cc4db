"""What is sent to a worker: nodes in all forms, by name or by value, and exceptions as they were."""

import copyreg
import subprocess
import sys

import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError, NodeInvocationError, TransferError
from railtracks.executors._pickling import dumps, loads
from tests.executors import nodes, travelling


def there_and_back(value):
    return loads(dumps(value))


# ---- nodes


def test_a_node_of_a_module_is_sent_by_its_name():
    assert there_and_back(travelling.double) is travelling.double
    assert b"double" in dumps(travelling.double)
    assert len(dumps(travelling.double)) < 100


@pytest.mark.parametrize(
    "node", [travelling.renamed, travelling.of_lambda, travelling.of_partial, travelling.decorated]
)
def test_a_node_whose_name_leads_elsewhere_is_sent_by_value(node):
    copy = there_and_back(node)
    assert type(copy) is type(node)
    assert (copy(3), copy.name, copy.key, copy.version) == (node(3), node.name, node.key, node.version)


def test_a_node_that_is_local_keeps_all_its_options():
    offset = 4

    @rt.function_node(name="adds", key="shop.adds", version="3", memo=False, ignore=("x",), abandon_on_cancel=False)
    def adds(x):
        return x + offset

    copy = there_and_back(adds)
    assert copy(1) == 5
    assert copy._options == adds._options
    assert (copy.key, copy.code, copy.unkeyed) == (adds.key, adds.code, adds.unkeyed)


def test_a_local_node_that_calls_itself_finds_itself():
    @rt.function_node
    def countdown(n):
        return countdown if n == 0 else countdown(n - 1)

    copy = there_and_back(countdown)
    assert copy is not countdown
    assert copy(3) is copy


def test_a_node_that_is_bound_to_an_object_is_sent_with_it():
    copy = there_and_back(travelling.Shop(7).price)
    assert copy(2) == 14
    assert copy.key == travelling.Shop(7).price.key


def test_an_object_that_holds_a_node_of_its_own_method_is_sent():
    shop = travelling.Shop(7)
    vars(shop)["handler"] = shop.price
    copy = there_and_back(shop)
    handler = vars(copy)["handler"]
    assert handler(2) == 14
    assert handler.func.__self__ is copy


def test_nodes_in_a_local_class_are_sent_with_it():
    class Local:
        def __init__(self, factor):
            self.factor = factor

        @rt.function_node
        def times(self, x):
            return self.factor * x

        @rt.function_node
        @staticmethod
        def static(x):
            return x

        @rt.function_node
        @classmethod
        def named(cls, x):
            return cls.__name__, x

    copy = there_and_back(Local(3))
    assert type(copy) is Local  # in one process it is the same class
    assert there_and_back(Local(3).times)(5) == 15
    assert there_and_back(Local.static)(5) == 5
    assert there_and_back(Local.named)(5) == ("Local", 5)


def test_a_class_node_is_sent_as_its_class():
    from railtracks.nodes._resolve import as_node

    node = as_node(travelling.Greet)
    copy = there_and_back(node)
    assert (copy("Ada"), copy.key, copy.name) == (node("Ada"), node.key, node.name)


PROGRAM = """
import sys
import railtracks as rt
from railtracks.executors._pickling import dumps

class Basket:
    def __init__(self, size): self.size = size

    @rt.function_node
    def double(self): return Basket(self.size * 2)

def helper(x): return Basket(x)

@rt.function_node(name="makes")
def make(x): return helper(x).double() if x < 5 else make(x - 5)

ident = make.key, make.code, make.definition
sys.stdout.buffer.write(dumps((make, ident, Basket(4).double, helper)))
"""


def test_what_a_main_program_defines_travels_by_value(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    make, ident, double, helper = loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert make(7).size == 4
    assert (make.key, make.code, make.definition) == ident
    assert double().size == 8
    assert type(double()) is type(helper(1))
    assert type(make) is type(rt.function_node(len))
    assert make.func.__code__.co_filename == helper.__code__.co_filename == str(tmp_path / "program.py")


def test_what_cannot_be_pickled_is_a_clear_error():
    import threading

    lock = threading.Lock()
    with pytest.raises(TransferError, match=r"the node cannot be sent to or from a worker: TypeError: cannot pickle"):
        dumps(lambda: lock, "the node")


# ---- exceptions


@pytest.mark.parametrize(
    "exc",
    [
        nodes.Picky(3),
        travelling.KeywordOnly(code=3),
        travelling.Slotted("a"),
        OSError(2, "No such file", "x"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        StopIteration(5),
        SystemExit(3),
        KeyError("k"),
        NodeInvocationError("failed", ["a hint"], fatal=True),
        GlobalTimeOutError(3.0, "slow", ["here"]),
        ExceptionGroup("several", [ValueError(1), nodes.Picky(2)]),
        rt.exceptions.WorkerLostError("lost", "pool"),
        rt.exceptions.RemoteError("a.B", "text", "trace", "why"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_an_exception_comes_back_as_it_was(exc):
    exc.add_note("a note")
    copy = there_and_back(exc)
    assert type(copy) is type(exc)
    assert (str(copy), copy.args and repr(copy.args)) == (str(exc), exc.args and repr(exc.args))
    assert sorted(map(repr, vars(copy).items())) == sorted(map(repr, vars(exc).items()))
    for attribute in ("code", "why", "filename", "value", "reason"):
        assert getattr(copy, attribute, None) == getattr(exc, attribute, None)


def test_an_exception_is_pickled_as_its_class_does_it(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, SyntaxError, lambda exc: (SyntaxError, ()))
    error = SyntaxError("invalid syntax", ("file.py", 1, 2, "x"))
    assert str(loads(dumps(error))) == str(error) == "invalid syntax (file.py, line 1)"


def test_a_node_with_other_options_keeps_its_function():
    node = there_and_back(travelling.double.options(retries=2))
    assert node.func is travelling.double.func
    assert node.policies == travelling.double.options(retries=2).policies
    assert node.key == travelling.double.key
