"""``railtracks ui``: serve the pages on this machine until Ctrl-C."""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

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


class _Server(uvicorn.Server):
    """A server that does not wait for streams when it ends."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, as uvicorn does; but it would wait for streams until their clients close them."""
        self._hub.close()
        await super().shutdown(sockets)


def serve(store: Store | str | None, store_text: str | None, port: int, opens_browser: bool) -> int:
    """Serve the pages until Ctrl-C or SIGTERM, and return the exit code.

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
    config = uvicorn.Config(
        site.app(),
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
    with _each_warning_once(), _opened(access.address if opens_browser else None):
        _Server(config, site.hub).run(sockets=[listening])
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


@contextmanager
def _opened(address: str | None) -> Iterator[None]:
    """Open an address in a browser, which may take a while.

    Other users of the machine see the arguments of a browser. So it is given a file that only this user can read, and
    that leads to the address.
    """
    if address is None:
        yield
        return
    handle, path = tempfile.mkstemp(prefix="railtracks-", suffix=".html")  # readable by its owner alone
    try:
        target = escape(address)
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">Runs</a>\n'
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        threading.Thread(target=webbrowser.open, args=(Path(path).as_uri(),), daemon=True).start()
        yield
    finally:
        os.unlink(path)
