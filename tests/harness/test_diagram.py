"""The story as a sequence diagram and as a page."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.testing import Fault, TraceEvent, mark, simulate, simulate_restarts
from railtracks.testing._simulation._diagram import sequence_diagram
from railtracks.testing.faults import Raise
from railtracks.testing.strategies import seeds

TEXT = r"(?:[^#;<>%`\n]|#\d+;)+"
GRAMMAR = [re.compile(each) for each in (
    rf"    participant (?P<new>\w+)(?: as {TEXT})?",
    rf"    (?P<one>\w+)(?:->>|-->>|--x)(?P<other>\w+): {TEXT}",
    rf"    Note over (?P<one>\w+)(?:,(?P<other>\w+))?: {TEXT}",
)]  # fmt: skip


def checked(text):
    """Return the lines of a diagram after the first; each must be a statement of Mermaid about known participants."""
    first, *lines = text.split("\n")
    assert first == "sequenceDiagram"
    known = set()
    for line in lines:
        found = next((match for each in GRAMMAR if (match := each.fullmatch(line))), None)
        assert found is not None, line
        names = {name: value for name, value in found.groupdict().items() if value is not None}
        if "new" in names:
            assert names["new"] not in known
            known.add(names["new"])
        else:
            assert set(names.values()) <= known, line
    return [line.strip() for line in lines]


@rt.function_node
async def child(number):
    await anyio.sleep(1)
    rt.context.put("last", number)
    await rt.broadcast(f"{number};#<b>")
    return number


@rt.function_node
async def parent():
    mark("begins")
    try:
        await rt.call(child, 1)
    except ConnectionError:
        await rt.call(child, 2)
    with anyio.move_on_after(0.5):
        await rt.call(child, 3)


LOST = Fault(child, Raise(ConnectionError("lost"), after=True), call=1)


def test_a_diagram_shows_who_calls_whom_and_what_happens(backend):
    outcome = simulate(parent, backend=backend, faults=[LOST])
    assert checked(outcome.diagram()) == [
        "participant outside",
        "participant s0_0 as s0.0 parent",
        "participant s0_1 as s0.1 child",
        "participant s0_2 as s0.2 child",
        "participant s0_3 as s0.3 child",
        "Note over outside: s0 opened",
        "outside->>s0_0: ()",
        "Note over s0_0: mark begins",
        "s0_0->>s0_1: (1)",
        "Note over s0_1: put 'last': 1",
        "Note over s0_1: broadcast '1#59;#35;#60;b#62;'",
        "Note over s0_1: fault Raise(ConnectionError('lost'), after=True)",
        "s0_1--xs0_0: ConnectionError('lost')",
        "s0_0->>s0_2: (2)",
        "Note over s0_2: put 'last': 2",
        "Note over s0_2: broadcast '2#59;#35;#60;b#62;'",
        "s0_2-->>s0_0: 2",
        "s0_0->>s0_3: (3)",
        "s0_3--xs0_0: cancelled (outside)",
        "s0_0-->>outside: None",
        "Note over outside: s0 closed",
    ]


def test_a_diagram_shows_where_a_run_hangs(backend):
    @rt.function_node
    async def hangs():
        await anyio.sleep_forever()

    lines = checked(simulate(hangs, backend=backend, timeout=math.inf).diagram())
    assert any(line.startswith("Note over outside,s0_0: 0 s, hangs: at 0 s of virtual time") for line in lines)


KINDS = [
    "opened",
    "created",
    "completed",
    "failed",
    "cancelled",
    "reused",
    "broadcast",
    "put",
    "hangs",
    "fault",
    "mark",
]


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            TraceEvent,
            time=st.floats(0, 100),
            session=st.sampled_from(["s0", "s1", "a-b c"]),
            call=st.none() | st.integers(0, 3),
            name=st.text(),
            what=st.sampled_from(KINDS),
            detail=st.text() | st.just("by s0.1: (2)"),
        )
    )
)
def test_a_diagram_is_well_formed_whatever_the_texts_are(events):
    checked(sequence_diagram([(events, "returned 1")]))


@settings(max_examples=10)
@given(seed=seeds())
def test_the_same_seed_gives_the_same_diagram_and_page(seed):
    one, other = simulate(parent, seed=seed), simulate(parent, seed=seed)
    assert one.diagram() == other.diagram()
    assert one.html == other.html


class Page(HTMLParser):
    """Checks that all elements are closed, and collects the texts of cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert not any(name in ("src", "href", "onclick") for name, _ in attrs), "it needs no network, and runs nothing"
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@rt.function_node
async def quotes(text, password):
    mark(f"{text} {password}")
    return text


@pytest.mark.parametrize("calls", [1, 30], ids=["columns", "one column"])
def test_a_page_has_the_story_and_escapes_everything(backend, tmp_path, calls):
    @rt.function_node
    async def many(text, password):
        for _ in range(calls):
            await rt.call(quotes, text, password)

    outcome = simulate(many, "</td><script>&amp;", "hunter22-hunter22", backend=backend)
    outcome.save_page(tmp_path / "story.html")
    text = (tmp_path / "story.html").read_text(encoding="utf-8")
    assert text == outcome.html
    page = Page(text)
    assert "script" not in page.tags
    assert "hunter22" not in text
    assert sum("mark </td><script>&amp; ***" in each for each in page.texts if "sequenceDiagram" not in each) == calls
    assert outcome.tree in page.texts
    assert outcome.diagram() in page.texts


def test_a_page_names_what_failed_unseen(backend):
    @rt.function_node
    async def forgets():
        rt.call(child, 1)  # type: ignore[unused-coroutine]

    outcome = simulate(forgets, backend=backend)
    assert outcome.unseen[0] in Page(outcome.html).texts


def test_a_page_separates_the_turns_of_the_event_loop(backend):
    outcome = simulate(parent, backend=backend)
    turns = [event.turn for event in outcome.trace]
    assert turns == sorted(turns)
    assert outcome.html.count('<tr class="turn">') == len(set(turns)) > 3


# ---- runs that were resumed


def test_all_runs_of_a_resumed_outcome_are_shown(backend, tmp_path):
    *_, last = simulate_restarts(parent, kills=[5, 2], backend=backend)
    assert last.before is not None
    assert last.before.before is not None
    lines = checked(last.diagram())
    between = [line for line in lines if "resumed in another process" in line]
    assert len(between) == 2
    assert all("killed after" in line for line in between)
    assert sum(line.startswith("outside->>s0_0") for line in lines) == 3, "it is called in each of the runs"
    last.save_page(tmp_path / "story.html")
    page = Page((tmp_path / "story.html").read_text(encoding="utf-8"))
    assert sum("resumed in another process:" in text for text in page.texts) == 2
    events = sum(len(outcome.trace) for outcome in (last, last.before, last.before.before))
    assert (tmp_path / "story.html").read_text(encoding="utf-8").count('<td class="time">') == events
