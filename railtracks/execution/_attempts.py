"""The attempts of a call whose node has it tried again when it fails.

Each attempt is a call on record, with the same caller, as if the caller had tried again itself. So what an attempt has
done, and what was below it, is seen and resumed as any call is: a run that is resumed replays the attempts that had
failed, without waiting, and goes on with the one that had not ended. What an attempt has that other calls do not: it
says which one it is, and a failed one that is tried again says so when it ends, as its caller never sees that failure.

``stamina`` makes the waits. It decides nothing: whether to go on has to be known when the failure is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from railtracks._concurrency._kinds import is_kind
from railtracks._policies import Policies, Retry
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import (
    ConfigError,
    FatalError,
    GlobalTimeOutError,
    LimitExceededError,
    NodeCreationError,
    RunSuspended,
    SessionError,
    StateError,
    StoreError,
)
from railtracks.execution._node_errors import is_fatal
from railtracks.execution._quiet_retries import QuietRetries
from railtracks.state import CallRecord
from railtracks.state._records import PolicyFacts, is_retried
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks._resume._history import HistoryNode  # loaded by sessions that resume a run
    from railtracks.execution._streams import OpenStreams

_FINAL = (
    ConfigError, FatalError, GlobalTimeOutError, LimitExceededError, NodeCreationError, RunSuspended, SessionError,
    StateError,
)  # fmt: skip
"""What another attempt would not change: the session ends, or refuses the call. But see ``_is_final``."""


class CallRunner(Protocol):
    """What runs the attempts: the ``Coordinator``, which explains these members."""

    state: RTState

    @property
    def streams(self) -> OpenStreams | None: ...
    @property
    def failure(self) -> BaseException | None: ...
    @property
    def must_pause(self) -> bool: ...
    def now(self) -> float: ...
    async def pause(self, name: str, caller: Any, /) -> None: ...
    async def run(self, *args: Any) -> Any: ...


class _FailedAttempt(Exception):
    """What stamina gets in place of the exception of an attempt, which it would log with what is secret in it.

    Args:
        error: The exception of the attempt.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)


_NO_RETRIES = Retry(attempts=1)


