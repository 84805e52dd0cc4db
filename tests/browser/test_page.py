"""The page of a run in a real browser, compared with the ExecutionInfo that it was made of."""

import math
import re

import attrs
import pytest
from hypothesis import HealthCheck, given, settings

import railtracks as rt
from railtracks.page._data import page_data
from railtracks.page._log import read_log
from railtracks.page._render import render_run
from railtracks.state import Status
from railtracks.state._transitions import RTState
from railtracks.state._views._failures import failures_of
from railtracks.state._views._texts import shown_call, shown_seconds
from tests.browser.conftest import EVIL, SIZES
from tests.state.test_views import trees

pytestmark = pytest.mark.browser

ROWS = """
return [...document.querySelectorAll("#tree [role=treeitem]")].map((row) => {
  const part = (selector) => row.querySelector(selector)?.textContent ?? "";
  const level = Number(row.getAttribute("aria-level"));
  if (!part("b")) return [level, part(".what")];
  if (!row.dataset.index) return [level, part(".what")];
  const own = part(".own"), time = part(".time").slice(own.length);
  const shown = [part("b") + part(".arguments"), part(".status")];
  if (time) shown.push(own ? `${time} (${own})` : time);
  if (part(".error")) shown.push(part(".error"));
  if (part(".note")) shown.push("(slowest)");
  return [level, shown.join("  ")];
});
"""
"""What the rows of the tree say, in the words of ``info.tree()``, each with its depth."""


