"""What is drawn of sessions: the lines, as a function of the state, the size of the terminal, and a clock."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

import railtracks as rt
from railtracks._progress._batch_count import BatchCount
from railtracks._progress._picture import Painter, picture
from railtracks._progress._view import MAX_BARS, SessionView
from railtracks.state import Status
from railtracks.state._questions import ASK, QUESTION, TOPIC
from railtracks.state._records import PolicyFacts
from railtracks.state._serialization._record_text import inputs_text
from tests.progress.helpers import CallLog, FakeSession, Stream, Threads

STYLED = re.compile(r"\x1b\[[0-9;]*m")


def view_of(session: FakeSession, name: str | None = None) -> SessionView:
    view = SessionView(session, name, None)
    view.update()
    view.update()  # what was there at the first reading is not new any more
    return view


def texts(session: FakeSession, height: int = 20) -> list[str]:
    return [str(line) for line in view_of(session).lines(height, 0.0)]


def call(session: FakeSession, name: str, *args: Any, caller: Any = None, **kwargs: Any) -> Any:
    return session.state.created(name, "Other", args, kwargs, caller, session.time - 2.5)


def test_a_session_is_its_counts_and_what_runs():
    session = FakeSession(call_log=CallLog(ends={Status.FAILED: 2}, reused=4))
    root = call(session, "fetch_all", 30, limit=None)
    call(session, "fetch", "page", caller=root)
    view = SessionView(session, "name", "Pages")
    session.time += 1.5
    view.update()
    view.update()
    assert [str(line) for line in view.lines(20, 0.0)] == [
        "flow Pages, session my-session  Open  1.5 s  2 calls, 2 failed, 2 open, 4 reused",
        "└─ fetch_all(30, limit=null)  4 s",
        '   └─ fetch("page")  4 s',
    ]


def test_what_a_call_waits_for_is_said():
    session = FakeSession()
    call(session, "ask", "Which colour?").attributes = f'{{"{QUESTION}": "q-1"}}'
    call(session, "ask", "Which size?").node = ASK
    call(session, "receive", "go").attributes = f'{{"{TOPIC}": "go"}}'
    assert texts(session)[1:] == [
        '├─ ask("Which colour?")  2.5 s  waits for an answer',
        '├─ ask("Which size?")  2.5 s  waits for an answer',
        '└─ receive("go")  2.5 s  waits for a message',
    ]


def test_call_that_waits_for_a_limit_says_so():
    session = FakeSession()
    call(session, "fetch", 1).policy = PolicyFacts(waiting="limit api")
    call(session, "fetch", 2).policy = PolicyFacts(waited=2.0)
    assert texts(session)[1:] == ["├─ fetch(1)  waiting for limit api, 2.5 s", "└─ fetch(2)  500 ms"]


def test_calls_that_wait_for_a_worker_thread_are_counted():
    session = FakeSession(threads=Threads({"resize": 36, "a": 1, "b": 2, "c": 3}))
    assert texts(session)[1] == "waiting for a worker thread (max_threads=40): resize × 36, c × 3, b × 2, …"


def test_a_batch_has_a_bar_a_rate_and_the_time_that_is_left():
    session = FakeSession()
    view = view_of(session)
    batch = BatchCount("parsing", 200, limit=8)
    view.add(batch)
    assert str(view.lines(20, 100.0)[-1]) == f"{'─' * 20}  parsing: 0 of 200 (0 %)  at most 8 at once"
    for number in range(50):
        batch.advance(number == 7)
    assert str(view.lines(20, 105.0)[-1]) == (
        "━━━━━───────────────  parsing: 50 of 200 (25 %), 1 failed  10/s, about 15 s left  at most 8 at once"
    )
    view.discard(batch)
    assert len(view.lines(20, 106.0)) == 1


def test_the_rate_is_that_of_the_latest_seconds():
    batch = BatchCount("parsing", None)
    for second in range(60):
        batch.ended = 10 * min(second, 40)
        rate = batch.rate(float(second))
        if second == 30:
            assert rate == pytest.approx(10)
    assert rate == 0.0
    assert len(batch._noted) < 60


@pytest.mark.parametrize(
    ("ended", "seconds", "shown"), [(3, 1, "3/s"), (1234, 1, "1,234/s"), (1, 4, "0.25/s"), (1, 50, "1.2/min")]
)
def test_slow_batches_have_a_rate_too(ended, seconds, shown):
    view = view_of(FakeSession())
    batch = BatchCount("parsing", None)
    view.add(batch)
    view.lines(20, 0.0)
    batch.ended = ended
    assert str(view.lines(20, float(seconds))[-1]) == f"parsing: {ended}  {shown}"


def test_the_largest_batches_are_shown():
    view = view_of(FakeSession())
    for total in range(1, 20):
        view.add(BatchCount("parsing", total))
    bars = [str(line) for line in view.lines(20, 0.0)[1:]]
    assert [number for bar in bars for number in re.findall(r"of (\d+)", bar)] == ["15", "16", "17", "18", "19"]
    assert len(bars) == MAX_BARS


def test_secrets_are_masked():
    session = FakeSession()
    session.redactor.add("hunter2-hunter2")
    record = call(session, "login", "x")
    record.inputs = inputs_text(("hunter2-hunter2",), {}, session.redactor)
    call(session, "hunter2-hunter2", api_key="another-secret")
    shown = "\n".join(texts(session))
    assert "login(" in shown
    assert "hunter2" not in shown
    assert "another-secret" not in shown


def test_a_secret_that_becomes_known_is_masked_from_then_on():
    session = FakeSession()
    call(session, "login", "later-known-secret")
    view = view_of(session)
    assert "later-known-secret" in str(view.lines(9, 0.0)[1])
    session.redactor.add("later-known-secret")
    assert "later-known-secret" not in str(view.lines(9, 0.0)[1])


def test_a_call_that_was_just_made_has_no_arguments_yet():
    session = FakeSession()
    call(session, "login", "its secrets may not be known")
    view = SessionView(session, None, None)
    view.update()
    assert str(view.lines(9, 0.0)[1]) == "└─ login  2.5 s"
    view.update()
    assert "secrets" in str(view.lines(9, 0.0)[1])


def test_objects_of_users_are_not_looked_at():
    class Odd:
        def __repr__(self) -> str:
            raise AssertionError("it may belong to the event loop")

    session = FakeSession()
    call(session, "parse", Odd(), 7, items=[1], limit=True)
    assert texts(session)[1] == "└─ parse(…, 7, items=…, limit=true)  2.5 s"


# ---- any text


hostile = st.text() | st.sampled_from(
    ["[bold]x[/]", "a\nb\r\x1b[2J", "\u202eabc", "漢字" * 40, "é\u0301" * 9, "\ud800"]
)


@given(
    st.lists(st.tuples(hostile, hostile, st.integers(0, 9)), max_size=30),
    st.lists(hostile, max_size=4),
    st.integers(1, 130),
    st.integers(0, 40),
)
@example([("漢" * 90, "漢" * 90, 0)], [], 11, 9)
def test_a_picture_fits_and_is_text(calls, labels, columns, height):
    session = FakeSession(threads=Threads(dict.fromkeys(labels, 1)))
    opened: list[Any] = [None]
    for name, argument, caller in calls:
        opened.append(call(session, name, argument, caller=opened[caller % len(opened)]))
    views = [view_of(session, name) for name in ["first", *labels]]
    for label in labels:
        views[0].add(BatchCount(label, 3))
    lines = picture(views, height, 0.0)
    assert len(lines) <= height
    painter = Painter(Stream())
    for line in lines:
        plain = STYLED.sub("", painter.paint(line, columns))
        assert cell_len(plain) < columns
        assert not [char for char in plain if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]
        assert not set(plain) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
        start = line.indent + line.text
        assert plain == start or (plain.removesuffix("…").rstrip() in start and cell_len(start) >= columns)


def test_markup_is_text():
    session = FakeSession()
    call(session, "[bold red]x[/]", "[link=https://x]y[/link]")
    painter = Painter(Stream())
    drawn = [STYLED.sub("", painter.paint(line, 100)) for line in view_of(session).lines(9, 0.0)]
    assert drawn[1] == '└─ [bold red]x[/]("[link=https://x]y[/link]")  2.5 s'


@pytest.mark.parametrize(("variable", "has_colours"), [("NO_COLOR", False), ("COLORTERM", True)])
def test_colours_follow_the_environment(variable, has_colours, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")
    session = FakeSession()
    call(session, "fetch")
    painter = Painter(Stream())
    drawn = "".join(painter.paint(line, 100) for line in view_of(session).lines(9, 0.0))
    assert ("\x1b[" in drawn) is has_colours


def test_colours_are_what_rich_says_in_public(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("rich.console.Console.color_system", None)
    session = FakeSession()
    call(session, "fetch")
    painter = Painter(Stream())
    assert "\x1b[" not in "".join(painter.paint(line, 100) for line in view_of(session).lines(9, 0.0))


# ---- several sessions


@given(st.integers(0, 30), st.integers(1, 20), st.integers(0, 30))
def test_sessions_share_the_lines(height, number, calls):
    views = []
    for each in range(number):
        session = FakeSession(f"session-{each}")
        for _ in range(calls if each else 0):
            call(session, "fetch")
        views.append(view_of(session))
    shown = [str(line) for line in picture(views, height, 0.0)]
    assert len(shown) <= height
    heads = [line for line in shown if line.startswith("session ")]
    assert heads == [str(view.lines(1, 0.0)[0]) for view in views[: len(heads)]]
    if height > 1:
        more = number - len(heads)
        assert [line for line in shown if "more session" in line] == (
            [f"… and {more} more session{'s' if more > 1 else ''}"] if more else []
        )


def test_what_one_session_does_not_need_is_left_for_the_others():
    quiet, busy = FakeSession("quiet"), FakeSession("busy")
    for number in range(9):
        call(busy, "fetch", number)
    assert len(picture([view_of(quiet), view_of(busy)], 11, 0.0)) == 11


# ---- without a terminal


def test_a_sentence_says_how_far_a_session_is():
    session = FakeSession(call_log=CallLog(ends={Status.FAILED: 1}))
    call(session, "fetch")
    view = view_of(session)
    batch = BatchCount("fetch", 200)
    view.add(batch)
    view.sentence(0.0)
    batch.ended, batch.failed = 120, 1
    session.time += 8
    text, facts = view.sentence(8.0)
    assert text == (
        "session my-session: 1 call, 1 failed, 1 open in 8 s; fetch: 120 of 200 (60 %), 1 failed, 15/s, about 5 s left"
    )
    session.time += 1
    later, same_facts = view.sentence(9.0)
    assert later != text
    assert same_facts == facts


def test_the_summary_says_how_it_ended():
    session = FakeSession()
    record = call(session, "fetch")
    view = view_of(session)
    session.state.failed(record, ValueError(), 3.0)
    session.call_log.ends[Status.FAILED] = 1
    assert view.summary() == "session my-session  Failed  0 µs  1 call, 1 failed"


def test_an_option_turns_it_on(monkeypatch):
    assert rt.Session().executor_config.progress is False
    monkeypatch.setenv("RAILTRACKS_PROGRESS", "1")
    assert rt.Session().executor_config.progress is True
    assert rt.Session(progress=False).executor_config.progress is False
