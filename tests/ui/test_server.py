"""The command ``railtracks ui``, as far as no server has to run for that."""

import logging
import subprocess
import sys

import pytest

from railtracks.cli._app import run_command_line
from railtracks.ui._server import _each_warning_once


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2"])
def test_a_missing_package_is_named_with_what_installs_it(package, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("railtracks.ui", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run_command_line(["ui", "--no-open"]) == 2
    error = capsys.readouterr().err
    assert package in error
    assert "install it with `pip install '.[ui]'` in a checkout of Railtracks" in error


def test_a_store_that_is_none_is_refused(capsys):
    assert run_command_line(["ui", "--no-open", "--store", "math:pi"]) == 2
    assert "is not a store" in capsys.readouterr().err


def test_a_warning_is_printed_once(caplog):
    log = logging.getLogger("RT")
    with _each_warning_once():
        for number in (1, 1, 2, 1):
            log.warning("the run %s is left out", number)
    log.warning("the run 1 is left out")
    assert [record.getMessage()[8] for record in caplog.records] == ["1", "2", "1"]


def test_the_command_line_does_not_load_the_server():
    code = "import sys, railtracks.cli._app; print({'starlette', 'uvicorn', 'jinja2'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