def expected_rows(info):
    lines = list(info._tree_lines(math.inf))[1:]
    return [[len(line.indent) // 3, line.text] for line in lines]


def without_times(text):
    """Return a row without durations: a page knows them to a tenth of a microsecond."""
    return re.sub(r"\d+(\.\d+)? (µs|ms|s)\b", "TIME", text)


def snapshot(records):
    ended = max((record.ended or record.started for record in records), default=0.0)
    return rt.ExecutionInfo(session_id="s", records=tuple(records), start_time=0.0, end_time=ended)


# ---- what it shows


def test_the_top_says_how_it_ended_and_why(page, failed_run):
    summary = failed_run.summary()
    assert page.text("#headline") == f"It failed: LookupError: no page 10 {EVIL}"[: len(page.text("#headline"))]
    facts = dict(zip(page.texts(".head dt"), page.texts(".head dd"), strict=True))
    assert facts["took"] == shown_seconds(summary.seconds)
    assert facts["calls"].startswith(f"{len(failed_run.records)}: ")
    for status, number in summary.calls.items():
        assert f"{number} {status.value.lower()}" in facts["calls"]
    failed, cancelled = page.texts(".problems")[:2]
    for record in failures_of(failed_run.records):
        assert f"{shown_call(record, failed_run._redactor)}LookupError: no page {record.args[0]}" in failed
    assert "wait_for_ever()Cancelled (outside). The code around it cancelled it" in cancelled
    rows = [row.split() for row in page.texts(".summary tbody th")]
    assert rows == [[node.name] for node in summary.nodes]


def test_the_tree_is_that_of_the_execution_info(browser, failed_run):
    browser.open(render_run(failed_run), (1280, 3000))
    shown, expected = (
        [[level, without_times(text)] for level, text in rows]
        for rows in (browser.run(ROWS), expected_rows(failed_run))
    )
    assert shown == expected


@given(records=trees())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_run_is_shown_as_the_execution_info_has_it(browser, records):
    info = snapshot(records)
    browser.open(render_run(info), (1280, 4000))
    assert browser.run(ROWS) == expected_rows(info)
    assert_timeline_is_that_of(browser, info)


def assert_timeline_is_that_of(browser, info):
    slices = browser.run(
        "return [...railtracks.app.timeline.nodes.values()].map(({level, end, source}) => [source.call.index, level, "
        "source.start, end]).sort((a, b) => a[0] - b[0])"
    )
    origin = info.start_time
    latest = max((record.ended or record.started for record in info.records), default=0.0)
    assert [each[0] for each in slices] == [record.index for record in info.records]
    rows = {}
    for (index, row, start, end), record in zip(slices, info.records, strict=True):
        assert start == pytest.approx(1e3 * (record.started - origin), abs=2e-3)
        assert end == pytest.approx(1e3 * ((record.ended or latest) - origin), abs=2e-3)
        for other, stop in rows.setdefault(row, []):
            assert end <= other or stop <= start, (index, "overlaps another call in its row")
        rows[row].append((start, end))
    assert sorted(rows) == list(range(len(rows)))


def test_the_timeline_is_that_of_the_execution_info(page, failed_run):
    assert_timeline_is_that_of(page, failed_run)
    path = [step.record.index for step in failed_run.summary().critical_path if step.seconds]
    assert (
        page.run("return railtracks.app.timeline.slices.data.marks.path.map((node) => node.source.call.index)") == path
    )


def test_what_values_say_is_text_everywhere(page, failed_run):
    for record in failed_run.records:
        page.run("railtracks.app.select(railtracks.app.model.get(arguments[0]))", record.index)
        if record.kwargs.get("note") == EVIL:
            assert EVIL in page.text("#details")
    page.run("railtracks.app.tree.openAll(); railtracks.app.timeline.setMode('flame')")
    page.settle()
    assert page.run("return window.wasRun") is None
    assert page.run("return document.querySelectorAll('script, img').length") == 3  # its own
    assert page.errors() == []


def test_the_page_asks_nothing_of_the_network(page):
    assert page.run("return performance.getEntriesByType('resource').map((each) => each.name)") == []
    refused = page.driver.execute_async_script(
        "fetch('http://127.0.0.1:1/').then(() => arguments[0](''), (error) => arguments[0](error.message))"
    )
    assert refused == "Failed to fetch"
    assert "Content Security Policy" in page.errors()[0]


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


def test_z_and_the_zoom_keys_change_what_the_timeline_shows(page, failed_run):
    whole = page.run(VIEW)
    call = min(failures_of(failed_run.records), key=lambda record: (record.ended or 0.0) - record.started)
    page.run("railtracks.app.select(railtracks.app.model.get(arguments[0]))", call.index)
    page.press("z")
    start, end = page.run(VIEW)
    assert (
        start <= 1e3 * (call.started - failed_run.start_time) < 1e3 * (call.ended - failed_run.start_time) <= end + 1e-3
    )
    assert end - start < (whole[1] - whole[0]) / 2
    page.press("+")
    assert page.run(VIEW)[1] - page.run(VIEW)[0] == pytest.approx((end - start) / 2)
    page.press("0")
    assert page.run(VIEW) == pytest.approx(whole)


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
    assert selected(page) is None  # a drag is no click


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


def test_the_details_have_the_lines_of_the_log(browser, failed_run, tmp_path):
    record = failures_of(failed_run.records)[0]
    line = f"2026-01-01 10:00:00 reading-n{record.index} [+0.1 s] RT: WARNING - fetch(3) FAILED {EVIL}"
    (tmp_path / "run.log").write_text(f"{line}\n  more\n2026-01-01 10:00:01 reading the end\n")
    browser.open(render_run(failed_run, log=read_log(tmp_path / "run.log", failed_run)))
    browser.press("f")
    assert browser.text("#details .log pre") == f"{line}\n  more"
    browser.press("f")
    assert browser.text("#details .log p") == "No line of the log is about this call."
    assert "3 lines of the log run.log are about this run, 2 of them about single calls." in browser.text("footer")


# ---- light and dark, paper, and what comes later


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_light_or_dark_as_the_system_is(browser, failed_run, theme):
    browser.open(render_run(failed_run), "desktop", theme)
    colours = []
    for _ in range(2):
        background, canvas = browser.run(
            "const {canvas} = railtracks.app.timeline, ratio = canvas.width / canvas.clientWidth;"
            "const data = canvas.getContext('2d').getImageData(canvas.width - 2, canvas.height - 2, 1, 1).data;"
            "return [getComputedStyle(document.body).backgroundColor, [...data]]"
        )
        colours.append(sum(canvas[:3]) < 200)
        assert (background == "rgb(15, 19, 24)") == colours[-1]
        browser.press("t")
    assert colours == ([True, False] if theme == "dark" else [False, True])


def test_paper_has_the_summary_and_the_tree_without_controls(page, failed_run):
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.settle()
    shown = page.run("return [...document.querySelectorAll('.print-tree .row')].map((row) => row.offsetHeight > 0)")
    assert shown == [True] * (len(expected_rows(failed_run)))
    hidden = page.run(
        "return [...document.querySelectorAll('.tools, .timeline, #tree, .zoom')].map((each) => each.offsetHeight)"
    )
    assert set(hidden) == {0}
    assert page.run("return document.querySelector('.problems').offsetHeight") > 0


@given(records=trees())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_update_makes_the_page_that_of_the_later_run(browser, records):
    step = len(records)
    early = RTState()
    for record in records:
        if record.started_step <= step:
            early.created(record.name, "Tool", record.args, {}, early_parent(early, record), record.started)
    before, after = snapshot(early.snapshot()), snapshot(records)
    browser.open(render_run(before), (1280, 4000))
    browser.run("railtracks.update(arguments[0])", page_data(after))
    browser.settle()
    assert browser.run(ROWS) == expected_rows(after)
    assert_timeline_is_that_of(browser, after)


def early_parent(state, record):
    return None if record.parent is None else state.snapshot()[record.parent]


# ---- many calls


def many_calls(count):
    """Return a run with calls that run 50 at a time, of which some fail."""
    state, now = RTState(), 0.0
    top = state.created("all_pages", "Tool", (count,), {}, None, now)
    while len(state.snapshot()) < count:
        batch = [state.created("fetch", "Tool", (number,), {}, top, now + number / 1e4) for number in range(50)]
        for number, record in enumerate(batch):
            now += 0.001
            if number == 7:
                state.failed(record, LookupError(f"no page {number}"), now)
            else:
                state.succeeded(record, "text", now)
    state.succeeded(top, None, now)
    return attrs.evolve(snapshot(state.snapshot()), session_id="many")


@pytest.mark.parametrize("size", SIZES)
def test_10_000_calls_are_open_within_two_seconds(browser, size):
    browser.open(render_run(many_calls(10_000)), size)
    assert browser.run("return performance.getEntriesByType('mark')[0].startTime") < 2_000
    assert browser.run("return document.querySelectorAll('*').length") < 3_000


def test_100_000_calls_can_be_used(browser):
    """It opens in one to two seconds, and each step takes up to half of one; the limits are for a busy machine."""
    browser.open(render_run(many_calls(100_000)))
    assert browser.run("return performance.getEntriesByType('mark')[0].startTime") < 10_000
    times = browser.driver.execute_async_script(STEPS)
    assert {step: took for step, took in times.items() if took > 3_000} == {}
    assert browser.run("return document.querySelectorAll('*').length") < 3_000
    assert browser.errors() == []


STEPS = """
const done = arguments[0], {app} = railtracks, times = {};
const steps = {
  failure: () => app.nextFailure(1), search: () => app.searchFor("fetch(7)"), all: () => app.searchFor(""),
  open: () => app.tree.openAll(), end: () => app.tree.moveTo(app.tree.rows.length - 1),
  zoom: () => app.timeline.zoomBy(4),
  theme: () => app.toggleTheme(), flame: () => app.timeline.setMode("flame"), time: () => app.timeline.setMode("time"),
  update: () => app.update({calls: []}),
};
const frame = () => new Promise(requestAnimationFrame);
(async () => {
  for (const [name, step] of Object.entries(steps)) {
    const began = performance.now();
    step();
    await frame();
    await frame();
    times[name] = performance.now() - began;
  }
  done(times);
})();
"""
"""What somebody does on the page, each timed in milliseconds until it is drawn."""
