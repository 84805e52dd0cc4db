"""``railtracks ui`` in a real browser: the list, the page of a run while it runs, the comparison, at two sizes."""

import threading
from typing import Any

import anyio
import pytest
import uvicorn

import railtracks as rt
from railtracks.state import FileStore, cancel_run, list_runs, load_run
from railtracks.state._comparison import compare
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._stores._runs import shown_state
from railtracks.ui._app import Site
from railtracks.ui._runs import shown_age
from railtracks.ui._security import Access
from railtracks.ui._server import _listen, _Server
from tests.browser.conftest import EVIL, SIZES, Browser

pytestmark = pytest.mark.browser
PATIENCE = 15
"""The seconds within which a page must show what has changed."""


@rt.function_node
async def fetch(page):
    await anyio.sleep(0.002 * (page % 5))
    if page % 7 == 3:
        raise LookupError(f"no page {page} {EVIL}")
    return page


@rt.function_node
async def crawl(count, strict=False):
    return len(await rt.call_batch(fetch, range(count), return_exceptions=not strict))


@rt.function_node
async def approve(order):
    return await rt.ask(f"May order {order} be sent?")


@rt.function_node
async def confirm(text):
    return await rt.ask(text)


is_open = threading.Event()
"""Whether the run that is watched goes on."""


@rt.function_node
async def import_all():
    for number in range(3):
        await rt.call(fetch, number)
    while not is_open.is_set():
        await anyio.sleep(0.01)
    for number in range(4, 8):
        await rt.call(fetch, number)
    return "done"


@pytest.fixture
def store(tmp_path):
    """A store with some runs: two that completed, one that failed, one that waits, one with markup everywhere."""
    options: Any = {"store": f"file:{tmp_path / 'runs'}", "logging_setting": "NONE"}
    rt.Flow("Pages", crawl, run_identifier="pages-monday", **options).invoke(12)
    rt.Flow("Pages", crawl, run_identifier="pages-tuesday", **options).invoke(40)
    with pytest.raises(LookupError):
        rt.Flow("Pages", crawl, run_identifier="pages-strict", **options).invoke(12, strict=True)
    for name, identifier, node, argument in (
        ("Orders", "order-17", approve, "A-17"), (EVIL, "odd", confirm, EVIL),
    ):  # fmt: skip
        with pytest.raises(rt.exceptions.RunSuspended):
            rt.Flow(name, node, run_identifier=identifier, **options).invoke(argument)
    return FileStore(tmp_path / "runs")


class Visit(Browser):
    """A browser that visits a server."""

    address = origin = ""

    def enter(self, size="desktop", theme="light"):
        """Open the printed address."""
        self.resize(*SIZES[size])
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.driver.get(self.address)
        self.wait("return Boolean(document.getElementById('list'))")
        self.wait_live()
        self.origin = self.run("return location.href")

    def wait_live(self):
        self.wait("return document.getElementById('live').textContent === 'live'")

    def wait(self, script, *arguments):
        """Wait until a script returns something true, and return that."""
        from selenium.webdriver.support.wait import WebDriverWait

        found = WebDriverWait(self.driver, PATIENCE, 0.02).until(
            lambda driver: driver.execute_script(script, *arguments)
        )
        self.settle()
        return found

    def wait_text(self, selector, text):
        self.wait("return document.querySelector(arguments[0])?.textContent.includes(arguments[1])", selector, text)

    def path(self):
        """Return the path of the page below the root, with the query."""
        return self.run("return location.pathname.replace(/^.[^/]+/, '') + location.search")

    def rows(self):
        return self.run(
            "return [...document.querySelectorAll('#list tbody tr')].map((row) =>"
            " [...row.cells].slice(1).map((cell) => cell.textContent.trim()))"
        )

    def width(self):
        """Return how much wider the page is than the window."""
        return self.run("return document.documentElement.scrollWidth - innerWidth")


