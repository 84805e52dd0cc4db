"""The built site in a real browser, opened from its folder: ``python -m nox -s docs browser`` builds it first."""

from pathlib import Path

import pytest

from tests.browser.conftest import SIZES

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if path.name != "404.html")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PAGES, reason="the site is not built: python -m nox -s docs"),
]

BROKEN = """
return [...document.images].filter((each) => each.complete && !each.naturalWidth).map((each) => each.src)
"""
FROM_ELSEWHERE = """
return performance.getEntriesByType("resource").map((each) => each.name).filter((name) => !name.startsWith("file:"))
"""
FOUND = """
const roots = [...document.querySelectorAll("*")].map((each) => each.shadowRoot).filter((root) => root);
return roots.flatMap((root) => [...root.querySelectorAll("a")].map((each) => each.href));
"""
BRIGHTNESS = """
const parts = (color) => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
const style = getComputedStyle(document.body);
return [parts(style.backgroundColor), parts(getComputedStyle(document.querySelector("h1")).color)];
"""


def show(browser, page, theme="light"):
    browser.resize(*SIZES["desktop"])
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.driver.get((SITE / page).as_uri())
    browser.settle()


def test_no_page_is_wider_than_the_window_or_lacks_anything(browser):
    wrong = {}
    for page in PAGES:
        show(browser, page)
        found = [*browser.run(BROKEN), *browser.run(FROM_ELSEWHERE), *browser.errors()]
        for size in SIZES:
            browser.resize(*SIZES[size])
            if browser.run("return document.documentElement.scrollWidth > window.innerWidth"):
                found.append(f"too wide: {size}")
        if found:
            wrong[page] = found
    assert wrong == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_site_follows_the_theme_of_the_reader(browser, theme):
    show(browser, "concepts.html", theme)
    background, text = browser.run(BRIGHTNESS)
    assert (background > text + 100) == (theme == "light")
    assert (text > background + 100) == (theme == "dark")


def test_the_search_works_without_a_server(browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, "index.html")
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    browser.settle()
    ActionChains(browser.driver).send_keys("GlobalTimeOutError").perform()
    WebDriverWait(browser.driver, 60).until(lambda _: browser.run(FOUND))
    assert "reference/exceptions.html" in browser.run(FOUND)[0]
    assert browser.errors() == []
