"""The file of a cassette: JSON that is readable in a diff.

A request that goes on after an earlier answer has only the messages that are new, and texts of several lines are lists
of lines. So a conversation grows by what was said, and not each time by all that was said before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from railtracks.testing._cassettes._exchanges import CassetteError, Exchange, Plain

_VERSION = 1


def read(path: Path) -> tuple[Plain, list[Exchange]]:
    """Return the description of the model, and the exchanges.

    Raises:
        CassetteError: The file is not a cassette of this version.
        OSError: It cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["railtracks_cassette"]
        if version != _VERSION:
            raise CassetteError(f"{path} is a cassette of version {version}; this release reads version {_VERSION}")
        exchanges: list[Exchange] = []
        for number, each in enumerate(data["exchanges"], 1):
            exchanges.append(_read_exchange(number, each, exchanges))
        return data["model"], exchanges
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        raise CassetteError(
            f"{path} is not a cassette, or was damaged ({exc!r}); remove it, and record it anew"
        ) from exc


def _read_exchange(number: int, data: Plain, before: Sequence[Exchange]) -> Exchange:
    request, outcome = dict(data["request"]), dict(data["outcome"])
    messages = [_joined(message) for message in request["messages"]]
    if continued := request.pop("continues", None):
        messages = [*_with_answer(before[continued - 1]), *messages]
    request["messages"] = messages
    if "completion" in outcome:
        outcome["completion"] = {**outcome["completion"], "message": _joined(outcome["completion"]["message"])}
    return Exchange(number, request, outcome)


def write(path: Path, model: Plain, exchanges: Sequence[Exchange]) -> None:
    """Write the file whole, so that a reader finds the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    data = {
        "railtracks_cassette": _VERSION,
        "model": model,
        "exchanges": [_written(each, exchanges[:place]) for place, each in enumerate(exchanges)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _written(exchange: Exchange, before: Sequence[Exchange]) -> Plain:
    request, outcome = dict(exchange.request), dict(exchange.outcome)
    messages = request.pop("messages")
    head: Plain = {}
    for place, each in reversed([*enumerate(before, 1)]):
        said = _with_answer(each)
        if "completion" in each.outcome and messages[: len(said)] == said:
            head, messages = {"continues": place}, messages[len(said) :]
            break
    if "completion" in outcome:
        outcome["completion"] = {**outcome["completion"], "message": _split(outcome["completion"]["message"])}
    return {"request": {**head, "messages": [*map(_split, messages)], **request}, "outcome": outcome}


def _with_answer(exchange: Exchange) -> list[Any]:
    answers = [exchange.outcome["completion"]["message"]] if "completion" in exchange.outcome else []
    return [*exchange.request["messages"], *answers]


def _split(message: Plain) -> Plain:
    content = message.get("content", "")
    return {**message, "content": content.splitlines(keepends=True)} if "\n" in content else message


def _joined(message: Plain) -> Plain:
    content = message.get("content", "")
    return {**message, "content": "".join(content)} if isinstance(content, list) else message


def lines_of(request: Plain) -> Iterable[str]:
    """Return a request as lines, to be compared."""
    shown = {**request, "messages": [*map(_split, request["messages"])]}
    return json.dumps(shown, ensure_ascii=False, indent=2).splitlines()
