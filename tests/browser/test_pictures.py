"""What somebody sees who opens the page of the audit for the first time. WRITE_PICTURES=1 puts it into the docs."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from railtracks.page._render import render_run
from railtracks.state import load_run
from railtracks.state._views._failures import failures_of

pytestmark = pytest.mark.browser

AUDIT = Path(__file__).parents[2] / "docs" / "scripts" / "audit.py"
PACKAGES = ["asyncio", "concurrent", "email", "http", "importlib", "json", "logging", "unittest", "urllib", "xml"]
BROKEN = {
    "tabs.py": b"def f():\n\tif True:\n        return 1\n",
    "old_print.py": b"print 'hello'\n",
    "latin.py": b"name = '\xe9'\n",
}


@pytest.fixture
def audit():
    """A run of the demo over a part of the standard library, and three files that do not parse."""
    folder = Path("python/lib")  # relative, for paths that can be read
    for package in PACKAGES:
        shutil.copytree(Path(sysconfig.get_path("stdlib"), package), folder / package)
    (folder / "broken").mkdir()
    for name, source in BROKEN.items():
        (folder / "broken" / name).write_bytes(source)
    # In a process of its own: Hypothesis watches the garbage collector, with which `ast.parse` fails on Python 3.11.
    done = subprocess.run([sys.executable, AUDIT, folder], check=True, capture_output=True, text=True, timeout=300)
    command = done.stdout.splitlines()[-1]
    assert "railtracks view" in command
    return load_run(command.split()[-1])


IN_SIGHT = """
const box = arguments[0].getBoundingClientRect();
return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)?.closest("section") ===
  arguments[0].closest("section") && box.bottom <= innerHeight;
"""


def test_the_first_screen_says_what_was_slow_and_what_failed(browser, audit):
    browser.open(render_run(audit), "desktop")
    assert browser.text("#headline") == "It completed, although 3 calls failed."
    failures = browser.driver.find_elements("css selector", ".problems li")
    assert len(failures) == len(BROKEN)
    for element, record in zip(failures, failures_of(audit.records), strict=True):
        assert Path(record.args[0]).name in element.text
        assert "Error: " in element.text
        assert browser.run(IN_SIGHT, element)
    slowest = max(
        (r for r in audit.records if r.name == "parse"), key=lambda record: (record.ended or 0.0) - record.started
    )
    links = browser.driver.find_elements("css selector", ".bars .call-link")
    [link] = [each for each in links[:3] if Path(slowest.args[0]).name in each.text]
    assert browser.run(IN_SIGHT, link)
    browser.picture("view")


def test_pictures_of_each_view(browser, audit):
    browser.open(render_run(audit), "desktop", "dark")
    browser.run(
        "const {model} = railtracks.app, slowest = model.run.slowest.map(([index]) => model.get(index));"
        "railtracks.app.select(slowest.find((call) => call.name === 'parse'));"
        "railtracks.app.timeline.view.scrollIntoView()"
    )
    browser.settle()
    assert browser.text("#details h3").startswith("parse(")
    browser.picture("view-dark")
    browser.open(render_run(audit), "phone")
    browser.picture("view-phone")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
