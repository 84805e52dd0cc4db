"""``railtracks view``: a run as a page."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from pathlib import Path

from railtracks._identifiers import slug
from railtracks.cli._errors import MistakeError
from railtracks.page._log import read_log
from railtracks.page._render import render_run
from railtracks.state import Store, load_run
from railtracks.state._file_system import write_atomically

_STDOUT = Path("-")


def view_run(
    identifier: str, output: Path | None, log: Path | None, is_opened: bool | None, store: Store | str | None
) -> int:
    """Write the page of a run, open it in a browser, and return the exit code.

    Args:
        identifier: The run.
        output: The file to write; ``-`` for standard output; None for a temporary file.
        log: A file with lines of the log of the run; None: the page has none.
        is_opened: Whether the file is opened in a browser; None: if it is a temporary one.
        store: The store that the run is in.

    Raises:
        MistakeError: A file cannot be read or written, jinja2 is not installed, or standard output is to be opened.
    """
    if is_opened and output == _STDOUT:
        raise MistakeError("--open: what goes to standard output is not opened; write --output FILE")
    if is_opened is None:
        is_opened = output is None
    info = load_run(identifier, store)
    try:
        lines = None if log is None else read_log(log, info)
    except OSError as exc:
        raise MistakeError(f"--log {log}: {exc.strerror}") from None
    try:
        page = render_run(info, log=lines).encode("utf-8", "backslashreplace")
    except ModuleNotFoundError as exc:
        raise MistakeError(f"{exc}; install it with `pip install '.[cli]'` in a checkout of Railtracks") from None
    if output == _STDOUT:
        sys.stdout.buffer.write(page)
        return 0
    path = _write(page, output, identifier)
    print(path)
    if is_opened and not webbrowser.open(path.absolute().as_uri()):
        print("No browser can be started; open the file yourself.", file=sys.stderr)
    return 0


def _write(page: bytes, output: Path | None, identifier: str) -> Path:
    """Write a page, readable by its owner only, as the values of calls are in it; return where.

    What is not a regular file, such as a pipe, keeps its permissions. A link keeps its place.
    """
    if output is None:
        descriptor, name = tempfile.mkstemp(prefix=f"railtracks-{slug(identifier)}-", suffix=".html")
        with os.fdopen(descriptor, "wb") as file:
            file.write(page)
        return Path(name)
    try:
        if output.exists() and not output.is_file():
            output.write_bytes(page)
        else:
            output.absolute().parent.stat()  # a missing folder may be a slip, and is not made
            write_atomically(os.path.realpath(output), [page])
    except OSError as exc:
        raise MistakeError(f"--output {output}: {exc.strerror}") from None
    return output
