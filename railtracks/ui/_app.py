"""The application: which address shows or does what."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

from anyio import to_thread
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from railtracks.exceptions import ConfigError, RTError, RunNotFoundError, StateError
from railtracks.state import FileStore, RunSummary, SQLiteStore, Store, load_run
from railtracks.state._comparison import compare
from railtracks.ui import _actions as actions
from railtracks.ui._live import Hub, UpdateStream
from railtracks.ui._pages import Pages, asset
from railtracks.ui._processes import Processes
from railtracks.ui._run_page import RUN_POLICY, RunPage
from railtracks.ui._runs import Query, RunList, RunReader, RunState, list_page
from railtracks.ui._security import Access, Guard

_LIST = "list"
"""What identifies the list of runs in the hub."""
_LOG = logging.getLogger("RT")
_Handler = Callable[[Request], Awaitable[Any]]


class Site:
    """What the handlers of requests share.

    Args:
        store: The store whose runs are shown.
        store_text: The store as it stands on the command line; None for the configured one.
        access: The secrets of the server.
    """

    def __init__(self, store: Store, store_text: str | None, access: Access) -> None:
        self.access = access
        self.hub = Hub()
        arguments = () if store_text is None else ("--store", store_text)
        self.processes = Processes(arguments, self._poke)
        self._store = store
        self._list = RunList(store)
        self._pages = Pages(access.root, _place(store))
        self._tasks: TaskGroup | None = None

    def app(self, on_entry: Callable[[], None] = lambda: None) -> ASGIApp:
        """Return the application.

        Args:
            on_entry: Is called whenever the printed address is opened.
        """
        run = "/runs/{identifier}"
        shown = {
            "/": self._show_list,
            "/events": self._follow_list,
            "/compare": self._show_comparison,
            "/static/{name}": self._show_asset,
            run: self._show_run,
            f"{run}/events": self._follow_run,
        }
        routes = [Route(path, self._guarded(handler)) for path, handler in shown.items()]
        routes += [
            Route(f"{run}/{action}", self._guarded(partial(self._act, action)), methods=["POST"])
            for action in actions.ACTIONS
        ]
        app = Starlette(
            routes=[Mount(self.access.root, routes=routes)],
            exception_handlers={HTTPException: self._show_problem},
            lifespan=self._live,
        )
        return Guard(app, self.access, on_entry)

    @asynccontextmanager
    async def _live(self, _: Starlette | None = None) -> AsyncIterator[None]:
        async with self.hub.open() as self._tasks:
            yield

    # ---- the list

    async def _show_list(self, request: Request) -> Response:
        query = Query.of(request.query_params)

        def render() -> str:
            return self._pages.list_page(list_page(self._list.read_recent(), query, time.time()))

        return _html(await to_thread.run_sync(render, abandon_on_cancel=True))

    async def _follow_list(self, request: Request) -> ASGIApp:
        query, sent = Query.of(request.query_params), ""

        def describe(runs: tuple[RunSummary, ...]) -> tuple[str, object] | None:
            nonlocal sent
            text = self._pages.rows(list_page(runs, query, time.time()))
            if text == sent:
                return None
            sent = text
            return "update", {"rows": text}

        return UpdateStream(self.hub, _LIST, self._list.read, describe)

    async def _show_comparison(self, request: Request) -> Response:
        chosen = list(dict.fromkeys(request.query_params.getlist("run")))
        if len(chosen) != 2:
            raise ConfigError(f"two runs can be compared, and {len(chosen)} are chosen; choose two in the list")

        def render() -> str:
            first, second = (load_run(identifier, self._store) for identifier in chosen)
            return self._pages.comparison(compare(first, second))

        return _html(await to_thread.run_sync(render, abandon_on_cancel=True))

    # ---- a run

    def _reader(self, request: Request) -> tuple[str, RunReader]:
        """Return the run that a request is about: what identifies it in the hub, and what reads it."""
        identifier = request.path_params["identifier"]
        return f"run {identifier}", RunReader(self._store, identifier, self.processes.latest)

    async def _read(self, reader: RunReader) -> RunState:
        return await to_thread.run_sync(reader.read, abandon_on_cancel=True)

    async def _show_run(self, request: Request) -> Response:
        _, reader = self._reader(request)
        page = RunPage(self.access, request.path_params["identifier"])

        def render() -> str:
            return page.render(reader.read())

        text = await to_thread.run_sync(render, abandon_on_cancel=True)
        return _html(text, headers={"content-security-policy": RUN_POLICY})

    async def _follow_run(self, request: Request) -> ASGIApp:
        key, reader = self._reader(request)
        page = RunPage(self.access, request.path_params["identifier"], request.query_params.get("shown"))
        return UpdateStream(self.hub, key, reader.read, page.describe)

    async def _act(self, action: str, request: Request) -> Response:
        key, reader = self._reader(request)
        data = actions.parse_body(await _body(request))
        state = await self._read(reader)
        if action == actions.RESUME:
            self.processes.check_free(state.info.session_id)
        actions.check_offered(action, state)
        if action == actions.RESUME:
            assert self._tasks is not None
            await self.processes.start(state.info.session_id, self._tasks)
            message = "Its process is starting."
        elif action == actions.CANCEL:
            message = await to_thread.run_sync(actions.cancel, state, self._store)
        else:
            message = await to_thread.run_sync(actions.answer, state, self._store, data)
        self.hub.poke(key)
        self.hub.poke(_LIST)
        return _message(message)

    def _poke(self, identifier: str) -> None:
        self.hub.poke(f"run {identifier}")
        self.hub.poke(_LIST)

    # ---- the rest

    def _guarded(self, handler: _Handler) -> _Handler:
        """Return a handler whose errors are shown. A store of a user may raise anything.

        Starlette raises what is handled as an ``Exception`` again, so that the server prints its traceback each time.
        """

        async def handle(request: Request) -> Any:
            try:
                return await handler(request)
            except (HTTPException, ClientDisconnect):
                raise
            except Exception as exc:
                return await self._show_problem(request, exc)

        return handle

    async def _show_asset(self, request: Request) -> Response:
        found = asset(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])

    async def _show_problem(self, request: Request, exc: Exception) -> Response:
        status, title, text = 500, "The store cannot be read", str(exc)
        if isinstance(exc, HTTPException):
            status, title, text = exc.status_code, exc.detail, "There is no such page."
            if status == 405:
                text = f"What is at this address cannot be asked for with {request.method}."
        elif isinstance(exc, RunNotFoundError):
            status, title = 404, "No such run"
        elif isinstance(exc, ConfigError):
            status, title = 400, "That cannot be done"
        elif isinstance(exc, StateError) and not isinstance(exc, OSError):  # of a database
            status, title = 409, "That cannot be done"
        elif not isinstance(exc, (RTError, OSError)):
            text = f"{type(exc).__name__}: {exc}"
            _LOG.warning("railtracks ui: a request has failed: %s", text, exc_info=exc)
        if request.method == "POST":
            return _message(text, status)
        return _html(self._pages.problem(title, text), status)


def _place(store: Store) -> str:
    """Return where the runs are, for people."""
    if isinstance(store, FileStore):
        return str(store.folder)
    return str(store._path) if isinstance(store, SQLiteStore) else type(store).__name__


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a page. Half of a surrogate pair, which no encoding has, is written as an escape."""
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status, headers)


def _message(text: str, status: int = 200) -> Response:
    """Return what answers an action."""
    return Response(json.dumps({"message": text}), status, media_type="application/json")


async def _body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ConfigError: It is too large.
    """
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > actions.MAX_BODY:
                raise ConfigError(f"the request is larger than {actions.MAX_BODY:,} bytes; use rt.state.send for it")
    return body
