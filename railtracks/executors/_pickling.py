"""Values as bytes, for a worker in another process or on another machine: cloudpickle, which knows nodes here.

What can be imported there is sent as its name, as always. What cannot is sent by value: lambdas, closures, and what
``__main__`` defines, which is another module in a worker.

cloudpickle is imported where it is used, with ``pickle``: they take 3 ms, and few programs need them.
"""

from __future__ import annotations

import functools
import io
import sys
from types import CodeType, FunctionType, MethodType
from typing import Any
from zlib import crc32

from railtracks._main_module import MAIN_NAMES
from railtracks.exceptions import TransferError
from railtracks.nodes import FunctionNode
from railtracks.nodes._depends import with_dependencies
from railtracks.nodes._wrapping import find_by_name

_IDENTITY = ("key", "unkeyed", "definition", "code", "former_key")
"""Cached properties of a node that identify it, and that are sent with it: in a worker they could come out
differently, because ``__main__`` is another module there, and a resumed run would not find its calls again."""
SEAL = 4
"""Bytes of a checksum."""
MAX_QUICK_BYTES = 2**16
"""Bytes that are pickled, or unpickled, in less than about a millisecond. Pickle writes that many at once."""
MAX_QUICK_OBJECTS = 1_000
"""Objects of classes in Python that are pickled in less than about two milliseconds."""
_NOT_SENT = frozenset({"return_hint"})
"""A cached property that is found anew where it is needed."""


class NotQuickError(Exception):
    """Pickling it takes long, or may: it is large, or a class of a program decides how it is pickled."""


def dumps(value: Any, what: str = "the value", must_be_quick: bool = False) -> bytes:
    """Return ``value`` as bytes.

    Args:
        value: Anything; a node, a function or a class that cannot be imported by its name is sent by value.
        what: What the value is, for the error.
        must_be_quick: Whether to give up as soon as it takes long, because an event loop waits.

    Raises:
        TransferError: something in it cannot be pickled.
        NotQuickError: It takes long, and must be quick.
    """
    buffer = _QuickBuffer() if must_be_quick else _Buffer()
    pickler = _pickler()(buffer)
    if must_be_quick:
        pickler.objects_left = MAX_QUICK_OBJECTS
    try:
        pickler.dump(value)
    except NotQuickError:
        raise
    except Exception as exc:  # a `__reduce__` or `__getstate__` of a user may raise anything
        raise TransferError(
            f"{what} cannot be sent to or from a worker: {type(exc).__name__}: {exc}; "
            f"pass what can be pickled, and open connections, files and locks inside the node"
        ) from exc
    return buffer.getvalue()


class _Buffer(io.BytesIO):
    """Takes what is pickled, some 64 kB at once.

    Its method is one in Python, because other threads can run only when such a method is called.
    """

    def write(self, data: Any) -> int:
        return super().write(data)


class _QuickBuffer(io.BytesIO):
    """Takes as many bytes as are pickled quickly."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_QUICK_BYTES:
            raise NotQuickError
        return super().write(data)


def loads(data: bytes | memoryview) -> Any:
    """Return the value that :func:`dumps` made bytes of.

    Raises:
        Exception: whatever its classes raise, or what a module that is missing here raises.
    """
    from pickle import Unpickler
    from pickle import loads as load

    if len(data) > MAX_QUICK_BYTES:
        return Unpickler(_Source(data)).load()  # noqa: S301 (as below)
    return load(data)  # noqa: S301 (of our own worker, or of our own process)


class _Source(io.BytesIO):
    """Gives what is unpickled, some 64 kB at once, in Python, as above."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        return super().readinto(buffer)


def seal(data: bytes) -> bytes:
    """Return bytes with a checksum, for :func:`unseal`."""
    return crc32(data).to_bytes(SEAL, "big") + data


def unseal(sealed: bytes, what: str) -> memoryview:
    """Return the bytes that were sealed.

    Raises:
        TransferError: they are others, so that unpickling them could do anything.
    """
    data = memoryview(sealed)[SEAL:]
    if len(sealed) < SEAL or sealed[:SEAL] != crc32(data).to_bytes(SEAL, "big"):
        raise TransferError(f"{what} was damaged on its way: its checksum differs")
    return data


