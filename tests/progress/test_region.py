"""The last rows of a terminal, while others write above them, as an emulated terminal shows them."""

from __future__ import annotations

import os
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._progress import _region
from railtracks._progress._region import Region, drawable_rows, is_terminal
from tests.progress.helpers import Stream, lines_of, screen_of, shown

MOST = drawable_rows(80, 24)

words = st.text("abc ", max_size=200)
written = st.tuples(st.just("write"), st.one_of(words.map(lambda text: f"{text}\n"), st.just("\n\n"), st.just("abc\n")))
drawn = st.tuples(st.just("draw"), st.lists(st.text("xyz", min_size=1, max_size=79), max_size=MOST))
steps = st.lists(st.one_of(written, drawn, st.tuples(st.just("print"), st.text("abc", max_size=79))), max_size=12)


def draw(region: Region, *texts: str, columns: int = 80, rows: int = 24) -> None:
    region.show(texts, columns, rows)


@given(steps)
def test_what_others_write_is_all_that_stays(steps):
    stream = Stream()
    region = Region(stream)
    text, height = "", 0
    for kind, what in steps:
        if kind == "write":
            stream.write(what)
            text += what
        elif kind == "draw":
            draw(region, *what)
            height = max(height, len(what))
            screen = screen_of(stream.getvalue())
            blank = [""] * (height - len(what))
            assert [line.rstrip() for line in screen.display[24 - height :]] == [*what, *blank]
        else:
            region.print(what)
            text += f"{what}\n"
        above = lines_of(screen_of(stream.getvalue()))
        expected = shown(text)
        assert above[: len(expected)] == expected
    region.end()
    stream.write("the end")
    assert stream.lines == shown(f"{text}the end")
    assert screen_of(stream.getvalue()).margins is None


@pytest.mark.parametrize("lines_above", [0, 5, 21, 22, 23, 60])
def test_a_line_that_is_not_finished_goes_on(lines_above):
    stream = Stream()
    region = Region(stream)
    stream.write("\n".join([*map(str, range(lines_above)), "Your name? "]))
    draw(region, "one")
    draw(region, "one", "two", "three")
    stream.write("Ada")
    draw(region, "one")
    stream.write(" Lovelace\n")
    above = [*map(str, range(lines_above)), "Your name? Ada Lovelace"]
    assert stream.lines[: len(above)] == above
    region.end()
    assert stream.lines == above


def test_a_line_that_stays_begins_in_a_row_of_its_own():
    stream = Stream()
    region = Region(stream)
    region.print("first")
    stream.write("Your name? ")
    draw(region, "one")
    region.print("second")
    stream.write("x")
    region.print("third")
    region.end()
    assert stream.lines == ["first", "Your name?", "second", "x", "third"]


def test_rows_are_given_back_at_the_end_only():
    stream = Stream()
    region = Region(stream)
    draw(region, *"abc")
    draw(region, "a")
    assert screen_of(stream.getvalue()).margins == (0, 20)
    draw(region, *"abcd")
    assert screen_of(stream.getvalue()).margins == (0, 19)
    region.end()
    assert screen_of(stream.getvalue()).margins is None
    end = stream.getvalue()
    region.end()
    draw(region, "late")
    assert stream.getvalue() == end


def test_the_cursor_and_colours_of_others_are_restored():
    stream = Stream()
    region = Region(stream)
    stream.write("\x1b[31mred")
    draw(region, "one", "two")
    stream.write("still")
    region.end()
    stream.write("red")
    screen = screen_of(stream.getvalue())
    assert {screen.buffer[0][column].fg for column in range(11)} == {"red"}
    assert screen.display[0].rstrip() == "redstillred"
    assert stream.getvalue().count("\x1b[31m") == 1
    draw(region := Region(stream), "uncoloured")
    assert {screen_of(stream.getvalue()).buffer[23][column].fg for column in range(10)} == {"default"}
    region.end()


def test_a_margin_that_another_has_taken_away_is_set_again():
    stream = Stream()
    region = Region(stream)
    draw(region, "one")
    stream.write("\x1b[r")
    stream.write("\n" * 5)
    draw(region, "one")
    assert screen_of(stream.getvalue()).margins == (0, 22)


