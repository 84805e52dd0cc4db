"""What stamina says of each wait, kept out of logs unless the application has set its hooks or configured structlog.

When a wait begins, stamina calls its hooks, which are the same for the whole process. By default it writes to structlog
if that is installed, which prints unless it is configured; or else to logging, as a warning without the call or the
error, which the session has logged already, and not as a warning. So these hooks are replaced just before they are
called, and the last one puts them back. Nothing is awaited in between.
"""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec

from railtracks._concurrency._after_fork import after_fork

_lock = threading.Lock()
"""Held while the hooks are replaced: other threads may be about to do the same."""


class QuietRetries:
    """Keeps quiet what stamina says of the waits of one call."""

    def __init__(self) -> None:
        self._is_begun = False
        self._has_replaced = False

    def begin(self) -> None:
        """Have the default hooks say nothing, until those of the next wait were called."""
        from stamina import instrumentation
        from stamina._config import CONFIG  # private; `tests/test_retries.py` notices if it changes

        _lock.acquire()
        self._is_begun = True
        if CONFIG._on_retry is not None:
            self.end()
            return
        shown = [instrumentation.StructlogOnRetryHook] if _is_structlog_configured() else []
        others = [instrumentation.PrometheusOnRetryHook] if find_spec("prometheus_client") is not None else []
        self._has_replaced = True
        instrumentation.set_on_retry_hooks([*others, *shown, lambda _: self.end()])

    def end(self) -> None:
        """Put everything back. Idempotent."""
        from stamina import instrumentation

        if not self._is_begun:
            return
        self._is_begun = False
        try:
            if self._has_replaced:
                self._has_replaced = False
                instrumentation.set_on_retry_hooks(None)
        finally:
            _lock.release()


def _is_structlog_configured() -> bool:
    structlog = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


@after_fork
def _reset() -> None:
    global _lock
    _lock = threading.Lock()
