"""``python -m nox -s NAME``: demo, tests, lint, types, docs, bench."""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types"]

PYTHONS = ["3.11", "3.12", "3.13"]
PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """The project as it is here, and what the dependency groups name."""
    session.install("-e", ".", *(name for group in groups for name in PYPROJECT["dependency-groups"][group]))


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: audit this interpreter's own standard library. Arguments go to docs/scripts/audit.py."""
    session.install("-e", ".[rich]")
    session.run("python", "docs/scripts/audit.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test-suite, on the Python that runs nox, in as many processes as there are cores. Arguments go to pytest."""
    install(session, "test", "types")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session(name="tests-all", python=[python for python in PYTHONS if shutil.which(f"python{python}")] or None)
def tests_all(session: nox.Session) -> None:
    """The test-suite, on each supported Python that is present."""
    install(session, "test", "types")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: lint and format."""
    session.install(*PYPROJECT["dependency-groups"]["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, over the library and the runnable examples."""
    install(session, "types")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, strictly: a missing page or snippet is an error."""
    session.install(*PYPROJECT["dependency-groups"]["docs"])
    session.run("zensical", "build", "--clean", "--strict")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks: ratios within one run, on both backends."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
