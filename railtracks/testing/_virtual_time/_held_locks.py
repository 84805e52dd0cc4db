"""Whether a thread may hold a lock that was made before the run, so that others would block at it in real time."""

from __future__ import annotations

import _thread
import contextlib
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, MemberDescriptorType, ModuleType
from typing import Any

from railtracks.testing._virtual_time._tasks import is_user_code
from railtracks.testing._virtual_time._virtual_locks import AdoptedRLock, VirtualLock, VirtualRLock

_LOCK: Any = type(_thread.allocate_lock())
_RLOCK: Any = _thread.RLock


def holds_real_lock(frames: Iterable[FrameType]) -> bool:
    """Return whether the thread with these frames may hold a real lock.

    Python does not say who holds a lock. So this is true if one is held that the user code in the frames has a name
    for: a variable, or an attribute of one.
    """
    return any(_is_held(value) for frame in frames if is_user_code(frame) for value in _named(frame))


def _named(frame: FrameType) -> Iterator[Any]:
    """Yield the values of the variables of a frame, and of their attributes that its code names."""
    code, globals_ = frame.f_code, frame.f_globals
    variables = [*frame.f_locals.values(), *(globals_[name] for name in code.co_names if name in globals_)]
    for value in variables:
        if isinstance(value, VirtualLock | VirtualRLock | AdoptedRLock):
            continue
        yield value
        if type(value).__module__ != "builtins" or isinstance(value, type | ModuleType):
            yield from (attribute_of(value, name) for name in code.co_names)


def attribute_of(value: Any, name: str) -> Any:
    """Return an attribute without running any code of its object; None if there is none."""
    with contextlib.suppress(AttributeError):
        attributes = object.__getattribute__(value, "__dict__")
        if name in attributes:
            return attributes[name]
    for kind in type(value).__mro__:
        if name in vars(kind):
            found = vars(kind)[name]
            with contextlib.suppress(AttributeError):  # the slot is empty
                return found.__get__(value) if type(found) is MemberDescriptorType else found
    return None


def _is_held(value: Any) -> bool:
    if isinstance(value, threading.Condition):
        value = vars(value)["_lock"]
    if type(value) is _LOCK:
        return bool(value.locked())
    return type(value) is _RLOCK and bool(value._is_owned())
