"""The types of the public face, as mypy sees them. The file it checks is ``tests/typing/api.py``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parent.parent
API = ROOT / "tests" / "typing" / "api.py"


def mypy(file, cache):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, cwd=ROOT)
    return (done.stdout + done.stderr).splitlines()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def test_the_public_face_has_the_types_that_it_should(cache):
    assert mypy(API, cache) == []


def test_each_line_that_should_be_an_error_is_one(cache, tmp_path):
    text = API.read_text(encoding="utf-8")
    bare = tmp_path / "api.py"
    bare.write_text(re.sub(r"  # type: ignore\[.*", "", text), encoding="utf-8")
    wrong = {int(line.split(":")[1]) for line in mypy(bare, cache) if ": error: " in line}
    assert wrong == {number for number, line in enumerate(text.splitlines(), 1) if "# type: ignore[" in line}
