"""Records that earlier releases wrote are read and resumed by this one; see README.md of this folder."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

import railtracks as rt
from railtracks.exceptions import FatalError
from railtracks.state import RunSummary, Status
from tests.compat import agent_flows, conversation_flows, flows, generate, policy_flows

pytestmark = pytest.mark.either_backend

HERE = Path(__file__).parent
DATABASE = "runs.sqlite"
VERSIONS = sorted(folder.name for folder in HERE.iterdir() if folder.is_dir() and not folder.name.startswith("__"))
UNIDENTIFIED = ["0.1.0.dev1"]
"""Versions that did not record what identifies a node: their runs can be read, and run again from the beginning."""
LEAVES = {
    "order": flows.ORDER_LEAVES,
    "poll": agent_flows.POLL_LEAVES,
    "advise": agent_flows.ADVISE_LEAVES,
    "deliver": policy_flows.DELIVER_LEAVES,
    "converse": conversation_flows.CONVERSE_LEAVES,
}
RESULTS = {
    "order": flows.ORDER_RESULT,
    "poll": agent_flows.POLL_RESULT,
    "advise": agent_flows.ADVISE_RESULT,
    "deliver": policy_flows.DELIVER_RESULT,
    "converse": conversation_flows.CONVERSE_RESULT,
}
CALLS = {"order": 11, "poll": 4, "advise": 12, "several": 3, "deliver": 18, "converse": 20}
"""How many calls an undisturbed run makes."""
RUN_AGAIN = {"reserve", "fragile"}
"""Leaves that every resumed run repeats: one is given a secret, which cannot be compared, and one had failed."""
WITHOUT_FAILURES = ["0.1.0.dev1", "0.1.0.dev2", "0.1.0.dev3", "0.1.0.dev4", "0.1.0.dev5"]
"""Versions whose records do not say that a failure was handled, so that it is tried again."""


def identifiers(version: str) -> list[str]:
    """Return the runs in the SQLite file of a version, without opening it in a way that writes beside it."""
    path = HERE / version / DATABASE
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        return sorted(
            identifier
            for (identifier,) in connection.execute("SELECT identifier FROM runs UNION SELECT identifier FROM journals")
        )


RUNS = [
    *((path.parent.name, "file:.", path.stem) for path in sorted(HERE.glob("*/*.j*")) if path.suffix != ".py"),
    *((version, f"sqlite:{DATABASE}", identifier) for version in VERSIONS for identifier in identifiers(version)),
]


def ids(value: Any) -> str | None:
    return value.partition(":")[0] if isinstance(value, str) else None


@pytest.fixture(autouse=True)
def no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "EFFECTS", [])


@pytest.fixture
def kept(version: str, tmp_path: Path) -> None:
    """Copy the records of a version into the working directory."""
    shutil.copytree(HERE / version, tmp_path, dirs_exist_ok=True)


def leaves_done(name: str, rest: list[str]) -> int:
    """Return how many leaves had returned when the run was interrupted for the last time."""
    return len(LEAVES[name]) if rest == ["completed"] else int(rest[-1])


def test_every_version_has_records_of_every_kind():
    kinds = {version: {path.suffix for path in (HERE / version).iterdir() if path.is_file()} for version in VERSIONS}
    assert kinds.pop("0.1.0.dev1") == {".json"}  # which had neither journals nor stores
    assert kinds
    assert all(found == {".json", ".journal", ".sqlite"} for found in kinds.values())


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("version", VERSIONS)
def test_runs_of_every_version_are_listed(version: str):
    for store in ("file:.", *([f"sqlite:{DATABASE}"] if (HERE / version / DATABASE).exists() else [])):
        for run in rt.state.list_runs(store):
            died = "killed" in run.identifier
            assert run.state == ("died" if died else "ended")
            assert isinstance(run, RunSummary)
            assert (run.status is None) == (died or version == "0.1.0.dev1")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("version", "store", "identifier"), RUNS, ids=ids)
def test_a_run_of_every_version_is_read(version: str, store: str, identifier: str):
    name, *rest = identifier.split("-")
    info = rt.state.load_run(identifier, store)
    assert info.damage is None
    assert info.session_id == identifier
    statuses = [record.status for record in info.records]
    if name == "several":
        assert statuses == [Status.CANCELLED, Status.COMPLETED, Status.COMPLETED]
        assert info.answer[1:] == [2, 4]
    elif rest == ["completed"]:
        assert len(info.records) == CALLS[name]
        assert set(statuses) <= {Status.COMPLETED, Status.FAILED}
        assert info.answer == RESULTS[name]
    else:
        assert statuses[0] is (Status.FAILED if "failed" in rest else Status.OPEN)
    assert rt.ExecutionInfo.from_document("".join(info.document()).encode()) == info


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("version", "store", "identifier"), [run for run in RUNS if run[2] != "several"], ids=ids)
def test_a_run_of_every_version_is_resumed(
    backend: Literal["asyncio", "trio"], version: str, store: str, identifier: str
):
    name, *rest = identifier.split("-")
    entry_point, args = generate.entry(name)
    connection = rt.Flow(name, entry_point, store=store, backend=backend, **generate.options(name)).connect()
    result = connection.resume(identifier, *(args if version in UNIDENTIFIED else ()))
    assert result == RESULTS[name]
    done = 0 if version in UNIDENTIFIED else leaves_done(name, rest)
    again = set() if rest == ["completed"] else RUN_AGAIN if version in WITHOUT_FAILURES else {"reserve"}
    expected = [leaf for number, leaf in enumerate(LEAVES[name]) if number >= done or leaf in again]
    assert expected == flows.EFFECTS
    # What was written goes on being read: the run has completed, so nothing of it runs another time.
    flows.EFFECTS.clear()
    assert rt.Flow(name, entry_point, store=store, backend=backend).resume(identifier) == RESULTS[name]
    assert flows.EFFECTS == []


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in UNIDENTIFIED])
@pytest.mark.parametrize("name", ["order", "poll", "advise", "deliver", "converse"])
def test_a_resumed_run_is_interrupted_again_and_again(
    monkeypatch: pytest.MonkeyPatch, backend: Literal["asyncio", "trio"], version: str, name: str
):
    """What was replayed from an earlier version's records is replayed again from what this version wrote of it."""
    if not (HERE / version / f"{name}-completed.json").exists():
        pytest.skip("this version had no such flow")
    how, (first, *_) = generate.INTERRUPTIONS[name][1 if name == "order" else 0]
    entry_point, _ = generate.entry(name)
    flow = rt.Flow(name, entry_point, store="file:.", backend=backend, **generate.options(name))

    def run_one_more(leaf: str) -> None:
        if sum(each not in RUN_AGAIN for each in flows.EFFECTS) == 2:
            raise FatalError(f"interrupted at {leaf}")

    monkeypatch.setattr(flows, "on_effect", run_one_more)
    new = [leaf for leaf in LEAVES[name][first:] if leaf not in RUN_AGAIN]
    for leaf, following in pairwise(new):
        flows.EFFECTS.clear()
        with pytest.raises(FatalError, match=f"interrupted at {re.escape(following)}"):
            flow.resume(f"{name}-{how}-{first}")
        assert [each for each in flows.EFFECTS if each not in RUN_AGAIN] == [leaf, following]
    flows.EFFECTS.clear()
    assert flow.resume(f"{name}-{how}-{first}") == RESULTS[name]
    assert [each for each in flows.EFFECTS if each not in RUN_AGAIN] == new[-1:]


