"""Calls a function before traced code stores a value in an object, a global variable, or one of a closure.

Python 3.11 does that by trace functions. Later versions have ``sys.monitoring``, and 3.12 crashes if several threads
trace instructions.
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

_STORES = frozenset(
    dis.opmap[name]
    for name in ("STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL", "STORE_SLICE", "STORE_SUBSCR")
    if name in dis.opmap
)
_JUMPS = frozenset(number for name, number in dis.opmap.items() if "JUMP" in name or name == "NOP")
_TOOL = "railtracks switches"
_monitoring: Any = getattr(sys, "monitoring", None)


def _offsets(code: CodeType, operations: frozenset[int]) -> frozenset[int]:
    instructions = code.co_code
    return frozenset(offset for offset in range(0, len(instructions), 2) if instructions[offset] in operations)


@functools.lru_cache(maxsize=1024)
def _stores_of(code: CodeType) -> frozenset[int]:
    return _offsets(code, _STORES)


@functools.lru_cache(maxsize=1024)
def _jumps_of(code: CodeType) -> frozenset[int]:
    return _offsets(code, _JUMPS)


def is_store(frame: FrameType) -> bool:
    """Return whether the next instruction of the frame is such a store."""
    return frame.f_lasti in _stores_of(frame.f_code)


def is_jump(frame: FrameType) -> bool:
    """Return whether the next instruction of the frame does nothing but continue elsewhere."""
    return frame.f_lasti in _jumps_of(frame.f_code)


class _Monitor:
    """Has the functions of user code monitored that threads of runs call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._inside = 0  # how many threads are in a callback, and may wait there
        self._codes: set[CodeType] = set()
        self._tool: int | None = None
        self._on_store: Callable[[FrameType], None] = lambda _: None

    def begin(self, on_store: Callable[[FrameType], None]) -> None:
        """Handle that a run begins."""
        with self._lock:
            self._runs += 1
            self._on_store = on_store
            if self._tool is None:
                self._tool = next((number for number in (4, 3) if _monitoring.get_tool(number) is None), None)
                if self._tool is not None:
                    _monitoring.use_tool_id(self._tool, _TOOL)
                    _monitoring.register_callback(self._tool, _monitoring.events.INSTRUCTION, self._on_instruction)

    def watch(self, code: CodeType) -> None:
        """Monitor a function, until all runs have ended."""
        with self._lock:
            if self._tool is not None and code not in self._codes and _stores_of(code):
                self._codes.add(code)
                _monitoring.set_local_events(self._tool, code, _monitoring.events.INSTRUCTION)

    def end(self) -> None:
        """Handle that a run has ended."""
        with self._lock:
            self._runs -= 1
            if self._runs or self._inside or self._tool is None:
                return  # Python crashes if the events change while a thread is in a callback
            for code in self._codes:
                _monitoring.set_local_events(self._tool, code, 0)
            self._codes.clear()
            _monitoring.register_callback(self._tool, _monitoring.events.INSTRUCTION, None)
            _monitoring.free_tool_id(self._tool)
            self._tool = None

    def _on_instruction(self, code: CodeType, offset: int) -> Any:
        if offset not in _stores_of(code):
            return _monitoring.DISABLE
        with self._lock:
            self._inside += 1
        try:
            self._on_store(sys._getframe(1))
        finally:
            with self._lock:
                self._inside -= 1
        return None


_monitor = _Monitor()


def begin_run(on_store: Callable[[FrameType], None]) -> None:
    """Handle that a run begins whose functions are watched.

    Args:
        on_store: Called in the frame that is about to store a value, if not the trace function is; each time the same.
    """
    if _monitoring is not None:
        _monitor.begin(on_store)


def end_run() -> None:
    """Handle that a run has ended."""
    if _monitoring is not None:
        _monitor.end()


def watch_stores(frame: FrameType) -> None:
    """Have ``on_store``, or the trace function of the frame, be called before it stores a value."""
    if _monitoring is None:
        frame.f_trace_opcodes = True
    else:
        _monitor.watch(frame.f_code)
