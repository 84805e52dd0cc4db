"""The types of the public face, as mypy sees them. The file it checks is ``tests/typing/api.py``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
API = ROOT / "tests" / "typing" / "api.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy finds in the file, and in a copy without the comments that expect errors, by one run."""
    folder = tmp_path_factory.mktemp("mypy")
    bare = folder / "bare.py"
    bare.write_text(re.sub(r"  # type: ignore\[.*", "", API.read_text(encoding="utf-8")), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={folder}"]
    done = subprocess.run([*command, str(API), str(bare)], capture_output=True, text=True, cwd=ROOT)
    lines = (done.stdout + done.stderr).splitlines()
    of_bare = [line for line in lines if line.startswith(str(bare))]
    return [line for line in lines if line not in of_bare], of_bare


def test_the_public_face_has_the_types_that_it_should(found):
    assert found[0] == []


def test_each_line_that_should_be_an_error_is_one(found):
    wrong = {int(line.split(":")[1]) for line in found[1] if ": error: " in line}
    expected = enumerate(API.read_text(encoding="utf-8").splitlines(), 1)
    assert wrong == {number for number, line in expected if "# type: ignore[" in line}
