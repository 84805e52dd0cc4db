"""The page of a run, driven by keyboard and mouse at two sizes."""

import pytest

from railtracks.page._render import render_run
from railtracks.state import Status
from railtracks.state._views._failures import failures_of
from railtracks.state._views._texts import shown_call
from tests.browser.conftest import SIZES
from tests.browser.test_many_calls import many_calls
from tests.browser.test_page import assert_timeline_is_that_of

pytestmark = pytest.mark.browser

# ---- the keyboard


def selected(page):
    return page.run("return railtracks.app.selected && railtracks.app.selected.index")


def test_f_goes_through_the_failures(page, failed_run):
    for record in failures_of(failed_run.records):
        page.press("f")
        assert selected(page) == record.index
        assert "Traceback" in page.text("#details .traceback")
        assert f"no page {record.args[0]}" in page.text("#details .error")
        assert page.run("return document.querySelector('#tree .selected').dataset.index") == str(record.index)
    page.press("F")
    assert selected(page) == failures_of(failed_run.records)[-2].index


IS_IN_SIGHT = """
const row = document.querySelector("#tree .row.selected"), {left, top, width, height} = row.getBoundingClientRect();
return [top + 1, top + height - 1].every((y) => row.contains(document.elementFromPoint(left + width / 3, y)));
"""


@pytest.mark.parametrize("size", [*SIZES, (1280, 400)])
def test_f_brings_the_call_into_sight(browser, size):
    info = many_calls(2_000)
    browser.open(render_run(info), size)
    browser.press("f")
    assert browser.run(IS_IN_SIGHT)
    browser.run("scrollTo(0, document.body.scrollHeight); railtracks.app.tree.openAll()")
    for key in "ffFFFFff":
        browser.press(key)
        assert browser.run(IS_IN_SIGHT)
    browser.run("scrollTo(0, 0)")
    browser.press("F")
    assert browser.run(IS_IN_SIGHT)


def test_search_finds_calls_and_enter_opens_the_first(page, failed_run):
    from selenium.webdriver.common.keys import Keys

    page.press("/", *"fetch(1", Keys.ENTER)
    found = [r.index for r in failed_run.records if shown_call(r, failed_run._redactor).startswith("fetch(1")]
    assert page.run("return [...railtracks.app.tree.wanted]") == found
    assert selected(page) == found[0]
    assert page.text(".calls .note") == f"{len(found)} calls of {len(failed_run.records)}"
    page.press(Keys.ESCAPE, Keys.ESCAPE)
    assert selected(page) is None
    assert page.run("return railtracks.app.tree.wanted") is None


def test_arrows_move_in_the_tree_and_open_and_close(page):
    from selenium.webdriver.common.keys import Keys

    page.run("railtracks.app.tree.box.focus()")
    whole = page.run("return railtracks.app.tree.rows.length")
    page.press(Keys.ARROW_DOWN)
    assert selected(page) == 0
    page.press(Keys.ARROW_LEFT)
    assert page.run("return railtracks.app.tree.rows.length") == 1
    assert page.run("return document.querySelector('#tree [role=treeitem]').getAttribute('aria-expanded')") == "false"
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page.run("return railtracks.app.tree.rows.length") == whole
    page.press(Keys.ARROW_RIGHT)  # the fold
    assert page.run("return railtracks.app.tree.rows.length") > whole
    page.press(Keys.END, Keys.ENTER)
    active = page.run("return document.getElementById('tree').getAttribute('aria-activedescendant')")
    assert page.run("return document.getElementById(arguments[0]).classList.contains('selected')", active)


def test_question_mark_shows_the_keys_and_escape_closes(page):
    from selenium.webdriver.common.keys import Keys

    page.press("?")
    assert page.run("return document.querySelector('dialog').open")
    page.press(Keys.ESCAPE)
    assert not page.run("return document.querySelector('dialog').open")


VIEW = "const {engine} = railtracks.app.timeline; return [engine.positionX, engine.positionX + engine.getRealView()]"


@pytest.mark.parametrize("size", SIZES)
def test_z_and_the_zoom_keys_change_what_the_timeline_shows(browser, size):
    info = many_calls(500)
    browser.open(render_run(info), size)
    whole = browser.run(VIEW)
    browser.press("F")
    call = info.records[selected(browser)]
    assert call is info.failures[-1]
    browser.press("z")
    start, end = browser.run(VIEW)
    assert start <= 1e3 * call.started < 1e3 * call.ended <= end + 1e-3
    assert end - start < (whole[1] - whole[0]) / 2
    browser.press("+")
    assert browser.run(VIEW)[1] - browser.run(VIEW)[0] == pytest.approx((end - start) / 2)
    browser.press("0")
    assert browser.run(VIEW) == pytest.approx(whole)


