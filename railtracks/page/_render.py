"""The page of a run: one HTML file with all that it needs, which asks nothing of the network.

Its content is data in ``<script type="application/json">``, from which its scripts make the page; they put texts into
it as text alone. The ``Content-Security-Policy`` in it allows these scripts and styles by their hashes, and nothing
else.

A server can keep the page up to date. With ``live``, the page opens an ``EventSource`` at ``live["events"]``. The data
of each event named ``update`` is JSON for ``railtracks.update``, which can be called from elsewhere, too:

    railtracks.update({"run": {...}, "calls": [row, ...]})

- ``calls``: rows as ``call_rows`` makes them. A row of a known ``index`` replaces the one that there was; others are
  added.
- ``run``: as ``run_data`` makes it. It replaces the former one.
- ``live``: members of ``live`` that are others by now, such as ``actions``. Each of the three may be missing.

``page_data(info, since=step)`` returns such an update. ``step`` is in the ``run`` of the data before it. An event named
``reset`` makes the page load itself anew, and ``problem`` has a ``message`` to show.

``live["actions"]`` maps names of actions to URLs. The page shows a button for each, and sends a POST with JSON: ``{}``,
or for the action ``answer`` ``{"question": ID, "value": TEXT}``, for which there is a field at each open question. What
comes back is shown: the member ``message`` of a JSON object, or else the text. ``live["headers"]``, if it is there, is
sent along with each POST, for what proves that the request comes from the page. ``live["notice"]`` is None, or what to
show: its ``text``, the ``output`` of a program that belongs to it, or "", and whether something ``failed``.
``live["list"]`` is the address of the list of runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from railtracks import ExecutionInfo
from railtracks.page._data import constants, page_data

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_LIBRARY = "flame-chart.min.js"
_SCRIPTS = ("model.js", "views.js", "slices.js", "timeline.js", "tree.js", "details.js", "page.js")
"""The parts of the script of the page, in the order in which they use each other."""
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
_MAX_LINES = 200


def render_run(
    info: ExecutionInfo, *, live: Mapping[str, Any] | None = None, log: Mapping[str, Any] | None = None
) -> str:
    """Return the page of a run as HTML.

    Args:
        info: The run.
        live: Where the page gets updates from, and where it sends actions to, as above; None: it is a file.
        log: The lines of the log of the run, as ``read_log`` returns them; None if they are not known.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    data = {**page_data(info), **constants(len(info.records)), "live": live, "log": log}
    style, library, script = _asset("page.css"), _asset(_LIBRARY), _script()
    connect = "connect-src 'self'; " if live is not None else ""
    return _template().render(
        policy=(
            f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
            f"{connect}img-src data:; base-uri 'none'; form-action 'none'"
        ),
        title=info._title,
        tree=info.tree(max_calls=_MAX_LINES),
        style=_markup(style),
        library=_markup(library),
        script=_markup(script),
        data=_markup(as_script_data(data)),
    )


def as_script_data(data: Any) -> str:
    """Return plain data as JSON that can stand in a script element: ASCII, and without what HTML gives a meaning."""
    return json.dumps(data, separators=(",", ":")).translate(_ESCAPES)


@cache
def _asset(name: str) -> str:
    """Return a file of the page. In a script or style element it stands as it is."""
    text = files("railtracks.page").joinpath("assets", name).read_text(encoding="utf-8")
    assert "</script" not in text.lower(), name
    assert "</style" not in text.lower(), name
    return text


@cache
def _script() -> str:
    """Return the parts of the script in one function, so that their names are their own."""
    parts = "\n".join(map(_asset, _SCRIPTS))
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _hash(text: str) -> str:
    """Return the source expression that allows a script or a style of this text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("railtracks.page", "assets")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html")


def _markup(text: str) -> Markup:
    """Return a text of ours that the template does not escape: of the assets, or of ``as_script_data``."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - it holds no text of others that is not escaped
