"""The page of a run in a real browser, compared with the ExecutionInfo that it was made of."""

import math
import re
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import HealthCheck, given, settings

import railtracks as rt
from railtracks.page._data import page_data
from railtracks.page._log import read_log
from railtracks.page._render import render_run
from railtracks.state._records import is_reused
from railtracks.state._transitions import RTState
from railtracks.state._views._failures import failures_of
from railtracks.state._views._texts import shown_call, shown_seconds
from railtracks.state._views._times import own_seconds
from tests.browser.conftest import EVIL, fetch
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


REST = r"^… and ([\d,]+) more call.*"
"""The line of ``info.tree()`` for calls that are left out; the page has a button."""


def shown_rows(browser):
    return [[level, re.sub(r"^(… [\d,]+ more) .*", r"\1", text)] for level, text in browser.run(ROWS)]


def expected_rows(info):
    lines = list(info._tree_lines(math.inf))[1:]
    return [[len(line.indent) // 3, re.sub(REST, r"… \1 more", line.text)] for line in lines]


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
        for rows in (shown_rows(browser), expected_rows(failed_run))
    )
    assert shown == expected


@given(records=trees())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_run_is_shown_as_the_execution_info_has_it(browser, records):
    info = snapshot(records)
    browser.open(render_run(info), (1280, 4000))
    assert shown_rows(browser) == expected_rows(info)
    assert_timeline_is_that_of(browser, info)


def test_a_fold_counts_calls_with_a_failure_below(browser):
    state = RTState()
    top = state.created("top", "Tool", (), {}, None, 0.0)
    for number in range(14):
        call = state.created("fetch", "Tool", (number,), {}, top, 0.0)
        if number % 2:
            state.failed(state.created("part", "Tool", (), {}, call, 0.0), LookupError("no"), 1.0)
        state.succeeded(call, None, 1.0 + number)
    state.succeeded(top, None, 20.0)
    info = snapshot(state.snapshot())
    browser.open(render_run(info), (1280, 4000))
    assert shown_rows(browser) == expected_rows(info)
    assert "14 ok (7 with a call below that did not complete)" in browser.text("#tree")


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


def test_the_details_have_the_lines_of_the_log(browser, failed_run, tmp_path):
    record = failures_of(failed_run.records)[0]
    assert record.ended is not None
    date = datetime.fromtimestamp(record.ended, UTC).isoformat(" ")
    line = f"{date} reading/n{record.index} [+0.1  s] RT: WARNING - fetch(3) FAILED {EVIL}"
    (tmp_path / "run.log").write_text(f"{line}\n  more\n{date} reading the end\n")
    browser.open(render_run(failed_run, log=read_log(tmp_path / "run.log", failed_run)))
    browser.press("f")
    assert browser.text("#details .log pre") == f"{line}\n  more"
    browser.press("f")
    assert browser.text("#details .log p") == "No line of the log is about this call."
    assert "3 lines of the log run.log are about this run, 2 of them about single calls." in browser.text("footer")


# ---- a run that was resumed


is_ready: list[bool] = []


@rt.function_node
async def load(number):
    await anyio.sleep(0 if is_ready else 0.2)
    return number


@rt.function_node
async def part(number):
    return await rt.call(load, number)


@rt.function_node
async def gather():
    await rt.call_batch(part, range(3))
    await rt.call(fetch, 1 if is_ready else 3)


@pytest.fixture
def resumed_run(tmp_path):
    """A run whose calls of ``part`` and ``load`` were reused."""
    flow = rt.Flow("Parts", gather, run_identifier="parts", store=f"file:{tmp_path}", logging_setting="NONE")
    is_ready.clear()
    with pytest.raises(LookupError):
        flow.invoke()
    is_ready.append(True)
    flow.resume("parts")
    return rt.state.load_run("parts", f"file:{tmp_path}")


def test_the_times_of_reused_calls_do_not_count(browser, resumed_run):
    ran = [record for record in resumed_run.records if not is_reused(record)]
    assert [record.name for record in ran] == ["gather", "fetch"]
    summary = resumed_run.summary()
    assert {step.record.name for step in summary.critical_path} == {"gather", "fetch"}
    assert summary.max_concurrency == 1
    assert {node.name: node.total for node in summary.nodes if node.name in ("part", "load")} == {"part": 0, "load": 0}
    took = [record.ended - record.started for record in ran]
    assert own_seconds(ran[0], resumed_run.records[1:]) == pytest.approx(took[0] - took[1])
    browser.open(render_run(resumed_run))
    facts = dict(zip(browser.texts(".head dt"), browser.texts(".head dd"), strict=True))
    assert facts["reused"] == "6, whose times do not count"
    for selector in (".bars:first-of-type .call-link", ".bars .call-link"):
        assert {text.partition("(")[0] for text in browser.texts(selector)} == {"gather", "fetch"}
    assert browser.run("return [...railtracks.app.timeline.nodes.keys()]") == [record.index for record in ran]
    assert browser.run("return Math.max(...railtracks.app.model.concurrency(100).map(([, number]) => number))") == 1
    browser.run("railtracks.app.select(railtracks.app.model.get(1)); railtracks.app.timeline.setMode('flame')")
    assert ", in an earlier attempt" in browser.text("#details .facts")
    assert browser.errors() == []


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
    assert shown_rows(browser) == expected_rows(after)
    assert_timeline_is_that_of(browser, after)


def early_parent(state, record):
    return None if record.parent is None else state.snapshot()[record.parent]
