"""Running one drawn flow with its fault, as often as it takes, and comparing its end and its record with the model."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs

import railtracks as rt
from railtracks.state import FileStore, MemoryStore, SQLiteStore, Status
from tests import postgres
from tests.soak.drawing import Given, Plan, expected

STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _: MemoryStore(),
    "file": lambda folder: FileStore(folder / "files"),
    "sqlite": lambda folder: SQLiteStore(folder / "runs.db"),
    "postgres": postgres.store_of,
}
ATTEMPTS = 3
"""A run that does not end with so many is wrong: the second one has no fault."""


@attrs.define
class Tally:
    """What happened in all."""

    sessions: int = 0
    calls: int = 0
    survived: collections.Counter[str] = attrs.field(factory=collections.Counter)
    wrong: list[str] = attrs.field(factory=list)


class FailingStore:
    """A store whose writes fail from one on.

    Args:
        store: The store.
        healthy: How many writes succeed.
    """

    def __init__(self, store: Any, healthy: int) -> None:
        self._store, self._healthy = store, healthy
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _write(self) -> None:
        self._healthy -= 1
        if self._healthy < 0:
            self.failed += 1
            raise OSError("the disk is full")

    def open(self, *args: Any, **options: Any) -> Any:
        self._write()
        return _FailingAppender(self._store.open(*args, **options), self._write)

    def save(self, *args: Any) -> None:
        self._write()
        self._store.save(*args)


class _FailingAppender:
    def __init__(self, appender: Any, write: Callable[[], None]) -> None:
        self._appender, self._write = appender, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._appender, name)

    def append(self, *args: Any) -> Any:
        self._write()
        return self._appender.append(*args)


class Soaked:
    """One run: its plan, its store and its attempts."""

    def __init__(self, plan: Plan, store: Any, kind: str, backend: str, tally: Tally) -> None:
        self.plan, self.store, self.kind, self.backend, self.tally = plan, store, kind, backend, tally
        self.identifier = f"soak-{plan.seed}"
        self.is_on_record = True

    async def run(self) -> None:
        """Run it until it has ended, and note what is wrong."""
        try:
            ended = await self._end()
            if ended != expected(self.plan):
                self._note(f"it {' '.join(ended)}, expected: {' '.join(expected(self.plan))}")
            await anyio.to_thread.run_sync(self._check_record, ended)
        except Exception as exc:
            self._note(f"{type(exc).__name__}: {exc}")

    async def _end(self) -> Given:
        for attempt in range(ATTEMPTS):
            self.tally.sessions += 1
            ended = await self._attempt(with_fault=attempt == 0)
            if ended is not None:
                return ended
        return "never", "ended"

    async def _attempt(self, with_fault: bool) -> Given | None:
        """Run or resume it; return how it has ended, or None if its fault has ended it."""
        plan, store = self.plan, self.store
        options: dict[str, Any] = {"durability": self.plan.durability}
        fault = plan.fault if with_fault else "none"
        if fault in ("store fails", "store ends it"):
            store = FailingStore(store, int(plan.moment * 12))
            options["on_write_error"] = "stop" if fault == "store ends it" else "continue"
        flow = rt.Flow(
            "Soak", plan.tree, store=store, run_identifier=self.identifier, if_exists="resume",
            timeout=plan.timeout, logging_setting="NONE", allow_rerun=True, **options,
        )  # fmt: skip
        after = plan.moment * 0.02 if fault == "cancelled" else float("inf")
        ended: Given | None = None
        try:
            with anyio.move_on_after(after) as scope:
                try:
                    ended = "returned", repr(await flow.ainvoke())
                except Exception as exc:
                    ended = "raised", type(exc).__name__
        except ExceptionGroup:  # on trio, what was raised beside the cancellation leaves the scope
            if not scope.cancel_called:
                raise
        failed = getattr(store, "failed", 0)
        broken = fault == "store ends it" and failed and ended is not None and ended != expected(plan)
        self.is_on_record = not failed
        if ended is None or broken or failed or fault in ("timed out", "fatal", "worker killed"):
            self.tally.survived[fault] += 1
        return None if broken else ended

    def _check_record(self, ended: Given) -> None:
        """Check what is on record, and remove it, so that stores stay small."""
        if self.is_on_record:
            info = rt.state.load_run(self.identifier, self.store)
            self.tally.calls += len(info.records)
            statuses = {record.status for record in info.records}
            if Status.OPEN in statuses:
                self._note(f"a call is open on record: {info}")
            first = info.records[0].status
            if first is not (Status.COMPLETED if ended[0] == "returned" else first):
                self._note(f"on record it is {first.value}, but it {' '.join(ended)}")
            if ended[0] == "returned" and repr(info.answer) != ended[1]:
                self._note(f"on record it returned {info.answer!r}, but it {' '.join(ended)}")
        self.store.remove(self.identifier)

    def _note(self, what: str) -> None:
        plan = self.plan
        replay = f"--backend {self.backend} --store {self.kind} --seed {plan.seed} --flows 1"
        self.tally.wrong.append(
            f"{what}\n    {plan.tree!r}\n    fault: {plan.fault}, durability: {plan.durability}\n"
            f"    replay: python -m tests.soak {replay}"
        )