# ---- the mouse

POINT = """
const {timeline, model} = railtracks.app, node = timeline.nodes.get(arguments[0]);
const {x, y, w} = timeline.slices.calcRect(node.source.start, node.source.duration, node.level);
timeline.canvas.scrollIntoView({block: "center"});
const box = timeline.canvas.getBoundingClientRect();
return [box.x + x + w / 2, box.y + timeline.slices.renderEngine.position + y + 8].map(Math.round);
"""


def test_a_click_in_the_timeline_opens_a_call(page, failed_run):
    from selenium.webdriver.common.action_chains import ActionChains

    [call] = [record for record in failed_run.records if record.status is Status.CANCELLED]
    x, y = page.run(POINT, call.index)
    actions = ActionChains(page.driver)
    actions.w3c_actions.pointer_action.move_to_location(x, y)
    actions.perform()
    page.settle()
    assert page.text(".tip").startswith("wait_for_ever()Cancelled (outside)")
    ActionChains(page.driver).click().perform()
    page.settle()
    assert selected(page) == call.index
    assert "wait_for_ever()" in page.text("#details h3")
    page.click("#details .close")
    assert selected(page) is None


def test_clicks_in_lists_and_tree_open_calls(page, failed_run):
    page.click(".problems .call-link")
    assert selected(page) == failures_of(failed_run.records)[0].index
    page.click("#details .close")
    page.click('#tree [data-index="0"] .what')
    assert selected(page) == 0
    page.click("#details .close")
    rows = page.run("return railtracks.app.tree.rows.length")
    page.click("#tree .fold")
    assert page.run("return railtracks.app.tree.rows.length") > rows


def test_the_flame_graph_adds_up_the_time_of_each_node(page, failed_run):
    page.click("[data-mode=flame]")
    [top] = page.run(
        "return railtracks.app.model.flame().map(({name, calls, children}) => [name, calls, children.length])"
    )
    assert top == ["read", 1, 2]
    assert page.run("return railtracks.app.timeline.slices.data.nodes.map(({source}) => source.name)")[0] == "read × 1"
    page.click("[data-mode=time]")
    assert_timeline_is_that_of(page, failed_run)


def pointer_at(page, index):
    """Return actions that begin with the mouse over the slice of a call."""
    from selenium.webdriver.common.action_chains import ActionChains

    actions = ActionChains(page.driver, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(*page.run(POINT, index))
    actions.w3c_actions.key_action.pause()
    return actions


def test_ctrl_and_the_wheel_zoom_and_a_drag_moves(page, failed_run):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    whole = page.run(VIEW)
    pointer_at(page, 0).perform()
    canvas = ScrollOrigin.from_element(page.find("#timeline-canvas"))
    ActionChains(page.driver).key_down(Keys.CONTROL).perform()
    ActionChains(page.driver).scroll_from_origin(canvas, 0, -500).perform()
    ActionChains(page.driver).key_up(Keys.CONTROL).perform()
    page.settle()
    start, end = page.run(VIEW)
    assert end - start < 0.7 * (whole[1] - whole[0])
    pointer_at(page, 0).click_and_hold().move_by_offset(-40, 0).release().perform()
    page.settle()
    assert page.run(VIEW)[0] > start
    assert selected(page) is None  # a drag is not a click


def test_the_wheel_alone_scrolls_the_page(browser, failed_run):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    browser.open(render_run(failed_run), (1280, 400))
    whole = browser.run(VIEW)
    pointer_at(browser, 0).perform()
    before = browser.run("return scrollY")
    canvas = ScrollOrigin.from_element(browser.find("#timeline-canvas"))
    for _ in range(3):
        ActionChains(browser.driver).scroll_from_origin(canvas, 0, -50).perform()
    browser.settle()
    assert browser.run("return scrollY") < before
    assert browser.run(VIEW) == whole


def test_the_ends_of_the_strip_zoom(page):
    from selenium.webdriver.common.action_chains import ActionChains

    whole = page.run(VIEW)
    page.run("railtracks.app.timeline.canvas.scrollIntoView({block: 'center'})")
    x, y, width = page.run(
        "const box = railtracks.app.timeline.canvas.getBoundingClientRect();"
        "return [box.x, box.y, box.width].map(Math.round)"
    )
    actions = ActionChains(page.driver, duration=50)
    actions.w3c_actions.pointer_action.move_to_location(x + width - 2, y + 8)
    actions.click_and_hold().move_by_offset(-width // 2, 0).release().perform()
    page.settle()
    start, end = page.run(VIEW)
    assert start == pytest.approx(whole[0])
    assert end == pytest.approx((whole[0] + whole[1]) / 2, rel=0.05)
