"""Use the installed Railtracks as somebody does who has installed it: run, fail, resume, load, and what an extra gives.

Run it in an empty folder, with ``python -I``, so that no checkout is imported: ``python -I smoke.py testing``. Its
argument is the extra that was installed, if there is one. ``.ci/release.py`` runs it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path

import railtracks as rt
from railtracks.page._render import _LIBRARY, _SCRIPTS

TEST = """
import railtracks as rt

async def double(number: int) -> int:
    return 2 * number

async def test_a_session_is_open(rt_session, virtual_clock):
    assert await rt.call(double, 21) == 42
    assert rt_session.info.answer == 42

def test_a_simulated_run_keeps_the_promise(simulated):
    assert simulated(double, 21, seed=3).result == 42
"""

ASSETS = ("page.html", "page.css", "flame-chart.LICENSE.txt", _LIBRARY, *_SCRIPTS)

failures = [OSError("the network is down")]
fetched = []


@rt.function_node
async def fetch(page: int) -> str:
    fetched.append(page)
    return f"page {page}"


@rt.function_node
async def read(pages: int) -> str:
    texts = await rt.call_batch(fetch, range(pages), return_exceptions=False)
    if failures:
        raise failures.pop()
    return ", ".join(texts)


def check_the_package() -> None:
    package = Path(rt.__file__).parent
    assert package.parent == Path(sysconfig.get_path("purelib")), f"expected the installed package, imported {package}"
    assert (package / "py.typed").is_file()
    assert importlib.metadata.version("railtracks") == rt.__version__


def check_the_page() -> None:
    folder = files("railtracks.page").joinpath("assets")
    missing = [name for name in ASSETS if not folder.joinpath(name).is_file()]
    assert not missing, f"the page of a run lacks {missing}"


def check_a_run() -> None:
    flow = rt.Flow("Reading", entry_point=read, run_identifier="smoke", logging_setting="QUIET")
    try:
        flow.invoke(3)
    except OSError as error:
        assert str(error) == "the network is down"  # noqa: PT017 (this is not a test)
    else:
        raise AssertionError("the first run has to fail")
    assert flow.resume("smoke") == "page 0, page 1, page 2"
    assert sorted(fetched) == [0, 1, 2], "a call that had completed ran again"
    info = rt.ExecutionInfo.load(".railtracks/smoke.json")
    assert info.answer == "page 0, page 1, page 2"


def imports_of(extra: str) -> set[str]:
    """Return the packages that the distributions of an extra bring, such as "any_llm" of "any-llm"."""
    requirements = importlib.metadata.requires("railtracks") or []
    marked = re.compile(rf"""extra == ['"]{extra}['"]""")
    brought = {re.split(r"[^\w.-]", each)[0].lower() for each in requirements if marked.search(each)}
    assert brought or not extra, f"expected one of the extras, got {extra}"
    provided = importlib.metadata.packages_distributions()
    return {
        name for name, owners in provided.items() if brought & {owner.lower() for owner in owners} and name[0] != "_"
    }


def check_the_modules(extra: str) -> None:
    """Check that every module is imported, unless it needs a package that the extra does not bring."""
    brought = imports_of(extra)
    for name in brought:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(rt.__path__, "railtracks.", onerror=lambda _: None):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"", "railtracks", *brought}:
                raise


def check_the_command() -> None:
    command = [sys.executable, "-I", "-m", "railtracks", "show", "smoke"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fetch" in done.stdout, done.stdout


def check_the_plugin() -> None:
    Path("test_plugin.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "-I", "-m", "pytest", "-p", "no:cacheprovider", "--railtracks-leaks", "test_plugin.py"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " 4 passed" in done.stdout, done.stdout  # each on both backends


if __name__ == "__main__":
    assert not Path("railtracks").exists(), "expected an empty folder to run in"
    check_the_package()
    check_the_page()
    check_a_run()
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    check_the_modules(chosen)
    if chosen in ("cli", "ui"):
        check_the_command()
    if chosen == "testing":
        check_the_plugin()
    python = ".".join(map(str, sys.version_info[:2]))
    print(f"railtracks{f'[{chosen}]' if chosen else ''} {rt.__version__} works as installed on Python {python}")
