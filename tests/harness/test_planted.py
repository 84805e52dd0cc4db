"""The harness finds every planted defect within Hypothesis's default budget, small, and passes the corrected twin."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from hypothesis.internal.conjecture import engine

from tests.harness.planted import PLANTED, __main__, find, twins

MOST_CALLS = 5
HANGS = {
    "slot not given back", "locks in opposite order", "consumer waits for ever", "lost wake-up",
    "cancellation swallowed", "lost cancellation",
}  # fmt: skip
"""The defects that take seconds to shrink, because the programs hang."""
QUICK = {
    *HANGS, "race on context", "charged twice", "sent again", "leader elected twice", "condition without while",
    "job never done", "given back twice", "generator not closed", "result compared by identity",
    "call not awaited", "slot given to a cancelled request", "item dropped by a stream",
    "swallowed cancellation", "wrong parent", "lost timeout", "limit let through",
}  # fmt: skip
"""The defects that are searched for at each change; the others are searched for with the slow tests."""


def searches(quick, chosen=PLANTED):
    """Return each defect with each way that should find it; all but the first ways of the quick ones are slow."""
    return [
        pytest.param(
            planted, way, marks=[pytest.mark.slow] * (planted.name not in quick or index > 0), id=f"{planted}-{way}"
        )
        for planted in chosen
        for index, way in enumerate(planted.ways)
    ]


@pytest.mark.parametrize("planted", [planted for planted in PLANTED if planted.name in HANGS], ids=str)
def test_it_finds_the_defect(planted, monkeypatch):
    monkeypatch.setattr(engine, "MAX_SHRINKS", 0)
    assert find(planted) is not None


@pytest.mark.parametrize(("planted", "way"), searches(QUICK - HANGS))
def test_it_finds_the_defect_and_shrinks_it(planted, way):
    found = find(planted, way)
    assert found is not None, "not found"
    most = max(MOST_CALLS, planted.least_calls)
    assert found.calls <= most, f"shrunk to {found.calls} calls only:\n{found.outcome}"


def test_the_documentation_lists_each():
    page = (Path(__file__).parents[2] / "docs/testing-reference.md").read_text(encoding="utf-8")
    assert [planted.name for planted in PLANTED if f"| {planted.text} | " not in page] == []


def test_no_two_have_one_name():
    names = [planted.name for planted in PLANTED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_passes_the_corrected_twin(planted):
    found = find(planted, broken=False, budget=3)
    assert found is None, f"{found.violation}"


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_passes_the_corrected_twin_in_all_ways(planted):
    for way in planted.ways:
        found = find(planted, way, broken=False, budget=30)
        assert found is None, f"{way}:\n{found.violation}"


@pytest.mark.slow
def test_the_weekly_job_finds_no_alarm(capsys):
    assert twins.main(["--examples", "300"]) == 0
    assert re.fullmatch(rf"\d{{3,4}} examples of {len(PLANTED)} twins, 0 alarms\n", capsys.readouterr().out)


def test_the_weekly_job_prints_an_alarm(capsys):
    """With the defect in the place of its twin."""
    [planted] = [planted for planted in PLANTED if planted.name == "leader elected twice"]
    wrong = attrs.evolve(planted, make=lambda broken: planted.make(True), ways=("seeds",))
    assert twins.main(["--examples", "20"], [wrong]) == 1
    text = capsys.readouterr().out
    assert text.startswith(
        "ALARM: the twin of 'leader elected twice', searched by seeds:\nthere is one leader: leaders: ["
    )
    assert "  simulate(start_cluster, 2, seed=" in text
    assert text.endswith(" of 1 twins, 1 alarms\n")


def test_the_table_has_what_was_found(capsys, monkeypatch):
    monkeypatch.setattr(__main__, "BUDGET", 3)  # of the twins
    assert __main__.main(["race on context", "leader elected twice", "--ways", "seeds"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[1:-1] == ["seeds", "faults", "sweep", "schedules"]
    assert [row.split(":")[0] for row in rows] == ["| race on context", "| leader elected twice"]
    assert all(row.endswith("|  |  |  | 0 |") for row in rows)


def test_the_table_of_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["no such defect"])
    assert "unknown: no such defect; the ways are seeds, " in capsys.readouterr().err
