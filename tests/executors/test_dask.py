"""What a cluster of Dask is described by, without Dask; ``tests/ecosystem/test_dask.py`` has the clusters."""

from __future__ import annotations

import sys

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ConfigError, match=r"Dask\(3\): expected the address of a scheduler"):
        rt.executors.Dask(3)
    with pytest.raises(ConfigError, match="workers= and threads= are for a cluster that is made here"):
        rt.executors.Dask("tcp://x:1", workers=2)
    with pytest.raises(ConfigError, match=r"Dask\(workers=0\): expected a whole number from 1 on"):
        rt.executors.Dask(workers=0)


def test_an_asynchronous_client_is_refused():
    class Client:
        asynchronous = True

        def get_executor(self):
            raise AssertionError

    with pytest.raises(ConfigError, match="the client is asynchronous"):
        rt.executors.Dask(Client())


def test_a_missing_package_is_named(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)

    async def main():
        async with rt.Session(executors={"cluster": rt.executors.Dask("tcp://x:1")}, logging_setting="NONE"):
            with pytest.raises(ConfigError, match=r"needs the package distributed .*`pip install '\.\[dask\]'`"):
                await rt.call(rt.function_node(lambda: 1).options(where="cluster"))

    anyio.run(main, backend=backend)
