"""What the commands print to a terminal, in colour. WRITE_PICTURES=1 puts pictures of it into the docs."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
pytestmark = pytest.mark.browser

SEEING = Path(__file__).parents[2] / "docs" / "seeing.md"
COLUMNS = 112
COMMANDS = {
    "run": ["run", "app.py:flow", "30", "--timeout", "60"],
    "list": ["list"],
    "show": ["show", "pages"],
    "stats": ["show", "pages", "--stats"],
    "tail": ["tail", "pages"],
}
"""Commands that have a picture, in the order in which they run."""
SAYS = {
    "run": ["WARNING  - fetch(3) FAILED LookupError: no page 3", "fetch × 30: 26 ok, 4 failed"],
    "list": ["RUN", "pages Pages Completed 31"],
    "show": ["├─ fetch(3)  Failed", "(slowest)"],
    "stats": ["calls: 27 completed, 4 failed", "waited for (critical path):"],
    "tail": ["fetch(3)  Failed", "31 calls, 4 failed"],
}
PAGE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0 }
pre { width: 900px; margin: 0; padding: 14px 18px; background: #14181d; color: #e4e8ee; white-space: pre-wrap }
pre, pre * { font: 13px/1.4 'DejaVu Sans Mono', monospace }
</style><body><pre>"""


def run_in_terminal(words):
    """Run a command in a terminal, and return what it shows."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment.pop("RAILTRACKS_LOGGING_SETTING", None)
    command = [sys.executable, "-m", "railtracks", *words]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                read = os.read(ours, 65_536)
            except OSError:  # Linux says so at the end
                break
            if not read:
                break
            shown += read
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def as_html(text):
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(text), soft_wrap=True)
    return PAGE + console.export_html(theme=MONOKAI, inline_styles=True, code_format="{code}").rstrip()


@pytest.fixture
def app():
    """The example of the documentation, as a file."""
    found = re.search(r"```python\n(import anyio.*?)\nflow\.invoke", SEEING.read_text("utf-8"), re.DOTALL)
    assert found is not None
    Path("app.py").write_text(found.group(1), "utf-8")


def test_commands_in_a_terminal(browser, app):
    for name, words in COMMANDS.items():
        text = f"$ railtracks {' '.join(words)}\n{run_in_terminal(words)}"
        browser.open(as_html(text), (1100, 2000))
        shown = " ".join(browser.text("pre").split())
        for line in SAYS[name]:
            assert " ".join(line.split()) in shown
        browser.picture(name, "pre")