@pytest.fixture
def server(store):
    listening = _listen(0)
    site = Site(store, f"file:{store.folder}", Access(listening.getsockname()[1]))
    server = _Server(uvicorn.Config(site.app(), lifespan="on", log_config=None, log_level="warning"), site.hub)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield site
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def visit(driver, server, tmp_path):
    browser = Visit(driver, tmp_path)
    browser.address = server.access.address
    yield browser
    assert browser.errors() == []
    driver.get("about:blank")  # it would try to connect again


@pytest.fixture(params=SIZES)
def page(visit, request):
    visit.enter(request.param)
    return visit


def expected_rows(store):
    runs = sorted(list_runs(store), key=lambda run: run.start_time or 0.0, reverse=True)
    return [[run.identifier, shorten(run.flow_name or "", 80), shown_state(run), str(run.calls)] for run in runs]


# ---- the list


def test_the_list_shows_what_the_store_has(page, store):
    assert [row[:4] for row in page.rows()] == expected_rows(store)
    assert page.width() <= 0
    assert page.text(".place") == str(store.folder)
    assert page.text(".count") == "5 runs"


def test_the_token_stays_out_of_address_and_history(page, server):
    assert page.path() == "/"
    assert server.access.token not in page.run("return location.href + document.referrer + document.cookie")
    entries = page.driver.execute_cdp_cmd("Page.getNavigationHistory", {})["entries"]
    assert not [entry["url"] for entry in entries if server.access.token in entry["url"]]


def test_a_script_in_a_run_is_text_on_every_page(page):
    assert shorten(EVIL, 80) in [row[1] for row in page.rows()]
    page.click("#run-odd")
    page.wait_text(".question", EVIL)
    assert page.errors() == []
    page.driver.back()
    page.wait_live()
    for name in ("pages-monday", "pages-tuesday"):
        page.click(f"#check-{name}")
    page.click("#compare")
    page.wait_text(".failures", f"no page 17 {EVIL[:20]}")
    assert not page.run("return window.wasRun || [...document.images].length")


def test_the_mouse_filters_runs(page):
    from selenium.webdriver.support.select import Select

    page.click("input[name=unfinished]")
    page.wait_text(".count", "3 of 5 runs")
    Select(page.find("select[name=flow]")).select_by_visible_text("Pages")
    page.wait_text(".count", "1 of 5 runs")
    assert [row[0] for row in page.rows()] == ["pages-strict"]
    assert page.path() == "/?flow=Pages&unfinished=1"
    page.driver.refresh()
    page.wait_live()
    assert [row[0] for row in page.rows()] == ["pages-strict"]


def test_the_keyboard_searches_moves_and_opens(page):
    page.press("/")
    page.press(*"PAGES")
    page.wait_text(".count", "3 of 5 runs")
    page.press("\ue007")  # Enter: to the first
    focused = "return document.activeElement.id"
    assert page.run(focused) == "run-pages-strict"
    page.press("j", "j", "j", "k")
    assert page.run(focused) == "run-pages-tuesday"
    page.press("\ue015", "\ue013", "\ue013")  # down, up, up
    assert page.run(focused) == "run-pages-strict"
    page.press("/", "\ue00c")  # Escape
    assert page.run("return document.activeElement === document.body")
    page.press("k", "\ue007")
    page.wait("return location.pathname.endsWith('/runs/pages-monday')")


