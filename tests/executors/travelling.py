"""Nodes that are sent to workers, of a module that they can be imported from."""

import functools

import railtracks as rt


@rt.function_node
def double(x):
    return x * 2


def _plain(x, y=1):
    return x + y


renamed = rt.function_node(_plain, name="renamed", version="2")
of_lambda = rt.function_node(lambda x: x * 5)
of_partial = rt.function_node(functools.partial(_plain, y=10))


def _twice(func):
    @functools.wraps(func)
    def wrapper(*args):
        return func(*args) * 2

    return wrapper


@rt.function_node
def _inner(x):
    return x + 1


decorated = rt.function_node(_twice(_inner))


class Shop:
    def __init__(self, factor):
        self.factor = factor

    @rt.function_node
    def price(self, x):
        return self.factor * x


class Greet(rt.nodes.Node[str]):
    def __init__(self, name):
        self.name_to_greet = name

    def invoke(self):
        return f"Hello, {self.name_to_greet}!"


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Slotted(Exception):
    __slots__ = ("why",)

    def __init__(self, why):
        super().__init__(why)
        self.why = why
