"""Where an exception was raised, which the exception itself does not say: its traceback does."""

from __future__ import annotations

import opcode
from types import TracebackType

from railtracks._concurrency._kinds import is_kind

_SIGNAL_HANDLERS = ("asyncio.runners", "trio._core._ki", "trio._core._run", f"{__package__}._loop_interrupts")
_RAISE = opcode.opmap["RAISE_VARARGS"]


def _last(exc: BaseException) -> TracebackType | None:
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def is_ctrl_c(exc: BaseException) -> bool:
    """Return whether a KeyboardInterrupt was raised for a signal, by asyncio or trio, and not by code of the program.

    The last frame of its traceback is that of the signal handler, or on trio that of the wait which the signal ended.
    """
    last = _last(exc) if is_kind(exc, KeyboardInterrupt) else None
    return last is not None and last.tb_frame.f_globals.get("__name__") in _SIGNAL_HANDLERS


def is_raised_by_code(exc: GeneratorExit) -> bool:
    """Return whether a ``raise`` statement raised it. Otherwise a coroutine is being closed while it waits."""
    last = _last(exc)
    return last is not None and last.tb_frame.f_code.co_code[last.tb_lasti] == _RAISE