def test_two_runs_are_chosen_and_compared_by_keyboard(page, store):
    page.press("j")
    page.press("x", "j", "j", "x")
    assert page.text("#chosen") == "These are not runs of one flow."
    assert page.run("return document.getElementById('compare').disabled")
    page.press("j", "x")
    assert page.text("#chosen") == "pages-strict and pages-tuesday"
    page.press("j", "x", "c")
    page.wait("return location.pathname.endsWith('/compare')")
    assert page.path() == "/compare?run=pages-tuesday&run=pages-monday"
    found = compare(load_run("pages-tuesday", store), load_run("pages-monday", store))
    shown = page.run(
        "return [...document.querySelectorAll('table.numbers')[0].tBodies[0].rows].map((row) =>"
        " [...row.cells].map((cell) => cell.textContent))"
    )
    expected = [
        [name, *cells[:6], change, *cells[6:]]  # beside the totals, whose difference it is
        for name, numbers, change in found.node_rows()
        for cells in [[number or "–" for number in numbers]]
    ]
    assert shown == expected
    assert page.texts(".failures li")[0] == " ".join(found.failure(found.failed_first[0]))
    assert page.width() <= 0
    page.click(".back a")
    page.wait_live()


def test_the_list_is_kept_up_to_date_and_the_focus_with_it(page, store):
    page.click("#check-pages-monday")
    page.press("j")
    page.run("document.getElementById('run-order-17').focus()")
    store.remove("odd")
    page.wait_text(".count", "4 runs")
    assert page.run("return document.activeElement.id") == "run-order-17"
    assert page.run("return document.getElementById('check-pages-monday').checked")
    assert [row[:4] for row in page.rows()] == expected_rows(store)


def test_the_age_grows_while_nothing_changes(page):
    now = page.run("return Math.max(...[...list.querySelectorAll('[data-began]')].map((cell) => cell.dataset.began))")
    for seconds in (59, 61, 3_601, 86_401, 1e8):
        page.run("Date.now = () => 1000 * arguments[0]; showSeconds()", now + seconds)
        assert page.rows()[0][5] == shown_age(seconds)


def test_the_list_says_what_is_wrong_until_it_is_not(page, store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "list", broken)
        page.wait_text("#live", "OSError: the disk is gone")
    page.wait_live()
    assert len(page.rows()) == 5


def test_a_list_that_is_refused_says_what_to_open(page):
    page.run("disconnect(); list.dataset.events = '/refused'; connect()")
    page.wait_text("#live", "Open the address that `railtracks ui` printed")
    assert "403" in str(page.errors())


def test_the_page_of_a_run_that_is_refused_says_what_to_open(page):
    page.click("#run-pages-monday")
    page.wait_text("#headline", "It completed")
    page.run("const { app } = window.railtracks; app.data.live.events = '/refused'; app.listen()")
    page.wait_text("[data-kind=connection]", "Open the address that `railtracks ui` printed.")
    assert "403" in str(page.errors())


def broken(*_):
    raise OSError("the disk is gone")


