"""Build what a release consists of, and check it: ``python -m nox -s release_check``.

It builds twice, from the checkout and from the source distribution, and the files must be equal. It checks the
metadata, that the source distribution has the files that git has, and the wheel those of the package. It uses the wheel
with each extra alone on each Python that is present, and writes a bill of materials and the licences of dependencies.
In the end all that a release has is in ``dist/``.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

SMOKE = Path(__file__).with_name("smoke.py")
LICENCES = (
    "MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "MPL", "Mozilla Public", "LGPL", "Unlicense",
)  # fmt: skip
"""Parts of the names of the licences that a dependency may have: those that lay nothing on a program that uses it."""


def run(*command: str | Path, folder: Path | None = None, **variables: str) -> None:
    """Run a command, show it, and end the program if it fails."""
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=folder, env={**os.environ, **variables}, check=False)
    if done.returncode:
        sys.exit(f"it failed with {done.returncode}")


def tool(name: str) -> Path:
    """Return a program that is installed beside this Python."""
    return Path(sys.executable).with_name(name)


def build(source: Path, target: Path) -> list[Path]:
    """Build both distributions of a source, as of the last commit, and return them."""
    date = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True).stdout
    options = "--installer", "uv", "--outdir", target
    run(sys.executable, "-m", "build", *options, source, SOURCE_DATE_EPOCH=date.strip())
    [archive], [wheel] = target.glob("*.tar.gz"), target.glob("*.whl")
    return [archive, wheel]


def check_that_builds_are_equal(first: list[Path], folder: Path) -> None:
    """Build again, elsewhere, from the source distribution."""
    with tarfile.open(first[0]) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    for one, other in zip(first, build(source, folder / "again"), strict=True):
        if not filecmp.cmp(one, other, shallow=False):
            sys.exit(f"{one.name} is another file when it is built again")
    print("the builds are equal")


def check_contents(built: list[Path]) -> None:
    """Check the metadata, and which files there are."""
    run(tool("twine"), "check", "--strict", *built)
    run(tool("check-wheel-contents"), built[1])
    run(tool("check-sdist"), "--installer", "uv")


def extras_of(wheel: Path) -> list[str]:
    """Return the names of the extras."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = BytesParser().parsebytes(archive.read(name))
    return [str(extra) for extra in metadata.get_all("Provides-Extra", [])]


def python_of(version: str) -> Path | None:
    """Return the Python of a version, on the path or of pyenv, if there is one that runs."""
    found = shutil.which(f"python{version}")
    candidates = [Path(found)] if found else []
    candidates += Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}")
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
        if not done.returncode:  # pyenv's shims may lead nowhere
            return candidate
    return None


def environment(python: Path, folder: Path, *packages: str) -> Path:
    """Make a fresh environment, and return its Python."""
    run(tool("uv"), "venv", "--quiet", "--python", python, folder)
    made = folder / "bin" / "python"
    run(tool("uv"), "pip", "install", "--quiet", "--python", made, *packages)
    return made


def check_extras(wheel: Path, extras: list[str], versions: list[str], folder: Path) -> None:
    """Use the wheel with each extra alone; the empty name is none."""
    missing = []
    for version in versions:
        found = python_of(version)
        if found is None:
            missing.append(version)
            continue
        for extra in extras:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                python = environment(found, Path(place, "venv"), f"{wheel}[{extra}]" if extra else str(wheel))
                Path(place, "empty").mkdir()
                run(python, "-I", SMOKE, *[extra] * bool(extra), folder=Path(place, "empty"))
    if missing:
        print(f"NOT TRIED, as they are not installed: Python {', '.join(missing)}")


def write_bill(wheel: Path, extras: list[str], target: Path, folder: Path) -> None:
    """Write a bill of materials, and the licences of all dependencies, and check these."""
    everything = f"{wheel}[{','.join(extra for extra in extras if extra)}]"
    python = environment(Path(sys.executable), folder / "everything", everything)
    bill = "--output-reproducible", "--output-file", target / "sbom.cdx.json"
    run(tool("cyclonedx-py"), "environment", "--pyproject", "pyproject.toml", *bill, python)
    licences = tool("pip-licenses"), "--python", python, "--ignore-packages", "railtracks", "--from=mixed"
    run(*licences, "--with-urls", "--format=markdown", "--output-file", target / "licences.md")
    run(*licences, "--output-file", folder / "checked", "--partial-match", "--allow-only", ";".join(LICENCES))


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", required=True, help="a version such as 3.12; once for each")
    parser.add_argument("--extra", action="append", help="only this one, and no bill of materials")
    args = parser.parse_args()
    target = Path("dist").absolute()
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = build(Path.cwd(), target)
        (folder / "source").mkdir()
        check_that_builds_are_equal(built, folder / "source")
        check_contents(built)
        extras = ["", *extras_of(built[1])]
        check_extras(built[1], args.extra or extras, args.python, folder)
        if not args.extra:
            write_bill(built[1], extras, target, folder)
    print("in dist/:", *sorted(path.name for path in target.iterdir()))


if __name__ == "__main__":
    main()
