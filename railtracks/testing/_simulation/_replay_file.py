"""A run as a file: all its decisions, in JSON that people can read, and that does not depend on any generator."""

from __future__ import annotations

import importlib
import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from railtracks.exceptions import ConfigError
from railtracks.testing import faults as known
from railtracks.testing._simulation._options import SimulationOptions
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._decisions import Decisions

VERSION = 1
"""The version of the format."""
_KEY = "railtracks replay"
_WIDTH = 100


def run_as_data(
    decisions: Decisions, how: SimulationOptions, args: tuple[Any, ...], code: str, end: str
) -> dict[str, Any]:
    """Return a run as data for a replay file.

    Args:
        decisions: What decided in the run.
        how: Its options.
        args: Its arguments, of which only the reprs are written.
        code: The call of ``simulate``, for people.
        end: How it ended, for people.

    Raises:
        ConfigError: a fault of its plan cannot be written.
    """
    scheduler = decisions.scheduler_of_run
    assert scheduler is not None
    return {
        "run": code,
        "end": end,
        "args": [stable_repr(each) for each in args],
        "options": {
            "seed": how.seed, "backend": how.backend, "world": how.world, "start": how.reading_at_start,
            **how.step_limits,
        },
        "faults": [_to_data(fault) for fault in how.faults],
        "random": decisions.chances,
        "wall_start": decisions.wall_start,
        "schedule": scheduler.kind,
        "order": _wrapped(_arranged(*each) for each in scheduler.arranged),
        "lateness": scheduler.latenesses,
        "threads": _wrapped(f"{chosen}/{count}" for chosen, count in decisions.threads.made),
        "switches": decisions.switches.made,
        "turns": _wrapped(str(chosen) for chosen, _ in decisions.turns.made),
        "chances": _wrapped(str(chosen) for chosen, _ in decisions.faults.made),
    }  # fmt: skip


def write_replay(path: str | os.PathLike[str], runs: Sequence[dict[str, Any]], needs: Sequence[str]) -> None:
    """Write a run to a file, with those before it that it resumed.

    Args:
        path: The file; it is overwritten.
        runs: The runs, in order.
        needs: The names of session options without which the first run cannot be repeated.

    Raises:
        OSError: the file cannot be written.
    """
    *before, run = runs
    document = {_KEY: VERSION, **run, **({"before": before} if before else {}), **({"needs": needs} if needs else {})}
    Path(path).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_replay(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the runs in a file that ``write_replay`` wrote, with faults in place of their data, and what they need.

    Raises:
        ConfigError: it is not such a file, or of another version.
        OSError: the file cannot be read.
    """
    try:
        document: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        version = document[_KEY]
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} is not a replay file; write one with outcome.save_replay(path)") from exc
    if version != VERSION:
        raise ConfigError(
            f"{path} is a replay file of version {version!r}, and this Railtracks reads version {VERSION}; "
            f"write it again with outcome.save_replay(path)"
        )
    try:
        return [_run_from(each) for each in (*document.pop("before", ()), document)], [*document.get("needs", ())]
    except (KeyError, TypeError, AttributeError, ValueError, ImportError) as exc:
        raise ConfigError(f"{path} is a damaged replay file: {exc!r}; write it again") from exc


def _run_from(data: dict[str, Any]) -> dict[str, Any]:
    """Return a run of a file, with faults in place of their data, and lists of decisions."""
    run = {"random": {}, "wall_start": None, "switches": (), **data}  # which older files have not
    run["faults"] = [_from_data(each) for each in data["faults"]]
    for name in ("order", "threads", "turns", "chances"):
        run[name] = " ".join(data[name]).split()
    run["switches"] = [int(each) for each in run["switches"]]
    run["random"] = {purpose: str(text) for purpose, text in run["random"].items()}
    run["wall_start"] = None if run["wall_start"] is None else float(run["wall_start"])
    SimulationOptions(**data["options"])
    return run


def _wrapped(words: Any) -> list[str]:
    return textwrap.wrap(" ".join(words), _WIDTH, break_on_hyphens=False, break_long_words=False)


def _arranged(ages: tuple[int, ...], taken: int) -> str:
    """Return the places, by age, of the tasks that took a step; and of how many, if some were held back."""
    places = sorted(range(len(ages)), key=ages.__getitem__)
    ranks = {place: rank for rank, place in enumerate(places)}
    text = ",".join(str(ranks[place]) for place in range(taken))
    return text if taken == len(ages) else f"{text}/{len(ages)}"


def _to_data(value: Any) -> Any:
    """Return a fault, or a part of one, as data for JSON."""
    if isinstance(value, type) and issubclass(value, Exception):
        return {"class": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, Exception):
        return {**_to_data(type(value)), "args": [_to_data(each) for each in value.args]}
    if attrs.has(type(value)) and type(value).__name__ in known.__all__:
        fields = {field.name: _to_data(getattr(value, field.name)) for field in attrs.fields(type(value))}
        return {"fault": type(value).__name__, **fields}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"save_replay: {value!r} in a fault cannot be written; use text, a number, or an exception of these"
    )


def _from_data(data: Any) -> Any:
    """Return the fault, or the part of one, that was written as ``data``."""
    if not isinstance(data, dict):
        return data
    if "fault" in data:
        fields = {name: _from_data(value) for name, value in data.items() if name != "fault"}
        if data["fault"] not in known.__all__:
            raise ValueError(f"{data['fault']!r} is not a fault")
        return getattr(known, data["fault"])(**fields)
    module, _, name = data["class"].partition(":")
    kind: Any = importlib.import_module(module)
    for part in name.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(f"{data['class']!r} is not an exception")
    return kind(*map(_from_data, data["args"])) if "args" in data else kind
