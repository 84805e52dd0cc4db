"""The pages for developers name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE_FOLDERS = [path.name for path in (ROOT / "railtracks").iterdir() if path.is_dir()]
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|_\w+\.py|\.ci/\w+|noxfile\.py|pyproject\.toml)`")


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "docs/design.md", "docs/design-harness.md", "README.md", "SECURITY.md"]
)
def test_the_files_that_a_page_names_exist(page):
    named = PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    places = [ROOT, ROOT / "railtracks"]
    missing = [
        name
        for name in named
        if not name.startswith((".railtracks", "dist/", "site/"))  # what programs write
        and not any((place / name).exists() for place in places)
        and not list((ROOT / "railtracks").rglob(name) if "/" not in name else ())
    ]
    assert missing == []


def test_the_pages_name_files_at_all():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(PATH.findall(text)) > 10
    assert PATH.fullmatch("`railtracks/_options.py`")
    assert set(PACKAGE_FOLDERS) > {"state", "execution"}
