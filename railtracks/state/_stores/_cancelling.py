"""``cancel_run``: cancel a run from outside, whether it is running or not."""

from __future__ import annotations

import time

import attrs

from railtracks.exceptions import RunInUseError, StateError
from railtracks.state._document._writer import encoded
from railtracks.state._info import ExecutionInfo
from railtracks.state._records import CallRecord, Reason, Status, is_retried
from railtracks.state._stores._messages import CANCEL, encode_request, has_completed, mailbox_of, notify
from railtracks.state._stores._protocols import Store
from railtracks.state._stores._runs import read_run
from railtracks.state._stores._settings import check_identifier, no_such_run, resolve_store


def cancel_run(run_identifier: str, store: Store | str | None = None) -> None:
    """Cancel a run, from any process. Blocks.

    A session that is running is sent a request, which it notices within about a second: its calls are cancelled, and
    its top-level calls raise ``RunCancelledError``. A run that failed, is suspended, or died with its process is
    recorded as cancelled. One that was cancelled on request before stays as it is.

    It stays cancelled: ``rt.recover`` leaves it, ``send`` raises StateError, and a session with ``if_exists="resume"``
    raises ``RunCancelledError``. ``flow.resume(run_identifier)`` still goes on with it.

    Args:
        run_identifier: The identifier of the run.
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.

    Raises:
        ConfigError: ``run_identifier`` cannot be the identifier of a run.
        RunNotFoundError: There is no such run.
        StateError: The run has completed; or it cannot be read; or the store keeps no messages.
        OSError: It cannot be written.
    """
    check_identifier(run_identifier)
    store = resolve_store(store)
    mailbox = mailbox_of(store)
    if store.modified(run_identifier) is None and not store.is_locked(run_identifier):
        raise no_such_run(run_identifier, store)
    try:
        lock = store.lock(run_identifier)
    except RunInUseError:
        mailbox.put_message(run_identifier, encode_request(CANCEL))
        notify(run_identifier)
        return
    try:
        _record(run_identifier, store)
    finally:
        lock.release()


def _record(run_identifier: str, store: Store) -> None:
    """Record the cancellation of a run that no session has open. The caller holds its lock."""
    stored = store.read(run_identifier)
    if stored is None:
        raise no_such_run(run_identifier, store)
    if has_completed(stored):
        raise StateError(f"the run {run_identifier!r} has completed, and cannot be cancelled any more")
    info = read_run(run_identifier, store)
    now = time.time() if info.end_time is None else info.end_time
    step = 1 + max((s for r in info.records for s in (r.started_step, r.ended_step) if s is not None), default=-1)
    records = []
    for record in info.records:
        is_top = record.parent is None and record.status is not Status.COMPLETED and not is_retried(record)
        if is_top or record.status in (Status.OPEN, Status.SUSPENDED):
            record, step = _cancelled(record, now, step)
        records.append(record)
    changed: ExecutionInfo = attrs.evolve(info, records=tuple(records), end_time=now, interrupted=False)
    store.save(run_identifier, encoded(changed.document()))


def _cancelled(record: CallRecord, now: float, step: int) -> tuple[CallRecord, int]:
    """Return the record of a call as cancelled on request, and the next step."""
    changed = attrs.evolve(
        record, status=Status.CANCELLED, reason=Reason.REQUEST, result=None, exception=None, output=None
    )
    if record.ended is not None:
        return changed, step
    return attrs.evolve(changed, ended=now, ended_step=step), step + 1