class Resized:
    """A terminal that changes its size while a region is in it."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.screen = screen_of("")
        self._fed = 0

    def feed(self) -> list[str]:
        text = self.stream.getvalue()
        pyte.Stream(self.screen).feed(text[self._fed :].replace("\n", "\r\n"))
        self._fed = len(text)
        return [line for line in lines_of(self.screen) if line]

    def resize(self, columns: int, rows: int) -> None:
        self.feed()
        row = self.screen.cursor.y - max(0, self.screen.lines - rows)  # others than the emulated one move it
        self.screen.set_margins()
        self.screen.resize(rows, columns)
        self.screen.cursor.y = max(0, row)


@pytest.mark.parametrize(("columns", "rows"), [(80, 30), (80, 20), (40, 24), (100, 40)])
@pytest.mark.parametrize("count", [3, 30])
def test_a_new_size_leaves_no_old_lines(columns, rows, count, monkeypatch):
    terminal = Resized()
    region = Region(terminal.stream)
    above = [f"line {number}" for number in range(count)]
    terminal.stream.write("".join(f"{line}\n" for line in above))
    draw(region, "one", "two", "three")
    terminal.resize(columns, rows)
    kept = terminal.feed()[:-3]  # the emulated terminal drops what it has no room for
    draw(region, "four", "five", columns=columns, rows=rows)
    terminal.stream.write("more\n")
    assert terminal.feed() == [*kept, "more", "four", "five"]
    assert terminal.screen.margins == (0, rows - 4)
    monkeypatch.setattr(_region, "terminal_size", lambda stream: (columns, rows))
    region.end()
    assert terminal.feed() == [*kept, "more"]


def test_a_new_size_just_before_the_end_leaves_nothing(monkeypatch):
    terminal = Resized()
    region = Region(terminal.stream)
    terminal.stream.write("above\n")
    draw(region, "one", "two")
    terminal.resize(80, 30)
    monkeypatch.setattr(_region, "terminal_size", lambda stream: (80, 30))
    region.end()
    assert terminal.feed() == ["above"]
    assert terminal.screen.margins is None


def test_a_terminal_that_became_too_small_is_left_alone():
    terminal = Resized()
    region = Region(terminal.stream)
    terminal.stream.write("above\n")
    draw(region, "one", "two")
    terminal.resize(80, 4)
    draw(region, columns=80, rows=4)
    assert "one" not in terminal.feed()
    assert terminal.screen.margins is None
    terminal.resize(80, 24)
    draw(region, "three")
    assert terminal.feed()[-1] == "three"


@pytest.mark.parametrize(
    ("columns", "rows", "count"), [(80, 24, 18), (80, 100, 75), (80, 8, 4), (80, 7, 0), (1, 24, 0), (2, 24, 18)]
)
def test_others_have_rows_too(columns, rows, count):
    assert drawable_rows(columns, rows) == count


def test_what_writing_raises_is_raised_to_who_draws():
    class Broken(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    region = Region(Broken())
    with pytest.raises(BrokenPipeError):
        draw(region, "one")
    with pytest.raises(BrokenPipeError):
        region.end()
    region.abandon()
    region.end()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_each_drawing_is_one_write(monkeypatch):
    ours, theirs = os.openpty()
    texts: list[bytes] = []
    write = os.write

    def note(file: int, data: bytes) -> int:
        texts.append(data)
        return write(file, data)

    monkeypatch.setattr("os.write", note)
    with open(theirs, "w", encoding="utf-8") as stream:
        region = Region(stream)
        draw(region, "one", "two")
        draw(region, "three", "…")
        region.end()
        assert [text[-2:] for text in texts] == [b"\x1b8"] * 3
        assert b"".join(texts).decode() == os.read(ours, 10_000).decode()
    os.close(ours)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_one_at_a_time_draws_in_a_terminal():
    ours, theirs = os.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        first, second = Region(stream), Region(stream)
        assert first.claim()
        assert first.claim()
        assert not second.claim()
        first.end()
        assert second.claim()
        second.abandon()
    assert Region(Stream()).claim()
    os.close(ours)


@pytest.mark.parametrize("term", ["dumb", "unknown", "DUMB"])
def test_a_dumb_terminal_is_none(term, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Stream())
    monkeypatch.setenv("TERM", term)
    assert not is_terminal(Stream())


def test_what_cannot_be_drawn_on_is_no_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    closed: Any = Stream()
    latin: Any = Stream()
    closed.close()
    latin.encoding = "latin-1"
    assert not any(map(is_terminal, (None, object(), closed, latin, Stream(is_terminal=False))))