@functools.cache
def _pickler() -> type[Any]:
    from copyreg import dispatch_table
    from pickle import DEFAULT_PROTOCOL

    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        objects_left: int | None = None  # how many may come yet; None for any number

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if self.objects_left is not None:
                self.objects_left -= 1
                if self.objects_left < 0 or _may_take_long(kind):
                    raise NotQuickError
            if kind is FunctionType:
                if _is_found(obj.__module__, obj.__qualname__, obj):
                    return NotImplemented  # by its name; cloudpickle takes longer to find that out
                if (node := _node_in_place_of(obj)) is not None:
                    return getattr, (node, "func")
            if kind is CodeType:
                # cloudpickle leaves its file out, and log lines and tracebacks of the worker would not have it.
                make, parts = cloudpickle.Pickler.dispatch_table[CodeType](obj)
                return make, tuple(obj.co_filename if part == "<dynamic-code>" else part for part in parts)
            # Before cloudpickle, for which a node is a function, and which would make a plain one of it.
            if issubclass(kind, FunctionNode):
                return _reduce_node(obj)
            if issubclass(kind, BaseException) and _is_remade_without_init(kind):
                return _new_exception, (kind, obj.args), vars(obj) or None
            if issubclass(kind, BaseException) and kind in dispatch_table:
                # As its class does it: with what tblib registers in a worker of Dask, a SyntaxError loses its text.
                return obj.__reduce_ex__(DEFAULT_PROTOCOL)
            return super().reducer_override(obj)

    return Pickler


def _may_take_long(kind: type[Any]) -> bool:
    """Return whether a class of a program decides how its objects are pickled, with code that may do anything."""
    for method in (kind.__reduce_ex__, kind.__reduce__):
        if type(method) is FunctionType and not _is_known(method.__module__):
            return True
    return False


def _is_known(module: Any) -> bool:
    package = str(module).partition(".")[0]
    return package == "railtracks" or package in sys.stdlib_module_names


def _is_remade_without_init(kind: type[BaseException]) -> bool:
    """Return whether an exception is unpickled better without its ``__init__``.

    Python calls it with ``args``. These are what ``BaseException.__init__`` was given, which need not be what an
    ``__init__`` in Python takes: it may fail, or make another text.
    """
    if not isinstance(kind.__init__, FunctionType):
        return False
    if kind.__reduce__ is not BaseException.__reduce__ or kind.__reduce_ex__ is not BaseException.__reduce_ex__:
        return False
    if any(vars(base).get("__slots__") for base in kind.__mro__):  # which are not in its `__dict__`
        return False
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    # One with fields in C, such as SystemExit, needs its `__init__` for them.
    return kind.__new__ is builtin.__new__ and builtin.__basicsize__ == BaseException.__basicsize__


def _new_exception(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    return kind.__new__(kind, *args)


def _reduce_node(node: FunctionNode[..., Any]) -> str | tuple[Any, ...]:
    """Return how a node is pickled: by its name if it can be imported by that, or else by value."""
    path = getattr(node, "__qualname__", None)
    if isinstance(path, str) and _is_found(node.__module__, path, node):
        return path
    identity = {name: getattr(node, name) for name in _IDENTITY}
    if node.reduced is not None:
        return (*node.reduced, {**identity, "known_secrets": node.known_secrets})
    if isinstance(node.func, MethodType):
        return _reduce_bound(node, identity)
    # The object comes before its state, so that a function that refers to its own node finds this one.
    return _blank, (type(node),), _state_of(node)


def _node_in_place_of(func: FunctionType) -> FunctionNode[..., Any] | None:
    """Return the node that a function was decorated to, if that can be imported by the name of the function.

    Sent by value, the function would have copies of the globals of its module.
    """
    found = find_by_name(func.__module__, func.__qualname__)
    if not issubclass(type(found), FunctionNode) or found.func is not func:
        return None
    return found if _is_found(func.__module__, func.__qualname__, found) else None


def _state_of(node: FunctionNode[..., Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(node).items() if name not in _NOT_SENT}


def _reduce_bound(node: FunctionNode[..., Any], identity: dict[str, Any]) -> tuple[Any, ...]:
    """Return how a node of a method is pickled. Pickling the method itself would find the node in its place."""
    func = node.func
    assert isinstance(func, MethodType)
    state = {name: value for name, value in _state_of(node).items() if value is not func and name != "body"}
    return _blank, (type(node),), (func.__func__, func.__self__, state | identity), None, None, _set_bound


def _set_bound(node: FunctionNode[..., Any], state: tuple[Any, Any, dict[str, Any]]) -> None:
    function, owner, attributes = state
    func = MethodType(function, owner)
    body = with_dependencies(func, func, attributes["is_async"])
    vars(node).update(attributes, func=func, body=body, target=func, __wrapped__=func)


def _blank(kind: type[FunctionNode[..., Any]]) -> FunctionNode[..., Any]:
    return object.__new__(kind)


def _is_found(module: Any, path: str, obj: object) -> bool:
    """Return whether an object can be imported by a name, and is to be sent by that."""
    if module in MAIN_NAMES or find_by_name(module, path) is not obj:
        return False
    import cloudpickle

    by_value = cloudpickle.list_registry_pickle_by_value()
    if not by_value:
        return True
    parts = str(module).split(".")
    return not any(".".join(parts[:end]) in by_value for end in range(1, len(parts) + 1))
