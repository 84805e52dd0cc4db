"""Clusters of Dask as executors. The package is imported when a node needs the cluster."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from contextlib import ExitStack
from functools import partial
from typing import Any

from railtracks.exceptions import ConfigError
from railtracks.executors._kinds import LOST

MAX_WORK_IN_GRAPH = 1_000_000
"""Bytes of work from which on it goes to a worker as data. Otherwise the scheduler would keep and copy it."""


class Dask:
    """A cluster of Dask, as an executor of a session: ``rt.Session(executors={"cluster": rt.executors.Dask(...)})``.

    A call is sent to a worker once. If the worker dies, or leaves the cluster, the call fails with ``WorkerLostError``,
    whatever the cluster does with other tasks; ``retries=`` of the node tries it again, on record. A call that is
    cancelled does not begin if it still waits in the scheduler. If it runs, it is abandoned: Dask cannot end it.

    The workers and the scheduler need the packages of the program, with the extra ``dask`` of Railtracks. Needs that
    extra here as well.

    Args:
        cluster: The address of a scheduler, such as ``"tcp://10.0.0.5:8786"``; a ``distributed.Client``; or a cluster,
            such as a ``LocalCluster``, or one of dask-jobqueue or dask-kubernetes. None makes a ``LocalCluster``.
        workers: How many processes the ``LocalCluster`` has. Default: as many as there are processors.
        threads: How many calls each of these processes runs at once.

    What is made here is made when the first node needs it, once for each session, and is closed when the session ends:
    a ``LocalCluster``, and the client unless one is passed. What is passed stays yours. For many short sessions pass
    a client, because connecting one takes some 20 ms.

    Raises:
        ConfigError: ``cluster`` is something else, the client is asynchronous, or ``workers`` or ``threads`` are
            given with a cluster, or below 1.
    """

    def __init__(self, cluster: Any = None, *, workers: int | None = None, threads: int | None = None) -> None:
        if cluster is not None:
            _check(cluster)
            if workers is not None or threads is not None:
                raise ConfigError(
                    "rt.executors.Dask: workers= and threads= are for a cluster that is made here; "
                    "leave them out, or leave out the cluster"
                )
        for name, value in (("workers", workers), ("threads", threads)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"rt.executors.Dask({name}={value!r}): expected a whole number from 1 on")
        self._cluster = cluster
        self._options = {"n_workers": workers, "threads_per_worker": 1 if threads is None else threads}

    def __call__(self) -> DaskExecutor:
        """Connect to the cluster, or make it. A session calls this, in a worker thread.

        Raises:
            ConfigError: the extra is missing, or the scheduler cannot load what it needs.
            OSError: the scheduler cannot be reached.
        """
        stack = ExitStack()
        try:
            client = self._connect(stack)
            _fence(client)
        except BaseException:
            stack.close()
            raise
        return DaskExecutor(client, stack.close)

    def _connect(self, stack: ExitStack) -> Any:
        """Return a client; what is made for it is closed with the stack."""
        try:
            import dask
            import distributed
        except ImportError as exc:
            raise ConfigError(
                f"rt.executors.Dask needs the package distributed ({exc}); "
                f"install it with `pip install '.[dask]'` in a checkout of Railtracks"
            ) from exc
        cluster = self._cluster
        if hasattr(cluster, "get_executor"):
            return cluster
        if cluster is None:
            # Also without the fence a task whose worker died would not run again.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                cluster = distributed.LocalCluster(**self._options, dashboard_address=":0")
            stack.callback(cluster.close)
        client = distributed.Client(cluster, set_as_default=False)
        stack.callback(client.close)
        return client

    def __repr__(self) -> str:
        return f"rt.executors.Dask({'' if self._cluster is None else repr(self._cluster)})"


class DaskExecutor:
    """Submits work to a cluster, as an executor of ``concurrent.futures`` does. Made by :class:`Dask`.

    Args:
        client: A synchronous client, whose event loop runs in a thread of its own.
        close: Closes what was made for it.
    """

    def __init__(self, client: Any, close: Callable[[], None]) -> None:
        self._client = client
        self._close = close
        self._executor = client.get_executor(pure=False, retries=0)
        # One group of tasks. Of a large group, Dask sends to its workers only what they can begin soon; of single tasks
        # it sends all, so that a worker that dies would take hundreds with it.
        self._group = f"railtracks-{os.urandom(16).hex()}"
        self._numbers = itertools.count()
        self._answers: dict[int, Future[bytes]] = {}
        client.subscribe_topic(self._group, self._on_lost)

    def submit(self, func: Callable[[bytes], bytes], work: bytes) -> Future[bytes]:
        """Have a worker call a function. The result is b"" if it has begun to, but the answer is lost.

        Raises:
            BrokenExecutor: The client was closed.
        """
        if self._client.status in ("closing", "closed"):
            raise BrokenExecutor("its client is closed")
        if len(work) >= MAX_WORK_IN_GRAPH:
            work = self._client.scatter(work, hash=False)
        number = next(self._numbers)
        answer: Future[bytes] = Future()
        self._answers[number] = answer
        try:
            submitted: Future[bytes] = self._executor.submit(func, work, key=(self._group, number))
        except BaseException:
            del self._answers[number]
            raise
        submitted.add_done_callback(partial(self._on_done, number))
        answer.add_done_callback(partial(_cancel_too, submitted))
        return answer

    def shutdown(self, wait: bool = True) -> None:
        """Cancel what is queued, and close what was made for it. Idempotent."""
        self._executor.shutdown(wait=False)
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._group)
        self._close()

    def _on_done(self, number: int, submitted: Future[bytes]) -> None:
        """Take the answer of a task. In the thread of the client, as :meth:`_on_lost`."""
        answer = self._answers.pop(number, None)
        if answer is None or (submitted.cancelled() and answer.cancel()) or not answer.set_running_or_notify_cancel():
            return
        if (exc := submitted.exception()) is not None:
            answer.set_exception(exc)
        else:
            answer.set_result(submitted.result())

    def _on_lost(self, event: tuple[float, int]) -> None:
        """Handle that a task would have been sent again."""
        answer = self._answers.pop(event[1], None)
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(LOST)


def _cancel_too(submitted: Future[bytes], answer: Future[bytes]) -> None:
    if answer.cancelled():
        submitted.cancel()


def _check(cluster: Any) -> None:
    if isinstance(cluster, str):
        return
    if hasattr(cluster, "get_executor"):
        if cluster.asynchronous:
            raise ConfigError(
                "rt.executors.Dask: the client is asynchronous, and so belongs to one event loop; pass a client that "
                "is made with distributed.Client(address), without asynchronous=True, or the address"
            )
        return
    if not hasattr(cluster, "scheduler_address"):
        raise ConfigError(
            f"rt.executors.Dask({cluster!r}): expected the address of a scheduler, a distributed.Client or a cluster"
        )


def _fence(client: Any) -> None:
    """Have the scheduler send each task of ours once."""
    from railtracks.executors._dask_fence import Fence

    try:
        client.register_plugin(Fence())
    except Exception as exc:
        raise ConfigError(
            f"the scheduler of Dask at {client.scheduler.address} cannot load what keeps it from running a call twice: "
            f"{type(exc).__name__}: {exc}; install Railtracks there too, in the version of this program, and leave "
            f"distributed.scheduler.pickle on"
        ) from exc
