"""Records do not depend on private names: a copy of the package with other ones goes on where the original stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from tests.compat import generate
from tests.compat.renaming import renamed_copy
from tests.compat.test_compat import LEAVES, RESULTS, RUN_AGAIN

ROOT = Path(__file__).parents[2]
RESUME = """
import json, sys
import railtracks as rt
from tests.compat import flows, generate
name, identifier = sys.argv[1:]
flow = rt.Flow(name, generate.entry(name)[0], logging_setting="NONE", **generate.options(name))
print(json.dumps([flow.resume(identifier), flows.EFFECTS, rt.__file__]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a copy of the package in which everything private has another name."""
    folder = tmp_path_factory.mktemp("renamed")
    assert renamed_copy(ROOT / "railtracks", folder / "railtracks") > 400
    return folder


def python(arguments: list[str], packages: Path) -> str:
    """Run Python with the package that is in a folder, and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)]), "RAILTRACKS_HOME": "runs"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 9), done.stderr  # 9: the run was to be killed
    return done.stdout


def kill(name: str, leaf: int, packages: Path) -> None:
    python(["-m", "tests.compat.generate", "runs", "--run", name, name, generate.KILLED, str(leaf), "first"], packages)


@pytest.mark.parametrize("renamed_first", [True, False], ids=["renamed first", "renamed then"])
@pytest.mark.parametrize(("name", "leaf"), [("order", 9), ("poll", 2), ("advise", 7)])
def test_a_run_goes_on_with_other_private_names(copy: Path, name: str, leaf: int, renamed_first: bool):
    before, after = (copy, ROOT) if renamed_first else (ROOT, copy)
    kill(name, leaf, before)
    result, effects, file = json.loads(python(["-c", RESUME, name, name], after))
    assert Path(file).is_relative_to(after)
    assert result == RESULTS[name]
    again = RUN_AGAIN - {"fragile"}  # which failed, and whose caller had gone on
    assert effects == [each for at, each in enumerate(LEAVES[name]) if at >= leaf or each in again]


@pytest.mark.parametrize("name", ["order", "poll", "advise"])
def test_the_same_is_written_with_other_private_names(copy: Path, name: str):
    written: list[list[Any]] = []
    for packages in (ROOT, copy):
        kill(name, len(LEAVES[name]) - 1, packages)
        info = rt.ExecutionInfo.load(Path("runs", f"{name}.journal"))
        written.append([(r.name, r.node, r.node_type, r.inputs, r.changes, r.attributes) for r in info.records])
        written[-1] += [record.output for record in info.records if record.exception is None]
        Path("runs", f"{name}.journal").unlink()
    assert written[0] == written[1]