def facts(record: Any) -> tuple[Any, ...]:
    policy = record.policy
    return record.name, record.status, *(() if policy is None else (policy.retry, policy.retried, policy.cached))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "version", [version for version in VERSIONS if (HERE / version / "deliver-completed.json").exists()]
)
@pytest.mark.parametrize("store", ["file:.", f"sqlite:{DATABASE}"])
def test_what_policies_and_streams_did_is_read(version: str, store: str):
    """Calls in a worker, attempts, cached results, and items of which few records are kept."""
    info = rt.state.load_run("deliver-completed", store)
    found = [facts(record) for record in info.records if record.policy is not None]
    done, failed = Status.COMPLETED, Status.FAILED
    assert found == [
        ("weigh", done, 0, False, None), ("book", failed, 0, True, None), ("book", done, 1, False, None),
        ("rate", done, 0, False, "session"), ("tariff", done, 0, False, "store"),
    ]  # fmt: skip
    assert info.records[1].policy.place == "process"
    assert [record.args for record in info.records if record.parent == 1] == [("tea",), ("sugar",)]
    assert [record.name for record in info.records if record.name in ("check", "note")] == ["check"]
    text = str(info)
    assert "2 items, 1 failed; 1 call not on record" in text
    assert "2 items; 2 calls not on record" in text
