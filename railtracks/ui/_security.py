"""Who may see the pages: the user who started the server, in a browser on this machine, and nobody else.

A page of another site can make a browser send requests here, by a link, a form, or a name that it makes resolve to
127.0.0.1. Another user of this machine can connect to the port. So each request must show the cookie that only the
printed address brings, and must be addressed to this server by its own name; what changes something must also come
from a page of this server, and know a secret that stands in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from hmac import compare_digest
from urllib.parse import parse_qs

import attrs
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "x-railtracks-csrf"
_READING = ("GET", "HEAD")
_DENIED = "This page belongs to the user who started `railtracks ui`. Open the address that it printed.\n"
_ENTRY = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={0}"><meta name="color-scheme" content="light dark">
<title>Railtracks</title><link rel="icon" href="data:,"><a href="{0}">Runs</a>
</html>
"""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What the pages of the server may load: their own files. No script that stands in a page runs."""
_HEADERS = {
    b"content-security-policy": PAGE_POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


def _secret() -> str:
    return secrets.token_urlsafe(32)


@attrs.frozen
class Access:
    """The secrets of one server.

    Cookies do not know about ports: a browser sends those of 127.0.0.1 to every server there. So the cookie is limited
    to a path that nobody else can guess, below which all pages are.
    """

    port: int
    token: str = attrs.field(factory=_secret, repr=False)
    """It stands in the printed address."""
    cookie: str = attrs.field(factory=_secret, repr=False)
    """The value of the cookie that the printed address brings."""
    csrf: str = attrs.field(factory=_secret, repr=False)
    """It stands in each page, and must come with each request that changes something."""
    root: str = attrs.field(factory=lambda: f"/{secrets.token_urlsafe(12)}", repr=False)
    """The path below which all pages are."""

    @property
    def address(self) -> str:
        """The address to print."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def cookie_name(self) -> str:
        """The name of the cookie."""
        return f"railtracks-{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """What the header ``Host`` may be."""
        names = ("127.0.0.1", "localhost")
        default = names if self.port == 80 else ()
        return frozenset([*(f"{name}:{self.port}" for name in names), *default])

    def describe_problem(self, scope: Scope) -> str | None:
        """Return why a request below the root is refused; None if it is not."""
        if not self._has_cookie(scope):
            return _DENIED
        if scope["method"] in _READING:
            return None
        origin = _only(scope, b"origin")
        if origin is None or origin not in {f"http://{host}" for host in self.hosts}:
            return "A request that changes something must come from a page of this server.\n"
        if not _equal(_only(scope, CSRF_HEADER.encode()), self.csrf):
            return "A request that changes something must come from a page of this server: reload the page.\n"
        return None

    def is_addressed(self, scope: Scope) -> bool:
        """Return whether a request names this server as its host."""
        return _only(scope, b"host") in self.hosts

    def brings_token(self, scope: Scope) -> bool:
        """Return whether a request is for the printed address."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        is_entry = scope["path"] == "/" and scope["method"] in _READING
        return is_entry and len(given) == 1 and _equal(given[0], self.token)

    def _has_cookie(self, scope: Scope) -> bool:
        """Return whether the cookie is among those that came, whatever other servers of this machine have added."""
        expected = f"{self.cookie_name}={self.cookie}"
        parts = [part.strip() for value in _values(scope, b"cookie") for part in value.split(";")]
        return sum(_equal(part, expected) for part in parts) > 0  # all are compared, so that the time says nothing

    def entry(self) -> Response:
        """Return the answer to the printed address: the cookie, and a page that goes on to the list without the token.

        A redirect of HTTP would count as a part of the navigation that led here. If that began at another site, such as
        a mail, or a file, a browser would not send a strict cookie along.
        """
        response = HTMLResponse(_ENTRY.format(f"{self.root}/"))
        response.set_cookie(self.cookie_name, self.cookie, path=self.root, httponly=True, samesite="strict")
        return response


class Guard:
    """Lets through only requests of the user who started the server, and adds what protects the pages.

    Args:
        app: The application, which gets only requests below ``access.root``.
        access: The secrets.
        on_entry: Is called whenever the cookie is handed out.
    """

    def __init__(self, app: ASGIApp, access: Access, on_entry: Callable[[], None]) -> None:
        self._app = app
        self._access = access
        self._on_entry = on_entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._chosen(scope)(scope, receive, _protected(send))
        else:  # web sockets, which there are none of
            await send({"type": "websocket.close", "code": 1008})

    def _chosen(self, scope: Scope) -> ASGIApp:
        """Return what answers a request."""
        access = self._access
        if not access.is_addressed(scope):
            return PlainTextResponse(f"This server is at 127.0.0.1:{access.port}.\n", 421)
        if access.brings_token(scope):
            self._on_entry()
            return access.entry()
        if not scope["path"].startswith(f"{access.root}/"):
            return PlainTextResponse(_DENIED, 403)
        problem = access.describe_problem(scope)
        return self._app if problem is None else PlainTextResponse(problem, 403)


def _protected(send: Send) -> Send:
    """Return what sends a response with the headers that protect it, in place of those of the same names.

    A page may have a policy of its own about what it loads.
    """

    async def send_protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(name.lower(), value) for name, value in message.get("headers", ())]
            own = {name for name, _ in given} & {b"content-security-policy"}
            kept = [(name, value) for name, value in given if name not in _HEADERS or name in own]
            message["headers"] = [*kept, *((name, value) for name, value in _HEADERS.items() if name not in own)]
        await send(message)

    return send_protected


def _values(scope: Scope, name: bytes) -> Iterable[str]:
    return (value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _only(scope: Scope, name: bytes) -> str | None:
    """Return the value of a header; None if it is not there, or several times."""
    values = list(_values(scope, name))
    return values[0] if len(values) == 1 else None


def _equal(given: str | None, expected: str) -> bool:
    return given is not None and compare_digest(given.encode("utf-8", "replace"), expected.encode())
