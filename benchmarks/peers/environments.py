"""Make an environment for each peer, and say what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from benchmarks.peers.peers import HERE, OFFLINE, Peer

CHECKOUT = Path(__file__).parents[2]

_ABOUT = """
import importlib.metadata, json, sys, time
name, module, *used = sys.argv[1:]
start = time.perf_counter()
imported = importlib.import_module(module)
for each in used:
    getattr(imported, each)
seconds = time.perf_counter() - start
print(json.dumps([importlib.metadata.version(name) if name else "", seconds]))
"""


@attrs.frozen
class Environment:
    """What was installed for a peer.

    Attributes:
        python: The path of its interpreter.
        version: The version of the library; empty for the standard library.
        packages: How many distributions it needs, itself included.
        megabytes: What they take on disk, before Python compiles them.
        import_seconds: How long the import takes, with what is loaded when it is first used; the fastest of five.
    """

    python: str
    version: str
    packages: int
    megabytes: float
    import_seconds: float


def make(peer: Peer, folder: Path) -> Environment:
    """Install a peer into ``folder``, or use what is there from an earlier time.

    Raises:
        subprocess.CalledProcessError: It cannot be installed or imported; the output says why.
    """
    path = folder / (peer.requires[0].replace("=", "") if peer.requires else "bare")
    python = str(path / "bin" / "python")
    uv = shutil.which("uv")
    if not path.exists():
        _run([uv, "venv", "-q", "-p", sys.executable, str(path)] if uv else [sys.executable, "-m", "venv", str(path)])
        requires = [str(CHECKOUT) if name == HERE else name for name in peer.requires]
        if requires:
            installer = [uv, "pip", "install", "-q", "-p", python] if uv else [python, "-m", "pip", "install", "-q"]
            _run([*installer, *requires])
    (site,) = path.glob("lib/python*/site-packages")
    packages = [each for each in site.glob("*.dist-info") if not each.name.startswith(("pip-", "setuptools-"))]
    size = sum(each.stat().st_size for each in site.rglob("*") if each.is_file() and each.suffix != ".pyc")
    name = peer.requires[0].split("=")[0] if peer.requires else ""
    about = [json.loads(_run([python, "-c", _ABOUT, name, peer.module, *peer.uses], path)) for _ in range(5)]
    return Environment(python, about[0][0], len(packages), size / 1e6, min(seconds for _, seconds in about))


def _run(command: list[str], cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=cwd, env=variables()).stdout


def variables() -> dict[str, str]:
    """Return the environment variables of a peer.

    Modules are compiled once, when they are installed, as in most programs: to compile all of them would be most of
    what an import takes.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **OFFLINE, "UV_COMPILE_BYTECODE": "1"}
