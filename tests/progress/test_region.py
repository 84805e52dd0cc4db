"""The lines at the end of a terminal, while others write to it, as an emulated terminal shows them."""

from __future__ import annotations

import io
import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._progress import _region
from railtracks._progress._region import Region, is_same_terminal, is_terminal
from tests.progress.helpers import Stream, shown


def region_of(stream: Any, *others: Any) -> Region:
    return Region(stream, others, threading.RLock())


def draw(region: Region, *texts: str) -> None:
    region.show([(text, len(text)) for text in texts], 80)


words = st.text("abc ", max_size=200)
written = st.tuples(st.just("write"), st.one_of(words, words.map(lambda text: f"{text}\n"), st.just("\n\n")))
drawn = st.tuples(st.just("draw"), st.lists(st.text("xyz", min_size=1, max_size=79), max_size=23))
steps = st.lists(st.one_of(written, drawn, st.tuples(st.just("print"), st.text("abc", max_size=100))), max_size=40)


@given(steps, st.booleans())
def test_what_others_write_is_all_that_stays(steps, redraws_at_once):
    stream = Stream()
    region = region_of(stream)
    region._redrawn = -1e9 if redraws_at_once else 1e9  # or never
    text = ""
    for kind, what in steps:
        if kind == "write":
            stream.write(what)
            text += what
        elif kind == "draw":
            draw(region, *what)
            if text.endswith("\n") or not text:
                assert stream.lines[len(stream.lines) - len(what) :] == what
        else:
            region.print(what)
            text += f"{what}\n" if text.endswith("\n") or not text else f"\n{what}\n"
    region.end()
    stream.write("the end")
    assert stream.lines == shown(f"{text}the end")
    assert "write" not in vars(stream)


def test_an_unfinished_line_of_others_is_left_alone():
    stream = Stream()
    region = region_of(stream)
    draw(region, "one", "two")
    stream.write("Your name? ")
    draw(region, "three")
    assert stream.lines == ["Your name?"]
    region.continue_after_input()
    io.StringIO.write(stream, "Ada\n")  # the echo of the terminal
    draw(region, "three")
    assert stream.lines == ["Your name? Ada", "three"]


def test_a_log_line_does_not_make_the_lines_flicker():
    stream = Stream()
    region = region_of(stream)
    draw(region, "one", "two")
    stream.write("logged\n")
    assert stream.lines == ["logged", "one", "two"]
    stream.write("and again, at once\n")
    assert stream.lines == ["logged", "and again, at once"]
    draw(region, "three")
    assert stream.lines[-1] == "three"


def test_handlers_that_were_made_before_write_above():
    stream = Stream()
    handler = logging.StreamHandler(stream)
    region = region_of(stream)
    draw(region, "one")
    handler.emit(logging.makeLogRecord({"msg": "a record"}))
    print("printed", file=stream)
    draw(region, "one")
    assert stream.lines == ["a record", "printed", "one"]


def test_both_streams_of_a_terminal_write_above():
    screen = Stream()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            return io.StringIO.write(screen, text)

    out = Out()
    region = region_of(screen, out)
    draw(region, "one", "two")
    out.write("printed\n")
    draw(region, "three")
    assert screen.lines == ["printed", "three"]
    region.end()
    assert screen.lines == ["printed"]
    assert "write" not in vars(out)


def test_lines_that_a_narrower_terminal_has_wrapped_are_erased(monkeypatch):
    stream = Stream()
    region = region_of(stream)
    draw(region, "x" * 70, "y" * 30)
    start = len(stream.getvalue())
    region.show([("z", 1)], 20)
    assert stream.getvalue()[start:].startswith("\r\x1b[6A")
    monkeypatch.setattr(_region, "terminal_size", lambda stream: (20, 24))
    region.show([("z" * 19, 19)], 20)
    region.end()
    assert stream.getvalue().endswith("\r\x1b[1A\x1b[J")


def test_what_has_replaced_the_writing_since_is_left_alone():
    stream = Stream()
    region = region_of(stream)
    ours = stream.write
    theirs = []

    def replaced(text: str) -> int:
        theirs.append(text)
        return ours(text)

    stream.write = replaced  # type: ignore[method-assign]
    draw(region, "one")
    region.end()
    assert stream.write is replaced
    stream.write("after")
    assert (theirs, stream.lines) == (["after"], ["after"])


def test_a_stream_that_cannot_be_changed_is_drawn_on_too():
    class Slotted:
        __slots__ = ("text",)

        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    stream = Slotted()
    region = region_of(stream)
    draw(region, "one")
    region.end()
    assert shown(stream.text) == []


def test_what_writing_raises_is_raised_to_who_writes():
    class Broken(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    stream = Broken()
    region = region_of(stream)
    with pytest.raises(BrokenPipeError):
        stream.write("x")
    with pytest.raises(BrokenPipeError):
        draw(region, "one")
    region.end()
    assert "write" not in vars(stream)


@pytest.mark.parametrize("term", ["dumb", "unknown", "DUMB"])
def test_a_dumb_terminal_is_none(term, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Stream())
    monkeypatch.setenv("TERM", term)
    assert not is_terminal(Stream())


def test_what_cannot_be_drawn_on_is_no_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    closed, latin = Stream(), Stream()
    closed.close()
    latin.encoding = "latin-1"
    assert not any(map(is_terminal, (None, object(), closed, latin, Stream(is_terminal=False))))
    assert not any(is_same_terminal(Stream(), other) for other in (None, closed, Stream(), Stream(is_terminal=False)))
