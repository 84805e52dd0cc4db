"""Nodes in worker processes and executors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio

from railtracks._context_variable import current
from railtracks.exceptions import SessionError, TransferError
from railtracks.execution._home import CallFrame, Home
from railtracks.execution._noted_waits import noted_wait
from railtracks.execution._remote._arrival import Arrival
from railtracks.execution._remote._off_loop import pack, unpack
from railtracks.execution._remote._order import Report
from railtracks.execution._remote._orders import make_order, pickled_config
from railtracks.execution._remote._outcome import note_failure, wait_for_timeout
from railtracks.execution._remote._place import log_foreign_records, log_output, note_place, output_members
from railtracks.execution._remote._stores import SentStore
from railtracks.execution._resources import shared
from railtracks.executors._outcome import Outcome, unpack_outcome
from railtracks.executors._runner import Runner
from railtracks.nodes import FunctionNode


class RunnerStrategy:
    """Runs nodes in workers.

    What the worker can do with a cancellation is its affair: work that cannot be ended is abandoned, and the record
    says so. A node with ``abandon_on_cancel=False`` is waited for.

    Args:
        name: The name of the place: "process", or that of an executor of the session.
        executor: The executor; None for worker processes of the session's own.
    """

    def __init__(self, name: str, executor: Any) -> None:
        self._name = name
        self._executor = executor
        self._config: Any = None  # the options for the worker, once they are known
        self._store: SentStore | None = None  # that of the session, from then on
        self._warned: set[str] = set()

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        frame: CallFrame = current.get()
        if self._config is None:
            store = frame.coordinator.store
            self._store = None if store is None else SentStore(store)
            self._config = pickled_config(frame.coordinator.config)
        runner = self._runner(node)
        store = None if self._store is None else self._store.reference
        order = make_order(frame, self._config, store, shares_memory=False)
        try:
            work = await pack(order, node, args, kwargs)
        except BaseException:
            _give_back(frame)
            raise
        try:
            answer = await self._run(runner, work, node, frame)
            what = f"{node.name}: the answer of a worker of {self._name!r}"
            outcome = await unpack(len(answer), partial(unpack_outcome, answer, what))
        except BaseException:
            self._note_lost(frame, {"place": self._name})
            raise
        return await self._take(frame, outcome, len(answer))

    def _runner(self, node: FunctionNode[..., Any]) -> Runner:
        runner = shared(("executor", self._name), self._make, _close)
        if runner is None:
            raise SessionError(
                f"{node.name} has where={self._name!r}, which needs a session that is entered with "
                f"`async with rt.Session():`, or in synchronous code"
            )
        return runner

    def _make(self) -> Runner:
        if self._executor is None:
            from railtracks.executors._process_runner import process_runner  # here, as it brings subprocesses

            return process_runner()
        from railtracks.executors._executor_runner import runner_of  # here, as it brings concurrent.futures

        return runner_of(self._executor, self._name)

    async def _run(self, runner: Runner, work: bytes, node: FunctionNode[..., Any], frame: CallFrame) -> bytes:
        async def abandon() -> bool:
            home: Home = frame.coordinator
            return await home.abandon(frame, self._name)

        @contextmanager
        def around_wait() -> Iterator[None]:
            what = "a worker process" if self._executor is None else f"a place in {self._name!r}"
            with noted_wait(what):
                if self._executor is None:  # what waits in an executor may begin at any moment, and cannot be left then
                    scope.shield = False
                yield
                scope.shield = not node.abandon_on_cancel

        with anyio.CancelScope(shield=not node.abandon_on_cancel) as scope:
            answer = await runner.run(work, node=node.name, on_abandon=abandon, around_wait=around_wait)
        return answer  # noqa: RET504 (a scope may end without a result, as far as type checkers know)

    @staticmethod
    def _note_lost(frame: CallFrame, place: dict[str, Any]) -> None:
        """Record where a call was to run, of which nothing has come back."""
        note_place(frame, place | {"lost": True})
        _give_back(frame)

    async def _take(self, frame: CallFrame, outcome: Outcome, size: int) -> Any:
        place: dict[str, Any] = {"place": self._name, "host": outcome.host, "process": outcome.process}
        try:
            report: Report = await unpack(size, outcome.unwrap)
        except BaseException as exc:  # the order itself could not be done there
            self._note_lost(frame, place)
            assert frame.record is not None
            if isinstance(exc, TransferError) and not str(exc).startswith(
                frame.record.name
            ):  # it was damaged on its way there
                raise TransferError(f"{frame.record.name}, in a worker of {self._name!r}: {exc}") from exc
            raise
        arrival = Arrival(frame, report, is_packed=True, warned=self._warned)
        try:
            await arrival.take_in()
        finally:
            note_place(frame, place | output_members(outcome.output), arrival.attributes)
            log_output(frame, outcome)
            log_foreign_records(frame, outcome, arrival)
        if report.timed_out:
            await wait_for_timeout()
        if "value" in report.ended:
            return report.ended["value"]
        try:
            return await unpack(size, Outcome(ended=report.ended).unwrap)
        except BaseException as exc:
            note_failure(frame, arrival, exc)
            raise


def _give_back(frame: CallFrame) -> None:
    """Note that nothing has come back of what a resumed run had recorded of a call, and that was handed over."""
    recorder = frame.coordinator.recorder
    if recorder is not None and frame.history_node is not None:
        recorder.give_back(frame.history_node)


async def _close(runner: Runner) -> None:
    await runner.close()
