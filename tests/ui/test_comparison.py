"""The page that compares two runs says what the comparison says."""

import pytest

from railtracks.state import load_run
from railtracks.state._comparison import compare
from tests.ui.client import visit
from tests.ui.conftest import EVIL

pytestmark = pytest.mark.either_backend


async def test_a_run_that_is_chosen_twice_counts_once(runs):
    async with visit() as visitor:
        once, twice = [await visitor.get(f"/compare?run=good&{more}run=longer") for more in ("", "run=good&")]
    assert (twice.status_code, twice.text) == (200, once.text)


async def test_the_page_shows_what_the_comparison_says(runs):
    async with visit() as visitor:
        page = (await visitor.get("/compare?run=good&run=longer")).text
        swapped = (await visitor.get("/compare?run=longer&run=good")).text
    found = compare(load_run("good"), load_run("longer"))
    for _, cells, change in found.node_rows():
        for text in (*filter(None, cells), change):
            assert f">{text}</td>" in page
    assert page.index("Failed in B only") < page.index("no page 17") < page.index("Where the time differs")
    assert swapped.index("Failed in A only") < swapped.index("no page 17") < swapped.index("Failed in B only")
    assert EVIL not in page


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("run=good", 400, "1 are chosen"), ("", 400, "0 are chosen"), ("run=good&run=good", 400, "choose two"),
        ("run=good&run=bad&run=longer", 400, "3 are chosen"), ("run=good&run=nothing", 404, "there is no run"),
        ("run=good&run=waiting", 400, "runs of one flow can be compared"), ("run=good&run=..", 400, "not allowed"),
    ],
)  # fmt: skip
async def test_what_cannot_be_compared_is_refused(runs, query, status, text):
    async with visit() as visitor:
        response = await visitor.get(f"/compare?{query}")
    assert response.status_code == status
    assert text in response.text
