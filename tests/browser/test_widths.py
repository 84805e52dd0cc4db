"""The page of a run at any width, and without its timeline."""

import pytest

from railtracks.page import _render
from railtracks.page._render import render_run
from tests.browser.conftest import SIZES

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [320, 375, 393, 500, 501, 760, 800, 1000, 1001])
def test_the_page_starts_at_any_width(browser, failed_run, width):
    browser.open(render_run(failed_run), (width, 800))
    browser.press("f")
    assert browser.run("return railtracks.app.selected.status") == "Failed"
    browser.resize(width + 1, 800)
    browser.settle()
    browser.press("t")
    assert browser.run("return railtracks.app.timeline.minimap.timeseries[0].points.length") > 50
    assert browser.errors() == []
    assert browser.texts(".timeline .warning") == []
    assert browser.run("return document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("width", [1001, 1280])
def test_the_page_starts_with_details_open(browser, failed_run, width):
    browser.open(render_run(failed_run), (width, 800))
    browser.press("f")
    for each in range(width, width + 4):
        browser.resize(each, 800)
        browser.settle()
    assert browser.errors() == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_timeline_that_fails_leaves_the_rest(browser, failed_run, size, when, monkeypatch):
    script = _render._script()
    if when == "at once":
        broken = script.replace("this.slices = new Slices", "throw new RangeError('no room'); this.slices = new Slices")
        monkeypatch.setattr(_render, "_script", lambda: broken)
    browser.write(_render.render_run(failed_run), size)
    if when == "later":
        browser.run(
            "railtracks.app.timeline.marks = () => { throw new RangeError('no room'); };"
            "railtracks.app.select(railtracks.app.model.get(0))"
        )
    assert "RangeError: no room" in browser.errors()[0]
    assert browser.text(".timeline .warning").startswith("The timeline cannot be drawn: RangeError: no room.")
    browser.press("f", "z", "+", "-", "0", "t")
    browser.press("/", *"fetch")
    assert "calls of" in browser.text(".calls .note")
    browser.run("railtracks.update({})")
    assert browser.errors() == []


def test_the_strip_of_a_running_run_ends_at_the_base_line(browser, failed_run):
    browser.open(render_run(failed_run), (800, 800))
    browser.run("for (const call of railtracks.app.model.calls) call.end = null; railtracks.app.timeline.setMinimap()")
    points = browser.run("return railtracks.app.timeline.minimap.timeseries[0].points")
    assert points[-2][1] > 0
    assert [points[0][1], points[-1][1]] == [0, 0]
    assert [points[0][0], points[-1][0]] == [points[1][0], points[-2][0]]
