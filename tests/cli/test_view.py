"""``railtracks view``: the page of a run, as text. What a browser makes of it is in tests/browser."""

import base64
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.page import _render
from railtracks.page._data import COLUMNS, MAX_TEXT, page_data
from railtracks.page._log import read_log
from railtracks.page._render import as_script_data, render_run
from railtracks.state import CallRecord, load_run
from railtracks.state._transitions import RTState
from tests.state.test_views import trees


class Page(HTMLParser):
    """The elements of a page, and the texts in its scripts and its title."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.texts, self.attributes = [], [], [], []
        self.is_in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self.is_in_script = tag == "script"
        if self.is_in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.is_in_script = False

    def handle_data(self, data):
        if self.is_in_script:
            self.scripts[-1] += data
        self.texts.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[0])


TAGS = [
    "html", "head", "meta", "meta", "meta", "meta", "title", "link", "style",
    "body", "noscript", "p", "pre", "main", "script", "script", "script",
]  # fmt: skip


@pytest.fixture
def info(command, program):
    command("run", f"{program}:pages", 12, "--run-identifier", "pages")
    return load_run("pages")


# ---- the command


def test_view_writes_a_file_that_only_its_owner_can_read(command, info, tmp_path):
    code, out, err = command("view", "pages", "--output", tmp_path / "page.html")
    assert (code, out, err) == (0, f"{tmp_path / 'page.html'}\n", "")
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
    assert Page((tmp_path / "page.html").read_text()).data["run"]["id"] == "pages"


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such permissions")
@pytest.mark.parametrize("is_link", [False, True])
def test_a_page_in_place_of_a_file_is_for_its_owner_only(command, info, tmp_path, is_link):
    path, written = tmp_path / "page.html", tmp_path / ("target.html" if is_link else "page.html")
    written.write_text("before")
    written.chmod(0o666)
    if is_link:
        path.symlink_to(written)
    with written.open() as reader:
        assert command("view", "pages", "--output", path)[0] == 0
        assert reader.read() == "before"
    assert written.stat().st_mode & 0o777 == 0o600
    assert path.is_symlink() == is_link
    assert Page(path.read_text()).data["run"]["id"] == "pages"
    assert {each.name for each in tmp_path.iterdir() if each.suffix in (".html", ".tmp")} == {path.name, written.name}


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="other systems have no such files")
def test_view_writes_to_what_is_not_a_regular_file(command, info):
    reading, writing = os.pipe()
    with ThreadPoolExecutor() as threads, os.fdopen(reading, "rb") as reader:
        read = threads.submit(reader.read)
        assert command("view", "pages", "--output", f"/dev/fd/{writing}")[0] == 0
        os.close(writing)
        assert Page(read.result().decode()).data["run"]["id"] == "pages"


def test_view_opens_a_temporary_file(command, info, monkeypatch):
    opened = []

    def note(address):
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    code, out, err = command("view", "pages")
    path = Path(out.strip())
    assert (code, err, opened) == (0, "", [path.as_uri()])
    assert Page(path.read_text()).tags == TAGS
    path.unlink()


def test_view_without_a_browser_says_so(command, info, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    code, out, err = command("view", "pages")
    assert (code, err) == (0, "No browser can be started; open the file yourself.\n")
    Path(out.strip()).unlink()


def test_view_opens_nothing_if_told_so(command, info, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("it was opened"))
    _, out, _ = command("view", "pages", "--no-open")
    Path(out.strip()).unlink()


def test_view_opens_the_file_that_it_has_written_if_told_so(command, info, monkeypatch, tmp_path):
    opened = []

    def note(address):
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    path = tmp_path / "page.html"
    assert command("view", "pages", "--output", path) == (0, f"{path}\n", "")
    assert opened == []
    assert command("view", "pages", "--output", path, "--open") == (0, f"{path}\n", "")
    assert opened == [path.as_uri()]
    assert command("view", "pages", "--output", path, "--no-open") == (0, f"{path}\n", "")
    assert opened == [path.as_uri()]


def test_view_prints_the_page(command, info):
    process = subprocess.run(["python", "-m", "railtracks", "view", "pages", "--output", "-"], capture_output=True)
    assert (process.returncode, process.stderr) == (0, b"")
    assert Page(process.stdout.decode()).data["run"]["id"] == "pages"


MISTAKES = {
    "railtracks: --output no/folder: No such file or directory\n": ["pages", "--output", "no/folder"],
    "railtracks: --open: what goes to standard output is not opened; write --output FILE\n": [
        "pages", "--output", "-", "--open",
    ],
    "railtracks: --log no.log: No such file or directory\n": ["pages", "--log", "no.log", "--no-open"],
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line(command, info, text):
    assert command("view", *MISTAKES[text]) == (2, "", text)


# ---- what is in it


@given(trees())
def test_a_page_has_a_row_for_each_call(records):
    info = rt.ExecutionInfo(session_id="s", records=tuple(records), start_time=0.0)
    page = Page(render_run(info))
    assert page.tags == TAGS
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in page.data["calls"]]
    assert [row["index"] for row in rows] == [record.index for record in records]
    for row, record in zip(rows, records, strict=True):
        assert row["parent"] == record.parent
        assert page.data["statuses"][row["status"]] == record.status.value
        assert row["started"] == round(record.started * 1e3, 4)
        assert (row["ended"] is None) == (record.ended is None)
        assert (row["error"] is None) == (record.exception is None)


@given(trees(), st.integers(0, 160))
def test_rows_since_a_step_complete_the_earlier_rows(records, step):
    info = rt.ExecutionInfo(session_id="s", records=tuple(records), start_time=0.0)
    changed = {row[0] for row in page_data(info, since=step)["calls"]}
    assert changed == {r.index for r in records if max(r.started_step, r.ended_step or 0) > step}
    assert page_data(info, since=page_data(info)["run"]["step"])["calls"] == []


MARKUP = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</script><b>",
        "<!--<script>",
        "]]>",
        "\u2028",
        "\ud800",
        "&lt;",
        "' onload='",
        "</pre>",
    ]
)
TEXTS = st.lists(MARKUP | st.text(max_size=20), max_size=4).map("".join)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_text_is_data_and_never_markup(name, argument, message, title):
    state = RTState()
    record = state.created(name, "Tool", (argument,), {"key": argument}, None, 0.0)
    state.failed(record, ValueError(message), 1.0)
    other = state.created(name, "Tool", (), {}, None, 0.0)
    state.succeeded(other, {argument: message}, 1.0)
    info = rt.ExecutionInfo(
        session_id="s", session_name=title, flow_name=title, records=state.snapshot(), start_time=0.0
    )
    page = Page(render_run(info).encode("utf-8", "backslashreplace").decode())
    assert page.tags == TAGS
    data = page_data(info)
    assert page.data["calls"] == json.loads(json.dumps(data["calls"]))
    assert page.data["run"] == json.loads(json.dumps(data["run"]))
    assert page.texts.count(info._title.encode("utf-8", "backslashreplace").decode()) == 1


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_data_in_a_script_is_the_same_data(data):
    text = as_script_data(data)
    assert json.loads(text) == data
    assert text.isascii()
    assert not set(text) & set("<>&")


def test_long_values_are_cut_and_secrets_masked(command, program):
    state = RTState()
    state.succeeded(
        state.created("f", "Tool", ("x" * 9_000,), {"api_key": "sk-0123456789abcdef"}, None, 0.0), "y" * 9_000, 1.0
    )
    info = rt.ExecutionInfo(session_id="s", records=state.snapshot(), start_time=0.0)
    html = render_run(info)
    assert "0123456789abcdef" not in html
    [row] = Page(html).data["calls"]
    more = row[COLUMNS.index("more")]
    assert more["result"].startswith('"yyy')
    assert len(more["result"]) == MAX_TEXT
    assert re.search(r"\.\.\. \[9002 .*\]$", more["result"])
    assert [name for name, _ in more["arguments"]] == ["0", "api_key"]


def test_values_that_are_not_written_are_shown_in_short():
    state = RTState()
    state.succeeded(state.created("f", "Tool", (), {}, None, 0.0), object(), 1.0)
    state.succeeded(state.created("f", "Tool", (), {}, None, 0.0), b"abc", 1.0)
    info = rt.ExecutionInfo(session_id="s", records=state.snapshot(), start_time=0.0)
    results = [row[COLUMNS.index("more")]["result"] for row in page_data(info)["calls"]]
    assert results == ["<object object>", "<bytes of 3 bytes>"]


def test_failures_come_with_their_tracebacks(info):
    data = page_data(info)
    failed = [record.index for record in info.failures]
    assert data["run"]["failures"] == failed
    assert data["run"]["headline"] == "It completed, although 2 calls failed."
    for index in failed:
        more = data["calls"][index][COLUMNS.index("more")]
        assert more["traceback"].endswith(f"LookupError: no page {data['calls'][index][8]}")


def state_with(*ends):
    """Return records: a top-level call, and one below it for each way to end."""
    state = RTState()
    top = state.created("top", "Tool", (), {}, None, 0.0)
    for end in ends:
        end(state, state.created("f", "Tool", (), {}, top, 0.0))
    return state, top


def headline(records, **facts):
    return page_data(rt.ExecutionInfo(session_id="s", records=tuple(records), start_time=0.0, **facts))["run"][
        "headline"
    ]


def test_the_headline_says_how_far_a_run_has_come(command, program):
    state, top = state_with(lambda state, record: state.failed(record, ValueError("no"), 1.0))
    assert headline(state.snapshot()) == "It is running."
    ended = "It has ended; what became of some calls is not on record."
    assert headline(state.snapshot(), end_time=2.0) == ended
    state.succeeded(top, None, 2.0)
    assert headline(state.snapshot()) == "It has not ended yet."
    assert headline(state.snapshot(), end_time=2.0) == "It completed, although 1 call failed."
    state, top = state_with()
    state.cancelled(top, rt.state.Reason.TIMEOUT, 2.0)
    text = "It was cancelled. Its top-level call took longer than the timeout of the session."
    assert headline(state.snapshot(), end_time=2.0) == text
    assert page_data(rt.ExecutionInfo(session_id="s", records=tuple(state.snapshot())))["calls"][0][
        COLUMNS.index("more")
    ]["why"] == text.removeprefix("It was cancelled. ")
    assert headline([], end_time=2.0) == "It completed."
    command("run", f"{program}:asking", "--run-identifier", "asking")
    info = load_run("asking")
    data = page_data(info)["run"]
    assert data["headline"] == "It waits for an answer or a message."
    assert data["questions"] == [[info.questions[0].id, "Which colour?"]]
    command("answer", "asking", info.questions[0].id, "red")
    assert page_data(load_run("asking"))["run"]["headline"] == "It has its answer. Resume it to go on."


def test_a_run_whose_process_died_says_so():
    record = CallRecord(0, None, 0, "f", "Tool", (), {}, 1, 0.0, reason=rt.state.Reason.PROCESS_DIED)
    assert headline([record]) == "Its process died before it had ended."


def test_cancelled_calls_are_the_innermost():
    state, top = state_with(lambda state, record: state.cancelled(record, rt.state.Reason.REQUEST, 1.0))
    state.cancelled(top, rt.state.Reason.REQUEST, 1.0)
    info = rt.ExecutionInfo(session_id="s", records=state.snapshot(), start_time=0.0, end_time=1.0)
    assert page_data(info)["run"]["cancelled"] == [1]
    assert page_data(info)["run"]["headline"] == "It was cancelled on request."
    assert ["why" in (row[COLUMNS.index("more")] or ()) for row in page_data(info)["calls"]] == [False, False]


def test_rows_say_why_and_where_a_call_failed(command):
    @rt.function_node
    async def inner():
        raise LookupError("none")

    @rt.function_node
    async def outer():
        await rt.call(inner)

    flow = rt.Flow("F", outer, run_identifier="why")
    with pytest.raises(LookupError):
        flow.invoke()
    for info in (load_run("why"), flow.last):
        first, second = (dict(zip(COLUMNS, row, strict=True)) for row in page_data(info)["calls"])
        assert first["error"] == second["error"] == "LookupError: none"
        assert first["more"]["reason"] == "LookupError (raised by inner)"
        assert "LookupError (raised by inner)" in str(info)
        assert "reason" not in second["more"]
        assert ["isFailure" in each["more"] for each in (first, second)] == [False, True]


def test_rows_have_a_status_with_its_cause():
    state, _ = state_with(
        lambda state, record: state.cancelled(record, rt.state.Reason.REQUEST, 1.0),
        lambda state, record: state.succeeded(record, None, 1.0),
    )
    rows = page_data(rt.ExecutionInfo(session_id="s", records=state.snapshot()))["calls"]
    assert [row[COLUMNS.index("shown_status")] for row in rows] == [None, "Cancelled (request)", None]


# ---- no network, and no script of others


def test_the_policy_allows_the_own_scripts_alone(info):
    page = Page(render_run(info))
    policy = next(attrs["content"] for tag, attrs in page.attributes if attrs.get("http-equiv"))
    digests = [hashlib.sha256(text.encode()).digest() for text in page.scripts[1:]]
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    assert f"script-src {allowed};" in policy
    assert policy.startswith("default-src 'none';")
    assert "connect-src" not in policy
    assert [attrs for _, attrs in page.attributes if "src" in attrs] == []
    assert {attrs["href"] for _, attrs in page.attributes if "href" in attrs} == {"data:,"}


def test_a_live_page_may_reach_its_own_server_alone(info):
    live = {"events": "/events", "actions": {"cancel": "/cancel"}}
    page = Page(render_run(info, live=live))
    assert page.data["live"] == live
    assert "connect-src 'self';" in next(attrs["content"] for tag, attrs in page.attributes if attrs.get("http-equiv"))


def test_the_library_comes_with_its_licence():
    folder = files("railtracks.page").joinpath("assets")
    assert "MIT License" in folder.joinpath("flame-chart.LICENSE.txt").read_text()
    assert "flame-chart-js v" in folder.joinpath("flame-chart.min.js").read_text()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_scripts_parse(tmp_path):
    path = tmp_path / "page.js"
    path.write_text(_render._script())
    subprocess.run(["node", "--check", path], check=True, timeout=60)


# ---- the log


def test_the_page_has_the_log_lines_of_each_call(command, program, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_LOG_FILE", "run.log")
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "QUIET")
    for identifier in ("pages", "pages-n1"):
        command("run", f"{program}:pages", 12, "--run-identifier", identifier)
    info = load_run("pages")
    log = read_log(Path("run.log"), info)
    assert sorted(log["calls"]) == sorted(str(record.index) for record in info.failures)
    for record in info.failures:
        [line] = log["calls"][str(record.index)]
        assert re.search(rf"fetch\({record.args[0]}\) FAILED LookupError: no page", line)
    _, out, _ = command("view", "pages", "--log", "run.log", "--no-open")
    assert Page(Path(out.strip()).read_text()).data["log"] == log
    Path(out.strip()).unlink()


def test_lines_of_a_traceback_belong_to_the_line_before(tmp_path):
    record = CallRecord(0, None, 0, "f", "Tool", (), {}, 1, 0.0)
    info = rt.ExecutionInfo(session_id="s", records=(record,), start_time=0.0)
    lines = [
        "2026-01-01 10:00:00 s-n0 failed",
        "Traceback",
        "2026-01-01 10:00:01 other",
        "  more",
        "2026-01-01 10:00 s end",
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    log = read_log(tmp_path / "log", info)
    assert log["calls"] == {"0": lines[:2]}
    assert log["run"] == lines[4:]
    assert log["note"] == "3 lines of the log log are about this run, 2 of them about single calls."
    (tmp_path / "log").write_text("nothing\n")
    assert read_log(tmp_path / "log", info)["note"] == "No line of the log log has the identifier of this run."


def test_lines_of_an_earlier_run_of_the_name_are_left_out(command, program, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_LOG_FILE", "run.log")
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "REGULAR")
    command("run", f"{program}:pages", 12, "--run-identifier", "nightly")
    earlier = Path("run.log").read_text().splitlines()
    shutil.rmtree(".railtracks")
    command("run", f"{program}:pages", 3, "--run-identifier", "nightly")
    later = Path("run.log").read_text().splitlines()[len(earlier) :]
    info = load_run("nightly")
    log = read_log(Path("run.log"), info)
    assert not info.failures
    assert any("FAILED" in line for line in earlier)
    assert not any("FAILED" in line for lines in log["calls"].values() for line in lines)
    assert sorted([*log["run"], *itertools.chain(*log["calls"].values())]) == sorted(later)
    dated = sum(line.startswith("20") for line in earlier)
    which = f"{dated} lines that have the identifier of this run, and a date before it began or after it had ended"
    assert log["note"].endswith(f"Left out: {which}.")


def test_lines_of_a_session_named_as_a_call_are_not_of_it(command, program, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_LOG_FILE", "run.log")
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "REGULAR")

    @rt.function_node
    async def both():
        await rt.call(len, "ab")
        await rt.Flow("Other", len, run_identifier="pages-n1").ainvoke("abc")

    rt.Flow("Pages", both, run_identifier="pages").invoke()
    others = [line for line in Path("run.log").read_text().splitlines() if re.search(" pages-n1[ /]", line)]
    log = read_log(Path("run.log"), load_run("pages"))
    assert len(others) > 1
    assert [line.partition(" - ")[2] for line in log["calls"]["0"]] == ["START CREATED both"]
    assert not {*others} & {*log["run"], *itertools.chain(*log["calls"].values())}
    other = read_log(Path("run.log"), load_run("pages-n1"))
    assert sorted([*other["run"], *itertools.chain(*other["calls"].values())]) == sorted(others)


needs_tzset = pytest.mark.skipif(not hasattr(time, "tzset"), reason="other systems cannot change the time zone")


@needs_tzset
@pytest.mark.parametrize(
    ("date", "is_shown"),
    [
        ("2026-01-01 10:00:30.250+0000", True),
        ("2026-01-01 10:00:30.249+0000", False),
        ("2026-01-01 10:00:40.500Z", True),
        ("2026-01-01 10:00:40.501Z", False),
        ("2026-01-01T10:00:30Z", True),
        ("2026-01-01T10:00:29Z", False),
        ("2026-01-01 10:00Z", True),
        ("2026-01-01 10:01Z", False),
        ("2026-01-01 15:30:35,5+05:30", True),
        ("2026-01-01 15:30:35,5", True),  # the zone of this machine
        ("2026-01-01 10:00:35,5", False),
        ("2026-01-01 04:00:35.123456789 -0600", True),
        ("2026-01-01 10:00:35 -0600", False),
        ("2026-13-01 10:00", True),
    ],
)
def test_only_dates_within_the_run_count(tmp_path, monkeypatch, date, is_shown):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        began = datetime(2026, 1, 1, 10, 0, 30, 250_500, UTC).timestamp()
        info = rt.ExecutionInfo(session_id="s", start_time=began, end_time=began + 10.25)
        lines = [f"{date} INFO s", "  of s"]
        (tmp_path / "log").write_text("\n".join(lines))
        assert read_log(tmp_path / "log", info)["run"] == (lines if is_shown else [])
    finally:
        monkeypatch.undo()
        time.tzset()


@needs_tzset
def test_a_date_when_clocks_were_set_back_means_both_times(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for hour in (0, 1):
            began = datetime(2026, 10, 25, hour, 29, tzinfo=UTC).timestamp()
            info = rt.ExecutionInfo(session_id="s", start_time=began, end_time=began + 120)
            (tmp_path / "log").write_text("2026-10-25 02:30:00 s\n")
            assert len(read_log(tmp_path / "log", info)["run"]) == 1
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("before", [*range(1_900, 2_010, 10), 1_985])
def test_a_secret_where_a_log_line_is_cut_is_masked(tmp_path, before):
    info = rt.ExecutionInfo(session_id="s", start_time=0.0)
    key = "sk-proj-" + "aB3dE5gH7jK9mN1p" * 3
    (tmp_path / "log").write_text(f"{'s failed '.ljust(before, '.')} {key} {'end ' * 100}\n")
    [line] = read_log(tmp_path / "log", info)["run"]
    assert "aB3d" not in line
    assert len(line) <= 2_000
    assert re.search(r"\.\.\. \[\d+ characters in all\]$", line)


@pytest.mark.parametrize(
    ("count", "rest"),
    [
        (50_000, ""),
        (50_001, " The line after them is left out."),
        (51_234, " The 1,234 lines after them are left out."),
    ],
)
def test_the_note_says_how_many_log_lines_are_left_out(tmp_path, count, rest):
    info = rt.ExecutionInfo(session_id="s", start_time=0.0)
    (tmp_path / "log").write_text("2026-01-01 10:00 other\n" + "s line\n" * count)
    log = read_log(tmp_path / "log", info)
    assert len(log["run"]) == 50_000
    assert log["note"] == f"50000 lines of the log log are about this run, 0 of them about single calls.{rest}"
