"""The digest of a function's code, by which a resumed run notices that a node does something else now.

It depends on what the function itself does: its instructions with their constants and names, those of the functions in
it, its defaults and its annotations. Docstrings, line numbers, file names and its own name do not count. What it calls
does not count either, nor does what wraps it.
"""

from __future__ import annotations

import dis
import re
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from railtracks._main_module import module_name
from railtracks._public_path import alias_text, public_path
from railtracks.nodes._callables import innermost
from railtracks.nodes._node import Node
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._guarding import guarded_repr
from railtracks.state._serialization._record_text import is_lossy, member_text

_OPTIMIZED = f"-O{sys.flags.optimize}" if sys.flags.optimize else ""
_PYTHON = f"{sys.implementation.name}-{sys.version.split()[0]}{_OPTIMIZED}"
"""The interpreter, as bytecode differs from one to the other, and without assertions."""
_HAS_DOCSTRING = 0x4000000  # a flag of code from Python 3.13 on
_UNCOUNTED = frozenset({"__firstlineno__", "__qualname__", "__static_attributes__"})
"""What the body of a class assigns that says where the class stands, or in which order it was compiled."""
_CONST, _STORE_NAME, _EXTENDED_ARG = frozenset(dis.hasconst), dis.opmap["STORE_NAME"], dis.EXTENDED_ARG
_digests: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def code_of(target: Any) -> str | None:
    """Return the digest of the code of what a node was made of, after the interpreter that it is of.

    For a class it is that of ``invoke`` and ``__init__``, or of ``__init__`` alone.

    Args:
        target: A function, class, partial, method or other callable.

    Returns:
        None where there is no code in Python: for builtins; and for the library's own functions, whose version is
        another matter.
    """
    if type(target) is FunctionType and (digest := _digests.get(target)) is not None:
        return f"{_PYTHON}:{digest}"
    target = innermost(target)
    if isinstance(target, type):
        names = ("invoke", "__init__") if issubclass(target, Node) else ("__init__",)
        digests = [_digest_of(getattr(target, name, None)) for name in names]
    elif isinstance(target, FunctionType) or hasattr(target, "__wrapped__") or hasattr(target, "__func__"):
        digests = [_digest_of(target)]
    else:
        digests = [_digest_of(type(target).__call__)]
    found = [digest for digest in digests if digest is not None]
    return f"{_PYTHON}:{'.'.join(found)}" if found else None


def has_changed(recorded: str | None, current: str | None) -> bool:
    """Return whether two results of ``code_of`` are of different code. What another interpreter made is not known."""
    if recorded is None or current is None or recorded == current:
        return False
    return recorded.partition(":")[0] == current.partition(":")[0]


def _digest_of(function: Any) -> str | None:
    for _ in range(100):  # a loop would be endless
        if function is None or (isinstance(function, FunctionType) and not hasattr(function, "__wrapped__")):
            break
        function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    if not isinstance(function, FunctionType) or str(function.__module__).startswith("railtracks."):
        return None
    digest = _digests.get(function)
    if digest is None:
        own = re.compile(rf"(?<![\w.]){re.escape(str(module_name(function.__module__, function)))}\.")
        named = (own.sub(".", text) for text in (*_defaults(function), *_annotations(function)))  # it may be moved
        text = "\n".join([_code_digest(function.__code__), *named])
        digest = _digests[function] = _hash(text)
    return digest


def _hash(text: str) -> str:
    return str(_blake2b()(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest())


@cache
def _blake2b() -> Any:
    try:
        from _blake2 import blake2b  # what `hashlib` uses, which loads OpenSSL
    except ImportError:
        from hashlib import blake2b
    return blake2b


def _defaults(function: FunctionType) -> Iterator[str]:
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for name, value in [*zip(names, defaults, strict=True), *sorted((function.__kwdefaults__ or {}).items())]:
        text, form, types = member_text(name, value, Redactor())  # by its name, as it may be a secret
        yield f"{name}={public_path(type(value)) if is_lossy(form) else text}{types or ''}"


def _annotations(function: FunctionType) -> Iterator[str]:
    try:
        annotations = function.__annotations__
    except Exception:  # from Python 3.14 on they are evaluated now, and may name what does not exist
        return
    for name, annotation in annotations.items():
        if isinstance(annotation, type) and type(annotation) is type:
            yield f"{name}: {public_path(annotation)}"
        else:
            yield f"{name}: {_ADDRESS.sub('', guarded_repr(_Shown(annotation)))}"


class _Shown:
    """An annotation whose repr names modules as records do."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    def __repr__(self) -> str:
        return alias_text(self._annotation)


@lru_cache(maxsize=4096)
def _code_digest(code: CodeType) -> str:
    return _hash("\n".join(_parts(code)))


def _parts(code: CodeType) -> Iterator[str]:
    instructions, constants = _instructions(code)
    yield instructions
    yield from map(_constant, constants)
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags & ~_HAS_DOCSTRING))
    yield repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable))


def _instructions(code: CodeType) -> tuple[str, list[Any]]:
    """Return the instructions, and the constants that they use in the order of their first use.

    Constants are numbered in that order, so that one which nothing uses, such as a docstring, does not count.
    """
    raw, argument = code.co_code, 0
    found: list[str] = []
    numbers: dict[int, int] = {}
    for at in range(0, len(raw), 2):
        operation, argument = raw[at], argument << 8 | raw[at + 1]
        if operation == _EXTENDED_ARG:
            continue
        if not _is_uncounted(code, raw[at + 2 : at + 4]):
            if operation in _CONST:
                argument = numbers.setdefault(argument, len(numbers))
            found.append(f"{operation}.{argument}")
        argument = 0
    return " ".join(found), [code.co_consts[index] for index in numbers]


def _is_uncounted(code: CodeType, following: bytes) -> bool:
    """Return whether the next instruction stores what does not count."""
    return len(following) == 2 and following[0] == _STORE_NAME and code.co_names[following[1]] in _UNCOUNTED


def _constant(value: Any) -> str:
    kind = type(value)
    if kind is CodeType:
        return f"code {_code_digest(value)}"
    if kind is tuple:
        return f"({', '.join(map(_constant, value))})"
    if kind is frozenset:  # whose order differs from process to process
        return f"{{{', '.join(sorted(map(_constant, value)))}}}"
    is_plain = value is None or value is ... or kind in (str, bytes, int, float, complex, bool, slice)
    return f"{kind.__name__} {value!r}" if is_plain else kind.__name__
