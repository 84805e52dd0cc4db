"""How the page of a run shows texts that are longer than their places."""

import pytest

from railtracks.page._render import render_run
from railtracks.state._transitions import RTState
from tests.browser.conftest import SIZES
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
