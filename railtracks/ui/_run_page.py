"""The page of one run, from ``railtracks.page``, and what it is sent while the run changes."""

from __future__ import annotations

from collections.abc import Mapping
from signal import Signals
from typing import Any
from zlib import crc32

import attrs

from railtracks._exit_codes import ExitCode
from railtracks.page._data import latest_step, page_data
from railtracks.page._render import render_run
from railtracks.ui._actions import offered
from railtracks.ui._runs import RunState
from railtracks.ui._security import CSRF_HEADER, Access

RUN_POLICY = "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
"""What the page cannot say itself. What it may load stands in it, with the hashes of its scripts."""


_MAX_DIGITS = 18
"""The number of digits of the largest step."""
MEANINGS: Mapping[int, str] = {
    ExitCode.FAILED: "has failed",
    ExitCode.USAGE: "could not begin",
    ExitCode.SUSPENDED: "has ended: the run waits for an answer or a message",
    ExitCode.TIMED_OUT: "has timed out",
    ExitCode.INTERRUPTED: "was interrupted",
}
"""What the exit codes of ``railtracks resume`` say."""


@attrs.frozen
class Shown:
    """What a page shows of a run, so that it is sent only what has changed since."""

    step: int
    """The step of the latest call that began or ended."""
    began: str
    """When the session began that wrote the run, which is another one after it was resumed."""
    stamp: str

    def __str__(self) -> str:
        return f"{self.step}~{self.began}~{self.stamp}"

    @classmethod
    def parse(cls, text: str | None) -> Shown | None:
        """Return what a text stands for; None if it is not such a text."""
        parts = (text or "").split("~")
        is_such = len(parts) == 3 and parts[0].isdecimal() and len(parts[0]) <= _MAX_DIGITS
        return cls(int(parts[0]), *parts[1:]) if is_such else None

    @classmethod
    def of(cls, state: RunState, step: int) -> Shown:
        """Return what a page shows that has all of a run."""
        what = repr((state.stamp, state.state, state.attempt))
        return cls(step, repr(state.info.start_time), f"{crc32(what.encode()):08x}")


class RunPage:
    """Makes the page of a run, and what it is sent while the run changes: one object for each page.

    Args:
        access: The secrets of the server.
        identifier: The run.
        shown: What the page shows, as the text of ``Shown``; None if it is yet to be made.
    """

    def __init__(self, access: Access, identifier: str, shown: str | None = None) -> None:
        self._access = access
        self._address = f"{access.root}/runs/{identifier}"
        self._shown = Shown.parse(shown)

    def render(self, state: RunState) -> str:
        """Return the page."""
        shown = Shown.of(state, latest_step(state.info))
        live = {
            **self._live(state),
            "events": f"{self._address}/events?shown={shown}",
            "headers": {CSRF_HEADER: self._access.csrf},
            "list": f"{self._access.root}/",
        }
        return render_run(state.info, live=live)

    def describe(self, state: RunState) -> tuple[str, Any] | None:
        """Return the event that brings the page up to date; None if it is."""
        before = self._shown
        now = Shown.of(state, latest_step(state.info))
        if before is not None and before.stamp == now.stamp:
            return None
        if before is not None and before.began != now.began:
            return "reset", {}
        since = before.step if before is not None and state.state == "running" else None
        data = {**page_data(state.info, since), "live": self._live(state)}
        self._shown = now
        return "update", data

    def _live(self, state: RunState) -> dict[str, Any]:
        """Return what can be done with the run, and what there is to say of it."""
        actions = {action: f"{self._address}/{action}" for action in offered(state)}
        return {"actions": actions, "notice": _notice(state)}


def _notice(state: RunState) -> dict[str, Any] | None:
    """Return what is to be said of the process that has resumed the run; None if nothing is."""
    attempt = state.relevant_attempt
    if attempt is None or attempt.code == ExitCode.COMPLETED:
        return None
    if attempt.ended is None:
        return {"text": "It is being resumed, in a process of its own.", "output": "", "failed": False}
    if state.state == "running" or state.is_over:
        return None  # it has gone on since
    return {
        "text": f"The process that resumed it {_meaning(attempt.code)}.",
        "output": "\n".join(attempt.lines),
        "failed": attempt.code != ExitCode.SUSPENDED,
    }


def _meaning(code: int | None) -> str:
    """Return what an exit code says. It is None if it is not known, and negative if a signal ended the process."""
    if code is None:
        return "has ended"
    if code < 0:
        names = {each.value: each.name for each in Signals}
        return f"was ended by the signal {names.get(-code, -code)}"
    return f"{MEANINGS.get(code, 'has ended')} (exit code {code})"
