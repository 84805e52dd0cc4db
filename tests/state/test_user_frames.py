"""Tracebacks for people: frames of the libraries that run nodes are left out, whatever stands around them."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.state._views._texts import traceback_of
from railtracks.state._views._user_frames import without_library_frames

FRAME = """  File "{}", line 12, in run
    return await wrapped(
           ^^^^^^^^^^^^^^
"""
OWN = FRAME.format("/home/me/railtracks/shop.py")
HEADER = "Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/python3.12/asyncio/tasks.py",
        "/srv/venv/lib/python3.11/site-packages/anyio/_core/_tasks.py",
        "C:\\app\\Lib\\site-packages\\railtracks\\execution\\_coordinator.py",
        rt.__file__.replace("__init__.py", "execution/_coordinator.py"),
    ],
)
def test_frames_of_libraries_are_left_out(path):
    library = FRAME.format(path)
    expected = f"{HEADER}{OWN}ValueError: no"
    assert without_library_frames(f"{HEADER}{library}{OWN}{library}ValueError: no") == expected


def test_an_exception_without_other_frames_has_its_message_alone():
    library = FRAME.format("/usr/lib/python3.12/asyncio/tasks.py")
    repeated = "  [Previous line repeated 900 more times]\n"
    assert without_library_frames(f"{HEADER}{library}{repeated}RecursionError: deep\n") == "RecursionError: deep\n"


@pytest.mark.parametrize("text", ["", "ValueError: no", f"{HEADER}{OWN}ValueError: no\n  in two lines\n", "\n\n"])
def test_anything_else_stays(text):
    assert without_library_frames(text) == text


async def test_recorded_groups_and_causes_keep_their_own_frames(backend):
    @rt.function_node
    async def fetch():
        try:
            raise KeyError("page")
        except KeyError as exc:
            raise ValueError("no such page") from exc

    @rt.function_node
    async def fetch_all():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, fetch)

    with pytest.raises(ExceptionGroup):
        await rt.Flow("Pages", fetch_all, run_identifier="pages").ainvoke()
    info = rt.state.load_run("pages")
    for record in info.records:
        text = traceback_of(record)
        files = [line.split('"')[1] for line in text.splitlines() if 'File "' in line]
        assert set(files) == {__file__}
        assert "KeyError: 'page'" in text
        assert "ValueError: no such page" in text
        assert "direct cause" in text
