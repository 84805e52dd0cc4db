"""Runs to look at: made once in a process, and put into the folder of each test."""

import shutil
from typing import Any

import pytest

import railtracks as rt
from railtracks.exceptions import RunSuspended

EVIL = "<script>alert(1)</script>"


@rt.function_node
async def fetch(page):
    if page % 7 == 3:
        raise LookupError(f"no page {page} {EVIL}")
    return f"page {page}"


@rt.function_node
async def crawl(count, strict=False):
    pages = await rt.call_batch(fetch, range(count), return_exceptions=not strict)
    return [str(page) for page in pages]


@rt.function_node
async def approve(order):
    return await rt.ask(f"May {order} be sent? {EVIL}")


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    options: Any = {"store": f"file:{folder}", "logging_setting": "NONE"}
    rt.Flow("Pages", crawl, run_identifier="good", **options).invoke(12)
    rt.Flow("Pages", crawl, run_identifier="longer", **options).invoke(20)
    with pytest.raises(LookupError):
        rt.Flow("Pages", crawl, run_identifier="bad", **options).invoke(12, strict=True)
    with pytest.raises(RunSuspended):
        rt.Flow(f"Orders {EVIL}", approve, run_identifier="waiting", **options).invoke("A-17")
    return folder


@pytest.fixture
def runs(made_runs, tmp_path):
    """The default store, with the runs good, longer, bad and waiting, in the order in which they began."""
    shutil.copytree(made_runs, tmp_path / ".railtracks")
