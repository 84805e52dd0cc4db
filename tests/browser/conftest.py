"""A real Chromium, and runs to look at in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.page._render import render_run

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
EVIL = "<script>window.wasRun = true</script><img src=x onerror='window.wasRun = true'>&amp;</script>"


class Browser:
    """Drives one window of Chromium.

    Args:
        driver: That of selenium.
        folder: Where pages are written.
    """

    def __init__(self, driver, folder):
        self.driver = driver
        self.run = driver.execute_script
        self._folder = folder

    def open(self, html, size="desktop", theme="light"):
        """Show a page in a window of a size, wait until it is drawn, and see that it has no errors."""
        self.write(html, size, theme)
        assert self.errors() == []

    def write(self, html, size="desktop", theme="light"):
        """Show a page in a window of a size, and wait until it is drawn."""
        self.resize(*SIZES.get(size, size))
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        path = self._folder / "page.html"
        path.write_bytes(html.encode())
        self.driver.get(path.as_uri())
        self.settle()

    def resize(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def settle(self):
        """Wait until what is to be drawn is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; let left = 4;"
            "const next = () => left-- ? requestAnimationFrame(next) : done(); next();"
        )

    def press(self, *keys):
        """Press keys, as at a keyboard: whatever has the focus gets them."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
        self.settle()

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
        self.settle()

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)

    def errors(self):
        """Return the errors of the page since the last time, such as exceptions and what its policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def picture(self, name, selector=None):
        """Write what the window or an element shows for the documentation, if WRITE_PICTURES is set."""
        if "WRITE_PICTURES" not in os.environ:
            return
        from io import BytesIO

        from PIL import Image

        PICTURES.mkdir(exist_ok=True)
        shot = self.driver.get_screenshot_as_png() if selector is None else self.find(selector).screenshot_as_png
        shown = Image.open(BytesIO(shot)).convert("RGB")
        shown.quantize(128).save(PICTURES / f"{name}.png", optimize=True)


@pytest.fixture(scope="session")
def driver():
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; on Debian: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars", "lang=en"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver, tmp_path):
    return Browser(driver, tmp_path)


@rt.function_node
async def fetch(page, note=""):
    await anyio.sleep(0.001 * (page % 5))
    if page % 7 == 3:
        raise LookupError(f"no page {page} {note}")
    return {"page": page, "text": note}


@rt.function_node
async def wait_for_ever():
    await anyio.sleep_forever()


@rt.function_node
async def read(count):
    await rt.call_batch(fetch, range(count))
    await rt.call(fetch, 1, note=EVIL)
    with anyio.move_on_after(0.02):
        await rt.call(wait_for_ever)
    await rt.call(fetch, 10, note=EVIL)


@pytest.fixture(scope="session")
def failed_run(tmp_path_factory):
    """A run that failed, with a batch, a call that was cancelled, and texts that look like markup."""
    store = f"file:{tmp_path_factory.mktemp('runs')}"
    flow = rt.Flow("Reading", read, run_identifier="reading", store=store, logging_setting="NONE")
    with pytest.raises(LookupError):
        flow.invoke(30)
    return rt.state.load_run("reading", store)


@pytest.fixture(params=SIZES)
def page(browser, failed_run, request):
    """A browser that shows the page of that run, at each size."""
    browser.open(render_run(failed_run), request.param)
    return browser
