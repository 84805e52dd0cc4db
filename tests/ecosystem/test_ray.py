"""Nodes in Ray, through the executor of the recipe in docs/recipes.md."""

from __future__ import annotations

import pytest

from tests.ecosystem.test_recipes import RECIPES, run

pytestmark = pytest.mark.ecosystem
pytest.importorskip("ray")

ENDS = """
import os

import anyio


@rt.function_node(where="ray")
def end_worker(path):
    with open(path, "a") as file:
        file.write("x")
    os._exit(3)


async def main(path):
    async with rt.Session(executors={"ray": RayExecutor}, logging_setting="NONE"):
        try:
            await rt.call(end_worker, path)
        except rt.exceptions.WorkerLostError as error:
            print("a worker of the executor 'ray' was lost" in str(error))
        print(await rt.call(square, 3))


if __name__ == "__main__":
    anyio.run(main, "ran", backend=BACKEND)
"""


def test_a_node_that_ends_its_worker_in_ray_runs_once(backend, tmp_path):
    definitions = RECIPES["Ray"].partition('if __name__ == "__main__"')[0]
    (tmp_path / "program.py").write_text(definitions + ENDS.replace("BACKEND", repr(backend)), "utf-8")
    assert run(tmp_path, "program.py").splitlines()[-2:] == ["True", "9"]  # after what Ray says of it
    assert (tmp_path / "ran").read_text() == "x"
