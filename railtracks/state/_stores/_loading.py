"""``load_run``: a run as users see it, with what has been sent to it meanwhile."""

from __future__ import annotations

from typing import Protocol

import attrs

from railtracks.exceptions import ConfigError
from railtracks.state._info import ExecutionInfo
from railtracks.state._stores._messages import topics_in_mailbox
from railtracks.state._stores._protocols import Store
from railtracks.state._stores._runs import read_run
from railtracks.state._stores._settings import check_identifier, resolve_store


class _Flow(Protocol):
    """A flow, as far as ``load_run`` needs it."""

    @property
    def _store(self) -> Store | str | None: ...

    def _with_typed_values(self, info: ExecutionInfo) -> ExecutionInfo: ...


def load_run(run_identifier: str, store: Store | str | None = None, *, flow: _Flow | None = None) -> ExecutionInfo:
    """Load a run from its state file or, if it is running or its process died, from its journal. Blocks.

    Args:
        run_identifier: The identifier of the run.
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.
        flow: The flow that the run is of. With it, results and arguments have the types that they had, as far as the
            annotations of its entry point name their classes, and without a ``store`` its own is used. Without a flow,
            and where that is impossible, they are plain data.

    Returns:
        The snapshot. ``info.damage`` says whether a part of a journal was lost. Calls that were running when the
        process died are ``Open``, with the reason ``Reason.PROCESS_DIED``. A run whose process died while the journal
        was begun has no calls. ``info.questions`` leaves out questions whose answers were sent.

    Raises:
        ConfigError: ``run_identifier`` cannot be the identifier of a run, or ``flow`` is not a flow.
        RunNotFoundError: There is no such run.
        StateError: Nothing of it can be read. The message says why.
        OSError: The store cannot be read.
    """
    if flow is not None and not hasattr(flow, "_with_typed_values"):
        raise ConfigError(f"load_run: {flow!r} is not allowed for flow; use a flow, such as rt.Flow('Name', my_node)")
    store = resolve_store(flow._store if store is None and flow is not None else store)
    check_identifier(run_identifier)
    info = read_run(run_identifier, store)
    if answered := topics_in_mailbox(run_identifier, store):
        info = attrs.evolve(info, answered=answered)
    return info if flow is None else flow._with_typed_values(info)
