"""Nobody but the user who started the server gets in, and no page of another site can change anything."""

import pytest

from railtracks.state import load_run
from railtracks.ui._security import CSRF_HEADER
from tests.ui.client import HERE, PORT, visit

pytestmark = pytest.mark.either_backend
PROTECTION = {
    "cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff",
    "x-frame-options": "DENY", "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}  # fmt: skip


async def test_the_printed_address_brings_a_cookie_and_leads_on(runs):
    async with visit() as visitor:
        access = visitor.access
        response = await visitor.request("GET", f"/?token={access.token}")
        assert response.status_code == 200
        cookie = response.headers["set-cookie"]
        assert cookie.startswith(f"{access.cookie_name}={access.cookie};")
        assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
            "httponly", f"path={access.root.lower()}", "samesite=strict",
        }  # fmt: skip
        assert f'content="0; url={access.root}/"' in response.text
        assert access.token not in response.text
        page = await visitor.get()
        assert (page.status_code, page.text.count("<tr role")) == (200, 5)
        assert access.token not in page.text
        assert len({access.token, access.cookie, access.csrf, access.root}) == 4


async def test_an_address_shows_what_it_is_for_and_no_secret():
    async with visit() as visitor:
        access = visitor.access
        assert access.address == f"http://127.0.0.1:{PORT}/?token={access.token}"
        assert repr(access) == f"Access(port={PORT})"


@pytest.mark.parametrize(
    "path", ["/", "/?token=", "/?token=wrong", "/?token=é", "/?token={token}&token={token}", "/runs/good?token={token}",
             "{root}", "{root}x/", "/static/list.js", "/favicon.ico", "//", "/%2e%2e/"],
)  # fmt: skip
async def test_nothing_is_shown_without_the_cookie(runs, path):
    async with visit() as visitor:
        access = visitor.access
        for method in ("GET", "HEAD", "POST", "OPTIONS", "DELETE"):
            response = await visitor.request(method, path.format(token=access.token, root=access.root))
            assert response.status_code == 403
            assert "set-cookie" not in response.headers
            assert not any(secret in response.text for secret in (access.root, access.cookie, access.csrf))


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS"])
async def test_the_token_is_good_for_reading_only(method):
    async with visit() as visitor:
        response = await visitor.request(method, f"/?token={visitor.access.token}", origin=HERE)
        assert response.status_code == 403


@pytest.mark.parametrize(
    "cookie",
    [None, "", "{name}=", "{name}=wrong", "{name}={value}x", "railtracks-1={value}", "{name}={token}", "{name}={csrf}",
     "{name}=é", "=;=;{name}", "{name}=wrong; railtracks-8766={value}"],
)  # fmt: skip
async def test_another_cookie_is_not_accepted(runs, cookie):
    async with visit() as visitor:
        access = visitor.access
        text = cookie and cookie.format(
            name=access.cookie_name, value=access.cookie, token=access.token, csrf=access.csrf
        )
        for path in ("/", "/runs/good", "/runs/good/events", "/events", "/static/list.js", "/compare?run=good&run=bad"):
            response = await visitor.get(path, cookie=text.encode("latin-1") if text else text)
            assert response.status_code == 403
        assert (await visitor.post("/runs/bad/cancel", cookie=None)).status_code == 403
    assert load_run("bad").failures


async def test_a_cookie_that_another_server_adds_does_no_harm(runs):
    async with visit() as visitor:
        name = visitor.access.cookie_name
        for cookie in (
            f"other=1; {visitor.cookie}",
            f"{visitor.cookie}; session=x",
            f"theme=dark; {visitor.cookie}; a=b",
            f"valueless; {visitor.cookie}",
            f"=nameless; {visitor.cookie}",
            f"user@example.com=1; {visitor.cookie}",
            f'a="b; {visitor.cookie}',
            f"{visitor.cookie}; {name}=planted",
            f"{name}=planted;{visitor.cookie}",
        ):
            assert (await visitor.get(cookie=cookie)).status_code == 200
        response = await visitor.get(cookie=f"{name}=planted")
        assert response.status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "localhost", "0.0.0.0:8765", "[::1]:8765",
     "127.0.0.1:8765.evil.example", "127.0.0.1:8765@evil.example", "127.1:8765", "LOCALHOST:8765 ", ""],
)  # fmt: skip
async def test_a_name_that_was_rebound_to_this_machine_is_refused(runs, host):
    async with visit() as visitor:
        assert (await visitor.get(host=host)).status_code == 421
        assert (await visitor.request("GET", f"/?token={visitor.access.token}", host=host)).status_code == 421
        assert (await visitor.post("/runs/bad/cancel", host=host, origin=f"http://{host}")).status_code == 421
    assert load_run("bad").failures