def test_a_page_that_nobody_sees_gives_its_connection_back(page, server):
    hide = (
        "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    for hidden in (True, False):
        page.run(hide, hidden)
        page.wait("return arguments[0] === (source === null)", hidden)


def test_the_keys_of_the_list_are_shown(page):
    is_open = "return document.getElementById('keys').open"
    assert page.run("return document.getElementById('search').placeholder").endswith("/")
    page.press("?")
    assert page.run(is_open)
    assert page.texts("#keys kbd") == ["j", "k", "Enter", "x", "c", "n", "p", "/", "?"]
    page.press("/", "\ue00c")  # Escape
    assert not page.run(is_open)
    page.click("#help")
    assert page.run(is_open)
    page.click("#keys button")
    assert not page.run(is_open)


# ---- a run

IS_RED = """
const {borderLeftColor} = getComputedStyle(document.querySelector(arguments[0]));
return ["rgb(194, 32, 44)", "rgb(255, 123, 123)"].includes(borderLeftColor);
"""


@pytest.fixture
def running(store):
    """A run that is running, in a thread of its own, until ``is_open`` is set."""
    is_open.clear()
    flow = rt.Flow("Nightly import", import_all, run_identifier="nightly", store=store, logging_setting="NONE")
    ended = []

    def run():
        try:
            ended.append(flow.invoke())
        except rt.exceptions.RunCancelledError as exc:
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    yield ended
    is_open.set()
    thread.join(20)


def test_a_run_is_watched_from_the_list_to_its_end(page, running, store):
    page.wait_text("#list tbody tr", "running")
    page.click("#run-nightly")
    page.wait_text("#headline", "running")
    assert page.texts("[data-action]") == ["Cancel"]
    page.wait("return document.querySelectorAll('#tree [role=treeitem]').length === 4")
    is_open.set()
    page.wait_text("#headline", "It completed.")
    assert page.texts("[data-action]") == []
    calls = page.run("return window.railtracks.app.model.calls.length")
    assert calls == len(load_run("nightly", store).records) == 8
    page.click(".list")
    page.wait_live()
    assert page.rows()[0][2] == "Completed"


def test_the_page_of_a_run_says_what_is_wrong_until_it_is_not(page, store, monkeypatch):
    page.click("#run-pages-monday")
    page.wait_text("#headline", "It completed")
    with monkeypatch.context() as patch:
        patch.setattr(store, "modified", broken)
        page.wait_text("[data-kind=connection]", "OSError: the disk is gone")
    page.wait("return !document.querySelector('[data-kind=connection]')")
    assert page.run("return window.railtracks.app.model.calls.length") == 13


def test_a_run_is_cancelled_by_its_button(page, running):
    from selenium.webdriver.common.action_chains import ActionChains

    page.wait_text("#list tbody tr", "running")
    page.press("j", "\ue007")
    page.wait("return document.querySelector('[data-action=cancel]')")
    page.click("[data-action=cancel]")
    assert page.text("[data-action=cancel]") == "Cancel this run?"
    assert page.width() <= 0
    page.run("document.activeElement.blur()")
    assert page.text("[data-action=cancel]") == "Cancel"
    ActionChains(page.driver).double_click(page.find("[data-action=cancel]")).perform()
    assert page.text("[data-action=cancel]") == "Cancel this run?"
    assert page.texts("[data-kind=action]") == []
    page.press("\ue007")  # Enter
    page.wait_text("#headline", "It was cancelled on request.")
    page.wait("return document.querySelector('[data-action=resume]')")
    page.wait("return !document.querySelector('[data-kind=action]')")  # what it said is done


def test_a_question_is_answered_in_the_page(page, store):
    page.click("#run-order-17")
    page.wait_text(".question", "May order A-17 be sent?")
    field = page.find(".question input")
    field.click()
    page.press(*"yes")
    assert page.run("return document.activeElement.value") == "yes"
    page.press("\ue007")
    page.wait_text("[data-kind=action]", "The answer is sent. Resume the run to go on.")
    page.wait("return !document.querySelector('.question')")
    page.wait_text("#headline", "It has its answer. Resume it to go on.")
    assert not page.run(IS_RED, "[data-kind=action]")
    assert rt.Flow("Orders", approve, store=store, logging_setting="NONE").resume("order-17") == "yes"
    page.wait_text("#headline", "It completed.")


def test_what_is_typed_survives_an_update(page, store):
    page.click("#run-order-17")
    page.wait("return document.querySelector('.question input')")
    page.run(
        "const app = window.railtracks.app, update = app.update.bind(app);"
        "window.updates = 0; app.update = (change) => { update(change); window.updates += 1; }"
    )
    page.find(".question input").click()
    page.press(*"no")
    rt.state.send("order-17", "something else", 1, store)
    page.wait("return window.updates > 0")
    page.press("t")
    assert page.run("return document.activeElement.value") == "not"


def test_resuming_that_fails_says_why(page, store):
    page.click("#run-pages-strict")
    page.wait("return document.querySelector('[data-action=resume]')")
    assert page.texts("[data-action]") == ["Resume"]  # to cancel it would hide why it failed
    page.click("[data-action=resume]")
    page.wait_text("[data-kind=notice]", "exit code")
    printed = page.text("[data-kind=notice] pre")
    assert "railtracks:" in printed or "LookupError" in printed
    assert page.run(IS_RED, "[data-kind=notice]")
    font = page.run("return getComputedStyle(document.querySelector('[data-kind=notice] pre')).fontFamily")
    assert font.endswith("monospace")


def test_an_action_that_came_too_late_is_refused_in_words(page, store):
    page.click("#run-order-17")
    page.wait("return document.querySelector('[data-action=cancel]')")
    cancel_run("order-17", store)
    page.wait("return !document.querySelector('[data-action=cancel]')")
    url = page.run("return location.pathname + '/cancel'")
    page.run("window.railtracks.app.act(arguments[0], {})", url)
    page.wait_text("[data-kind=action]", "so there is nothing to cancel")
    assert page.run(IS_RED, "[data-kind=action]")
    page.errors()  # the browser notes the refusal


# ---- pictures


@rt.function_node
async def download(page):
    await anyio.sleep(0.01 * (page % 5))
    if page % 7 == 3:
        raise LookupError(f"no page {page}")
    return page


@rt.function_node
async def download_all(count, strict=False):
    return len(await rt.call_batch(download, range(count), return_exceptions=not strict))


@rt.function_node
async def publish(count):
    pages = await rt.call_batch(download, range(count))
    missing = sum(isinstance(page, LookupError) for page in pages)
    return await rt.ask(f"{missing} of {count} pages are missing. Publish the others?")


PICTURES = {
    ("list", "desktop", "light"): "ui-list", ("list", "phone", "dark"): "ui-list-phone-dark",
    ("compare", "desktop", "light"): "ui-compare", ("run", "desktop", "dark"): "ui-run-dark",
}  # fmt: skip
"""The pictures in the documentation."""


@pytest.fixture
def store_of_pictures(tmp_path, monkeypatch):
    """A store with runs as they may be, at a path that is the same each time."""
    store = FileStore(tmp_path / ".railtracks")
    options: Any = {"store": store, "logging_setting": "NONE"}
    rt.Flow("Pages", download_all, run_identifier="pages-monday", **options).invoke(24)
    rt.Flow("Pages", download_all, run_identifier="pages-tuesday", **options).invoke(40)
    with pytest.raises(LookupError):
        rt.Flow("Pages", download_all, run_identifier="pages-strict", **options).invoke(12, strict=True)
    with pytest.raises(rt.exceptions.RunSuspended):
        rt.Flow("Orders", approve, run_identifier="order-17", **options).invoke("A-17")
    monkeypatch.setattr("railtracks.ui._app._place", lambda store: "/home/ada/shop/.railtracks")
    return store


class TestPictures:
    """The pages as the documentation shows them; ``WRITE_PICTURES=1`` writes the files."""

    @pytest.fixture
    def store(self, store_of_pictures):
        return store_of_pictures

    @pytest.fixture
    def running(self, store):
        flow = rt.Flow(
            "Nightly import", publish, run_identifier="nightly", store=store, logging_setting="NONE", suspend=False
        )

        def run():
            with pytest.raises(rt.exceptions.RunCancelledError):
                flow.invoke(24)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        cancel_run("nightly", store)
        thread.join(20)

    @pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "dark")])
    def test_each_page_fits_and_has_its_colours(self, visit, store, running, size, theme):
        visit.enter(size, theme)
        visit.wait_text("#list tbody tr", "running")
        visit.press("j", "j")
        background = visit.run("return getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(15, 19, 24)") == (theme == "dark")
        for name, address, selector in (
            ("list", "", "#list"), ("compare", "compare?run=pages-monday&run=pages-tuesday", ".side"),
            ("run", "runs/nightly", ".question input"),
        ):  # fmt: skip
            if address:
                visit.driver.get(f"{visit.origin}{address}")
            visit.wait("return Boolean(document.querySelector(arguments[0]))", selector)
            assert visit.width() <= 0
            if (name, size, theme) in PICTURES:
                visit.picture(PICTURES[name, size, theme])
