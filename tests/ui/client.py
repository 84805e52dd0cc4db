"""A browser of sorts: it visits the application of a server without a network, and keeps the cookie."""

from contextlib import asynccontextmanager

import anyio
import httpx

from railtracks.state import FileStore
from railtracks.ui._app import Site
from railtracks.ui._security import CSRF_HEADER, Access

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"


class Visitor:
    """Who has opened the printed address."""

    def __init__(self, site, client):
        self.site = site
        self.access = site.access
        self.client = client
        self.cookie = f"{self.access.cookie_name}={self.access.cookie}"
        self.app = client._transport.app

    async def get(self, path="/", **headers):
        return await self.request("GET", self.access.root + path, **{"cookie": self.cookie, **headers})

    async def post(self, path, data=None, **headers):
        ours = {"cookie": self.cookie, "origin": HERE, CSRF_HEADER: self.access.csrf}
        return await self.request("POST", self.access.root + path, json=data or {}, **{**ours, **headers})

    async def request(self, method, path, json=None, **headers):
        """Send a request with these headers; None for one that a browser would send and this one does not."""
        given = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        return await self.client.request(method, f"{HERE}{path}", headers=given, json=json)

    def scope(self, method, path, *headers):
        """Return the scope of a request, as ASGI has it."""
        path, _, query = path.partition("?")
        return {
            "type": "http", "method": method, "path": self.access.root + path, "query_string": query.encode(),
            "raw_path": b"", "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", PORT),
            "headers": [(b"host", f"127.0.0.1:{PORT}".encode()), (b"cookie", self.cookie.encode()), *headers],
        }  # fmt: skip

    @asynccontextmanager
    async def listen(self, path):
        """Yield the events of a stream as they come, each as its text."""
        send, receive = anyio.create_memory_object_stream(100)
        left = anyio.Event()
        scope = self.scope("GET", path)

        async def wait_left():
            await left.wait()
            return {"type": "http.disconnect"}

        async def take(message):
            if message["type"] == "http.response.body" and message["body"]:
                await send.send(message["body"].decode())

        async def run():
            with send:
                await self.app(scope, wait_left, take)

        with receive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                yield receive
                left.set()


@asynccontextmanager
async def visit(store=None, store_text=None):
    """Yield a visitor of a server of a store: the default one, if none is given."""
    site = Site(store or FileStore(), store_text, Access(PORT))
    transport = httpx.ASGITransport(app=site.app())
    async with site._live(), httpx.AsyncClient(transport=transport) as client:
        yield Visitor(site, client)
