"""How the page of a run shows texts that are longer than their places."""

import pytest

from railtracks.page._render import render_run
from railtracks.state import Status
from railtracks.state._transitions import RTState
from tests.browser.conftest import SIZES
from tests.browser.test_many_calls import many_calls
from tests.browser.test_page import snapshot

pytestmark = pytest.mark.browser

SETS = ["alpha", "beta"]
LONG = "lib/python3.11/site-packages/" + "a_module/" * 12


def calls_with_long_texts():
    """Return a run of calls with long arguments, of which some fail."""
    state, now = RTState(), 0.0
    top = state.created("catalogue", "Tool", (SETS,), {}, None, now)
    for number in range(3):
        record = state.created("simulate", "Tool", (number, 9.9, LONG), {"seed": LONG}, top, now)
        now += 0.1 + number
        if number:
            state.succeeded(record, None, now)
        else:
            state.failed(record, LookupError("short"), now)
    state.succeeded(top, None, now)
    return snapshot(state.snapshot())


CUT = """
const parts = [...document.querySelectorAll(arguments[0])].filter((each) => each.offsetWidth);
return parts.map((each) =>
  [each.textContent, each.scrollWidth > each.clientWidth, getComputedStyle(each).textOverflow]);
"""
ROOM = """
return [...document.querySelectorAll("#tree .what")].map((row) => {
  const parts = [...row.children].filter((each) => !each.classList.contains("hidden"));
  const left = row.getBoundingClientRect().right - parts.at(-1).getBoundingClientRect().right;
  return [left, parts.some((each) => each.scrollWidth > each.clientWidth + 1)];
});
"""
"""The room that is left in each row of the tree, and whether any of its texts is cut."""


@pytest.mark.parametrize("size", [*SIZES, (800, 800), (1900, 900)])
def test_names_stay_and_the_end_of_arguments_is_cut(browser, size):
    browser.open(render_run(calls_with_long_texts()), size)
    for selector in ("#tree .what b", ".bars .name", ".problems .name"):
        shown = browser.run(CUT, selector)
        assert shown
        assert {text for text, _, _ in shown} <= {"simulate", "catalogue"}
        assert not any(is_cut for _, is_cut, _ in shown)
    for selector in ("#tree .arguments", ".bars .arguments", ".problems .arguments"):
        shown = browser.run(CUT, selector)
        assert {how for _, _, how in shown} == {"ellipsis"}
        for text, is_cut, _ in shown:
            assert (text[0], text[-1]) == ("(", ")")
            assert not is_cut or size != (1900, 900) or LONG[:12] in text
    for left, is_cut in browser.run(ROOM):
        assert not is_cut or left < 8


LABELS = """
const {engine, slices} = railtracks.app.timeline, drawn = [], {ctx} = slices.renderEngine;
const fillText = ctx.fillText;
ctx.fillText = function(text, ...rest) { drawn.push(text); return fillText.call(this, text, ...rest); };
engine.render();
requestAnimationFrame(() => requestAnimationFrame(() => { delete ctx.fillText; arguments[0](drawn); }));
"""


@pytest.mark.parametrize("mode", ["time", "flame"])
@pytest.mark.parametrize("width", [320, 500, 800])
def test_a_label_of_a_slice_begins_with_the_name(browser, width, mode):
    browser.open(render_run(calls_with_long_texts()), (width, 800))
    browser.run("railtracks.app.timeline.setMode(arguments[0])", mode)
    drawn = [text for text in browser.driver.execute_async_script(LABELS) if not text.endswith((" s", " ms"))]
    assert 2 <= len(drawn) <= 3  # that of 0.1 s is too narrow
    if mode == "time":
        assert all(text.removesuffix("…").startswith(("simulate", "catalogue")) for text in drawn)
        assert any(text.endswith("…") for text in drawn)
        return
    assert {text.split()[0] for text in drawn} <= {"simulate", "catalogue"}


def test_the_rest_of_a_fold_is_shown_by_its_button(page):
    info = many_calls(1_000)
    page.open(render_run(info), (1280, 2_000))
    failed = len(info.failures)
    [button] = page.texts("#tree .row button")
    assert button == f"… {failed - 5} more failed"
    page.click("#tree .row button")
    assert len(page.texts("#tree .row.failed")) == failed
    assert page.texts("#tree .row button") == []
    assert len(page.texts("#tree .row.completed")) == 2  # the top, and the slowest
    page.run("railtracks.app.tree.closeAll(); railtracks.app.tree.openAll()")
    assert page.run("return railtracks.app.tree.rows.length") == len(info.records) + 1


def test_lists_say_what_they_leave_out(page, failed_run):
    failed = sum(record.status is Status.FAILED for record in failed_run.records)
    raised = page.run("return railtracks.app.model.run.failureCount")
    assert 0 < raised < failed
    assert page.text(".summary .note") == f"{raised} ({failed - raised} more passed it on)"
    page.open(render_run(many_calls(1_000)))
    path = page.run("return railtracks.app.model.run.path.length")
    assert path > 8
    assert f"… and {path - 8} more" in page.texts(".summary p")


def test_a_traceback_is_wrapped(page):
    page.press("f")
    assert page.run("const pre = document.querySelector('.traceback pre'); return pre.scrollWidth <= pre.clientWidth")