class Attempts:
    """The attempts of one call, from the moment at which the first one has failed.

    Args:
        runner: Runs them.
        policies: The policies of the node; None if it has none any more, and a replayed attempt had been tried again.
        call: The arguments of ``Coordinator.run`` up to the task.
        first: The record of the first attempt.

    Attributes:
        is_retried: Whether another attempt follows the one that has just failed.
        history_node: What a resumed run has on record of the latest attempt; None if there is nothing.
    """

    def __init__(self, runner: CallRunner, policies: Policies | None, call: tuple[Any, ...], first: CallRecord) -> None:
        self._runner = runner
        self._policy = (policies and policies.retries) or _NO_RETRIES
        self._call = call
        self._failed = 0  # the number of attempts that have failed
        self._began = self._recorded_began = first.started
        self._quiet = QuietRetries()
        self._wait: float | None = None  # seconds before the next attempt, if the policy does not say
        self.is_retried: bool = False
        self.history_node: HistoryNode | None = None

    async def try_again(self, error: Exception, commits: bool, branch: tuple[int, ...] | None) -> Any:
        """Make the call again, as long as it fails and its policy allows.

        Args:
            error: What the first attempt has raised.
            commits: As for ``Coordinator.run``.
            branch: As for ``Coordinator.run``.

        Raises:
            BaseException: what the last attempt raises, as the same object.

        Cancellation: the wait or the attempt ends, and no other attempt is made.
        """
        import stamina  # here, as few programs need it

        node, policy = self._call[0], self._policy
        is_first = True

        async def attempt() -> Any:
            nonlocal error, is_first
            if is_first:  # stamina has not seen the attempt that has failed
                is_first = False
                raise _FailedAttempt(error)
            try:
                return await self._run_again(commits, branch)
            except Exception as exc:
                error = exc
                raise _FailedAttempt(error) from None

        attempt.__module__, attempt.__qualname__ = node.__module__, node.name  # for stamina's instrumentation
        try_again = stamina.retry(
            on=self._next_wait,
            attempts=None,
            timeout=None,
            wait_initial=policy.wait_initial,
            wait_max=policy.wait_max,
            wait_jitter=policy.wait_jitter,
        )
        try:
            return await try_again(attempt)()
        except _FailedAttempt:
            pass
        finally:
            self._quiet.end()
        raise error  # here, as it would get the other one as its context there

    async def _run_again(self, commits: bool, branch: tuple[int, ...] | None) -> Any:
        runner = self._runner
        node, _, _, caller, root, _ = self._call
        if runner.must_pause:  # before its index is known
            await runner.pause(node.name, caller)
        if caller.record is None:
            root.index = len(runner.state.entries)
        return await runner.run(*self._call, commits, branch, False, self)

    def _next_wait(self, exc: Exception) -> bool | float:
        """Return what stamina asks after a failure: after how many seconds to go on, or whether to go on at all."""
        if self.is_retried:
            self._quiet.begin()
        if self.is_retried and self._wait is None and (jitter := runtime_hooks.get().jitter) is not None:
            return min(self._policy.wait_max, self._least_wait + jitter(self._policy.wait_jitter))
        return self._wait if self.is_retried and self._wait is not None else self.is_retried

    def on_created(self, record: CallRecord) -> None:
        """Note the record of a new attempt, before it is journaled."""
        self.is_retried = False
        if self._failed:
            record.policy = (record.policy or PolicyFacts())._replace(retry=self._failed)

    def on_replayed(self, record: CallRecord) -> None:
        """Note that an attempt was replayed, which had failed.

        The time between the two runs does not count for the ``timeout`` of the policy.
        """
        self._failed += 1
        if record.ended is not None:
            self._began = self._runner.now() - (record.ended - self._recorded_began)
        self.is_retried, self._wait = is_retried(record), 0.0

    def on_failed(self, record: CallRecord, exc: BaseException) -> bool:
        """Note that an attempt has failed, before that is recorded. Return whether another one follows."""
        if not is_kind(exc, Exception) or _is_final(exc) or is_fatal(exc):
            return False
        self._failed += 1
        self.is_retried = self._goes_on(exc)
        streams = self._runner.streams
        if self.is_retried and streams is not None and record.index in streams.reached:
            self.is_retried = False
            exc.add_note("it was not tried again, as a part of its text had reached the consumer of rt.astream")
        if self.is_retried:
            record.policy = (record.policy or PolicyFacts())._replace(retry=self._failed - 1, retried=True)
        return self.is_retried

    def _goes_on(self, exc: Exception) -> bool:
        policy, runner = self._policy, self._runner
        attempts = allowed_attempts(policy.attempts)
        if (attempts is not None and self._failed >= attempts) or runner.failure is not None:
            return False
        self._wait = None
        if isinstance(policy.on, type | tuple):
            if not is_kind(exc, policy.on):
                return False
        elif not self._is_wanted(policy.on, exc):
            return False
        least = self._wait if self._wait is not None else self._least_wait
        if policy.timeout is not None and runner.now() - self._began + least > policy.timeout:
            exc.add_note(f"it was not tried again, as the timeout of its rt.Retry is {policy.timeout:g} s")
            return False
        return True

    def _is_wanted(self, on: Callable[[Exception], Any], exc: Exception) -> bool:
        """Return whether a function of the user wants another attempt, and note after how many seconds."""
        try:
            answer = on(exc)
        except Exception as problem:  # the call has failed already, and its own exception is what counts
            exc.add_note(f"it was not tried again, as the function `on` of its rt.Retry raised {problem!r}")
            return False
        if isinstance(answer, bool):
            return answer
        seconds = answer.total_seconds() if isinstance(answer, timedelta) else answer
        if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            exc.add_note(
                f"it was not tried again, as the function `on` of its rt.Retry returned {answer!r}; expected True, "
                f"False, a number of seconds, or a timedelta"
            )
            return False
        self._wait = float(seconds)
        return True

    @property
    def _least_wait(self) -> float:
        """The seconds before the next attempt, without the part that is added by chance."""
        policy = self._policy
        return min(policy.wait_max, policy.wait_initial * 2.0 ** min(self._failed - 1, 1_000))


def _is_final(exc: BaseException) -> bool:
    """Return whether another attempt would not change anything; a database that cannot be reached now may be back."""
    return is_kind(exc, _FINAL) and not (is_kind(exc, StoreError) and exc.temporary)


def allowed_attempts(attempts: int | None) -> int | None:
    """Return how many attempts there may be; fewer where ``stamina`` is switched off, or tested."""
    import stamina
    from stamina._config import CONFIG  # private; `tests/test_retries.py` notices if it changes

    if not stamina.is_active():
        return 1
    return attempts if CONFIG.testing is None else CONFIG.testing.get_attempts(attempts)
