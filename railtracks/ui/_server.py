"""``railtracks ui``: serve the pages on this machine until Ctrl-C."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from types import FrameType

import uvicorn

from railtracks.state import Store
from railtracks.state._stores._settings import resolve_store
from railtracks.ui._app import Site
from railtracks.ui._live import Hub
from railtracks.ui._security import Access

_GRACE = 3
"""The seconds that requests have to end when the server does. Streams end at once."""
_MAX_WARNINGS = 10_000
"""The number of warnings that are remembered."""


_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""The signals that end the server, as far as the system has them."""


class _Server(uvicorn.Server):
    """A server that does not wait for streams when it ends.

    It raises the signal that has ended it only when ``raise_signals`` is called, so that there can be cleanup before.
    """

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub
        self._received: list[int] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals end the server, but for those that are ignored, as after ``nohup``."""
        is_main = threading.current_thread() is threading.main_thread()  # no other can set handlers
        known = [getattr(signal, name) for name in _SIGNALS if is_main and hasattr(signal, name)]
        handled = [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]
        before = {each: signal.signal(each, self.handle_exit) for each in handled}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End, as uvicorn does."""
        self._received.append(sig)
        super().handle_exit(sig, frame)

    def raise_signals(self) -> None:
        """Have the process end as the signals end it that the server has received."""
        for number in reversed(self._received):
            signal.raise_signal(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, as uvicorn does; but it would wait for streams until their clients close them."""
        self._hub.close()
        await super().shutdown(sockets)


def serve(store: Store | str | None, store_text: str | None, port: int, opens_browser: bool) -> int:
    """Serve the pages until Ctrl-C, SIGTERM or SIGHUP, and return the exit code.

    Args:
        store: The store whose runs are shown; None for the configured one.
        store_text: The store as it stands on the command line, for the processes that resume runs.
        port: The port of 127.0.0.1; 0 for any that is free.
        opens_browser: Whether a browser is opened.

    Raises:
        OSError: The port cannot be used.
        KeyboardInterrupt: At Ctrl-C.
    """
    listening = _listen(port)
    access = Access(listening.getsockname()[1])
    site = Site(resolve_store(store), store_text, access)
    entry = _EntryFile()
    config = uvicorn.Config(
        site.app(entry.remove),
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    print(f"The runs are at {access.address}")
    print("Only with this address can they be seen. Ctrl-C ends it.", flush=True)
    server = _Server(config, site.hub)
    with _each_warning_once():
        try:
            if opens_browser:
                entry.open(access.address)
            server.run(sockets=[listening])
        finally:
            entry.remove()
    server.raise_signals()
    return 0


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise OSError(f"the port {port} is taken; pass another one, or no --port for any that is free") from None
        raise OSError(f"the port {port} cannot be used: {exc.strerror}") from None


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Let each warning of the library through once: what is wrong with a run is found each time the store is read."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_known = text in seen
        if len(seen) < _MAX_WARNINGS:
            seen.add(text)
        return not is_known

    log = logging.getLogger("RT")
    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


class _EntryFile:
    """A file that leads a browser to the printed address, until that was opened.

    Other users of the machine see the arguments of a browser. So it is given a file that only this user can read.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def open(self, address: str) -> None:
        """Open an address in a browser, which may take a while."""
        handle, name = tempfile.mkstemp(prefix="railtracks-", suffix=".html")  # readable by its owner alone
        self._path = Path(name)
        target = escape(address)
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">Runs</a>\n'
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        threading.Thread(target=webbrowser.open, args=(self._path.as_uri(),), daemon=True).start()

    def remove(self) -> None:
        """Remove the file, unless that is done. Idempotent."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
