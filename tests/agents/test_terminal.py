"""``ask_callback=input``, in processes of its own: with a pipe, with a terminal, and cancelled."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="standard input cannot be waited for there")

SCRIPT = """
import sys
import anyio
import railtracks as rt

@rt.function_node
async def node() -> list[str]:
    return [await rt.ask("First?"), await rt.ask("Second?")]

async def main():
    async with rt.Session(ask_callback=input, save_state=False, logging_setting="NONE", timeout=float(sys.argv[2])):
        try:
            print(await rt.call(node))
        except (EOFError, TimeoutError) as error:
            print(type(error).__name__)

anyio.run(main, backend=sys.argv[1])
"""

TOGETHER = SCRIPT.replace("rt.call(node)", 'rt.call_batch(rt.ask, ["First?", "Second?"])')


def start(backend, timeout, stdin, script=SCRIPT):
    command = [sys.executable, "-c", script, backend, str(timeout)]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_each_question_takes_a_line_of_a_pipe_and_no_more(backend):
    with start(backend, 60, subprocess.PIPE) as process:
        out, err = process.communicate("ja ñ\nno\nmore\n".encode(), timeout=60)
    assert (out.decode(), err, process.returncode) == ("First? Second? ['ja ñ', 'no']\n", b"", 0)


def test_two_questions_at_once_are_asked_one_after_the_other(backend):
    with start(backend, 60, subprocess.PIPE, TOGETHER) as process:
        out, err = process.communicate(b"yes\nno\n", timeout=60)
    assert (out, err, process.returncode) == (b"First? Second? ['yes', 'no']\n", b"", 0)


def test_the_end_of_the_input_is_an_error(backend):
    with start(backend, 60, subprocess.PIPE) as process:
        out, err = process.communicate(b"yes\n", timeout=60)
    assert (out, err, process.returncode) == (b"First? Second? EOFError\n", b"", 0)


def test_a_file_is_read_too(backend, tmp_path):
    (tmp_path / "answers").write_text("a\nb\n")
    with open(tmp_path / "answers") as answers, start(backend, 60, answers) as process:
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"First? Second? ['a', 'b']\n", b"", 0)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_an_unanswered_question_ends_with_its_session(backend, kind):
    """The process ends as well."""
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()[::-1]
    try:
        with start(backend, 0.2, theirs) as process:  # real time: it is another process that has to end
            out, err = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (out.split(b"First? ")[1], err, process.returncode) == (b"GlobalTimeOutError\n", b"", 0)