async def test_its_own_names_are_accepted(runs):
    async with visit() as visitor:
        for name in (f"127.0.0.1:{PORT}", f"localhost:{PORT}"):
            assert (await visitor.get(host=name)).status_code == 200
            assert (await visitor.post("/runs/good/cancel", host=name, origin=f"http://{name}")).status_code == 409


@pytest.mark.parametrize(
    "origin",
    [None, "null", "", "http://evil.example", "http://127.0.0.1:8766", "https://127.0.0.1:8765", "http://127.0.0.1",
     "http://127.0.0.1:8765.evil.example", "http://localhost", "file://", "HTTP://127.0.0.1:8765"],
)  # fmt: skip
async def test_a_page_of_another_origin_changes_nothing(runs, origin):
    async with visit() as visitor:
        for action in ("resume", "cancel", "answer"):
            assert (await visitor.post(f"/runs/bad/{action}", origin=origin)).status_code == 403
    assert load_run("bad").failures


@pytest.mark.parametrize("csrf", [None, "", "wrong", "é".encode()])
async def test_nothing_changes_without_the_secret_of_the_page(runs, csrf):
    async with visit() as visitor:
        assert (await visitor.post("/runs/bad/cancel", **{CSRF_HEADER: csrf})).status_code == 403
        assert (await visitor.post("/runs/bad/cancel", **{CSRF_HEADER: visitor.access.token})).status_code == 403
    assert load_run("bad").failures


@pytest.mark.parametrize("action", ["resume", "cancel", "answer"])
async def test_reading_a_path_that_changes_something_does_nothing(runs, action):
    async with visit() as visitor:
        response = await visitor.get(f"/runs/bad/{action}")
        assert response.status_code == 405
        assert "What is at this address cannot be asked for with GET." in response.text
    assert load_run("bad").failures


async def test_only_known_methods_and_paths_are_served(runs):
    async with visit() as visitor:
        for path in ("/runs", "/runs/", "/runs/good/", "/static/", "/static/../_app.py", "/static/ui.html", "/nothing"):
            assert (await visitor.get(path)).status_code in (307, 404)
        headers = {"cookie": visitor.cookie, "origin": HERE, CSRF_HEADER: visitor.access.csrf}
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            response = await visitor.request(method, f"{visitor.access.root}/runs/good", **headers)
            assert response.status_code == 405


@pytest.mark.parametrize(
    "identifier", ["..%2e", "%2e", "..%2Fsecret", "%2e%2e%2fsecret", "a%00b", "..%5csecret", "con", "-x", "a b"]
)
async def test_an_identifier_cannot_lead_out_of_the_store(runs, tmp_path, identifier):
    (tmp_path / "secret.json").write_text('{"version": 1, "flow_name": "secret"}')
    async with visit() as visitor:
        for path in (f"/runs/{identifier}", f"/runs/{identifier}/events", f"/compare?run=good&run={identifier}"):
            response = await visitor.get(path)
            assert response.status_code in (400, 403, 404, 307)
            assert "flow_name" not in response.text
        assert (await visitor.post(f"/runs/{identifier}/cancel")).status_code in (400, 403, 404, 405)


async def test_every_response_is_protected(runs):
    async with visit() as visitor:
        access = visitor.access
        responses = [
            await visitor.get(path) for path in ("/", "/runs/good", "/static/list.js", "/nothing", "/runs/none")
        ]
        responses += [await visitor.request("GET", f"/?token={access.token}"), await visitor.request("GET", "/")]
        responses += [await visitor.post("/runs/good/cancel"), await visitor.get(host="evil.example")]
        for response in responses:
            assert {name: response.headers.get(name) for name in PROTECTION} == PROTECTION
            policy = response.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "base-uri 'none'" in policy
            assert "unsafe" not in policy


async def test_a_web_socket_is_refused():
    sent = []

    async def send(message):
        sent.append(message)

    async with visit() as visitor:
        await visitor.app({"type": "websocket", "path": visitor.access.root, "headers": []}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
