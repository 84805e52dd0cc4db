"""What a batch says beside its results: how far it is, and what it returned in place of a result."""

from __future__ import annotations

import io
import logging
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.state import Status


class Stream(io.StringIO):
    """Standard error that is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.getvalue().replace("\r", "\n").split("\n") if line.strip()]


@rt.function_node
async def work(number):
    await anyio.sleep(1)
    if number == 2:
        raise ValueError(number)
    return number


@pytest.fixture
def logged():
    records: list[Any] = []
    handler: Any = logging.Handler()
    handler.emit = records.append
    logging.getLogger("RT").addHandler(handler)
    yield lambda level: [record.getMessage() for record in records if record.levelno == level]
    logging.getLogger("RT").removeHandler(handler)


async def run_batch(items, **options):
    async with rt.Session(logging_setting="REGULAR", save_state=False):
        return await rt.call_batch(work, items, **options)


async def test_in_a_terminal_one_line_counts(monkeypatch):
    stream = Stream(is_terminal=True)
    monkeypatch.setattr("sys.stderr", stream)
    logging.getLogger("RT").addHandler(quiet := logging.NullHandler())
    try:
        await run_batch(range(4), limit=1, progress="parsing")
    finally:
        logging.getLogger("RT").removeHandler(quiet)
    assert stream.lines == [
        "parsing: 1 of 4 (25 %)",
        "parsing: 2 of 4 (50 %)",
        "parsing: 3 of 4 (75 %), 1 failed",
        "parsing: 4 of 4 (100 %), 1 failed",
        "parsing: 4 of 4 (100 %), 1 failed, in 4.0 s",
    ]
    assert stream.getvalue().endswith("s\n")
    assert stream.getvalue().count("\n") == 1


async def test_elsewhere_log_records_count(monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", Stream(is_terminal=False))
    await run_batch(iter(range(25)), limit=1, progress="parsing")
    assert [text for text in logged(logging.INFO) if text.startswith("parsing")] == [
        "parsing: 10, 1 failed",
        "parsing: 20, 1 failed",
        "parsing: 25, 1 failed, in 25.0 s",
    ]


async def test_a_batch_that_is_cut_off_says_how_far_it_came(monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", None)
    with pytest.raises(ValueError, match="2"):
        await run_batch(range(9), limit=1, return_exceptions=False, progress="parsing")
    assert "parsing: 3 of 9 (33 %), 1 failed, in 3.0 s" in logged(logging.INFO)


async def test_a_terminal_that_is_gone_does_no_harm(monkeypatch, logged):
    stream = Stream(is_terminal=True)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(stream, "write", lambda text: (_ for _ in ()).throw(BrokenPipeError()))
    assert await run_batch([1], progress="parsing") == [1]
    assert "parsing: 1 of 1 (100 %), in 1.0 s" in logged(logging.INFO)


async def test_without_a_label_nothing_is_shown(monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", stream := Stream(is_terminal=True))
    await run_batch([1])
    assert not stream.getvalue()


class Query:
    """Items that are loaded when their number is asked for, as those of a database."""

    def __iter__(self):
        return iter([3, 4])

    def __len__(self):
        raise RuntimeError("the number was asked for")


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        (lambda: range(3, 10**20), "2 of 2 (100 %)"),
        (lambda: {3: "a", 4: "b"}.keys(), "2 of 2 (100 %)"),
        (Query, "2"),
        (lambda: iter([3, 4]), "2"),
    ],
    ids=["huge range", "keys", "query", "iterator"],
)
async def test_a_total_is_shown_if_it_is_at_hand(first, shown, monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", Stream(is_terminal=False))

    async def add(a, b):
        return a + b

    async with rt.Session(logging_setting="REGULAR", save_state=False):
        assert await rt.call_batch(add, first(), [1, 1], progress="adding") == [4, 5]
    assert f"adding: {shown}, in 0.0 s" in logged(logging.INFO)


async def test_it_works_without_a_session(monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Stream(is_terminal=True))
    assert await rt.call_batch(work, [1, 3], [], progress="parsing") == []
    assert stream.lines == ["parsing: 0, in 0.0 s"]


@pytest.mark.parametrize("label", ["", 5, "two\nlines", True])
async def test_a_wrong_label_is_refused(label):
    with pytest.raises(ValueError, match=r"rt\.call_batch: progress must be a text of one line, such as .parsing., "):
        await rt.call_batch(work, [1], progress=label)


# ---- exceptions in place of results


async def test_failures_are_those_of_the_batch_and_all_others():
    @rt.function_node
    async def flow():
        results = await rt.call_batch(work, range(4))
        return [type(each) for each in results]

    async with rt.Session(save_state=False) as session:
        assert await rt.call(flow) == [int, int, ValueError, int]
        with pytest.raises(ValueError, match="2"):
            await rt.call(work, 2)
    failures = session.info.failures
    assert [(record.name, type(record.exception)) for record in failures] == [("work", ValueError)] * 2
    assert failures == tuple(record for record in session.info.records if record.status is Status.FAILED)


async def test_a_run_that_was_loaded_has_them_too():
    async with rt.Session(run_identifier="run"):
        await rt.call_batch(work, range(4))
    [failure] = rt.ExecutionInfo.load(".railtracks/run.json").failures
    assert (failure.name, failure.args, str(failure.exception)) == ("work", (2,), "ValueError: 2")


async def test_a_refusal_that_is_returned_is_logged(logged):
    @rt.function_node
    async def fails():
        raise KeyError("first")

    async with rt.Session(save_state=False, end_on_error=True):
        with pytest.raises(KeyError):
            await rt.call(fails)
        results = await rt.call_batch(work, [1, 3])
    assert [type(each) for each in results] == [rt.exceptions.SessionEndedError] * 2
    texts = [text for text in logged(logging.WARNING) if text.startswith("rt.call_batch returns SessionEndedError(")]
    assert len(texts) == 2
    assert all(text.endswith("in place of a result of work") for text in texts)


async def test_a_refusal_that_is_on_record_is_not_logged_twice(logged):
    @rt.function_node
    async def raises(number):
        raise rt.exceptions.SessionError("own")

    async with rt.Session(save_state=False):
        await rt.call_batch(raises, [1])
    assert not [text for text in logged(logging.WARNING) if text.startswith("rt.call_batch returns")]
