"""Whole flows on clusters: they give the same results, records and trees as in one task."""

from __future__ import annotations

import os

import pytest

from tests.ecosystem.test_recipes import RECIPES
from tests.places.helpers import shape_of
from tests.places.test_whole_flows import DOCUMENTED, drawn, run_audit, run_seed, saved
from tests.programs import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]


def dask():
    import railtracks as rt

    pytest.importorskip("distributed")
    return rt.executors.Dask(workers=2)


def ray():
    pytest.importorskip("ray")
    recipe: dict[str, object] = {}
    exec(RECIPES["Ray"].partition("@rt.function_node")[0], recipe)
    return recipe["RayExecutor"]


CLUSTERS = {"dask": dask, "ray": ray}


@pytest.fixture(params=CLUSTERS)
def where(request, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCUMENTED))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(DOCUMENTED)]))
    return request.param


def test_the_flow_of_the_seed_is_the_same_on_clusters(where, backend):
    result, session = run_seed(where, backend, {where: CLUSTERS[where]()})
    plain, other = run_seed(None, backend, {})
    assert result == plain == "Hello! Take a coat."
    assert shape_of(saved(session)) == shape_of(saved(other))
    assert drawn(session.info) == drawn(other.info)


def test_the_audit_is_the_same_on_clusters(where, backend, tmp_path):
    (tmp_path / "module.py").write_text("def f():\n    return 1\n")
    (tmp_path / "broken.py").write_text("def f(:")
    result, session, heard = run_audit(where, backend, {where: CLUSTERS[where]()}, tmp_path)
    plain, other, expected = run_audit("task", backend, {}, tmp_path)
    assert result == plain
    assert sorted(map(str, heard)) == sorted(map(str, expected))
    assert shape_of(saved(session)) == shape_of(saved(other))
    assert drawn(session.info) == drawn(other.info)
