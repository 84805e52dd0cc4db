"""``compare``: two versions of a flow on the same seeds."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Fault, compare
from railtracks.testing.faults import Raise


@rt.function_node
async def item(number):
    await anyio.sleep(number % 2)
    return number


@rt.function_node
async def one_by_one(numbers):
    return [await rt.call(item, number) for number in numbers]


@rt.function_node
async def in_a_batch(numbers):
    return await rt.call_batch(item, numbers)


@rt.function_node
async def as_they_end(numbers):
    found = []

    async def add(number):
        found.append(await rt.call(item, number))

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(add, number)
    return found


def test_versions_that_return_the_same_do_not_differ(backend):
    result = compare(one_by_one, in_a_batch, [1, 2, 3], seeds=range(5), backend=backend)
    assert (result.runs, result.differences) == (5, ())
    result.check()
    assert repr(result) == "<Comparison: 5 seeds, 0 differences>"


def test_versions_that_differ_with_some_seeds_are_found(backend):
    result = compare(one_by_one, as_they_end, [0, 2, 4], seeds=range(20), backend=backend)
    assert 0 < len(result.differences) < 20, "the order of the items is that of a seed"
    first = result.differences[0]
    assert first.old.result == [0, 2, 4] != first.new.result
    assert (first.old.seed, first.new.seed) == (first.seed, first.seed)
    with pytest.raises(AssertionError) as raised:
        result.check()
    text = str(raised.value)
    assert text.startswith(
        f"the two versions differ with {len(result.differences)} of 20 seeds; with seed {first.seed}"
    )
    assert f"the old version returned [0, 2, 4], and the new one returned {first.new.result}\n" in text
    assert f"old: {first.old}" in text
    assert f"new: {first.new}" in text


def sorted_result(outcome):
    return sorted(outcome.result)


def test_what_is_compared_can_be_chosen(backend):
    compare(one_by_one, as_they_end, [0, 2, 4], seeds=range(20), backend=backend, by=sorted_result).check()
    result = compare(one_by_one, as_they_end, [1, 3], seeds=[3], backend=backend, by=lambda outcome: outcome.duration)
    assert "is 2.0 for the old version, and 1.0 for the new one" in result.differences[0].what


@rt.function_node
async def refuses(numbers):
    raise ValueError(f"not {numbers}")


@rt.function_node
async def refuses_otherwise(numbers):
    raise ValueError(f"never {numbers}")


def test_exceptions_are_compared_by_type_and_text(backend):
    assert compare(refuses, refuses, [1], seeds=[0], backend=backend).differences == ()
    for new in (refuses_otherwise, one_by_one):
        [difference] = compare(refuses, new, [1], seeds=[0], backend=backend).differences
        assert difference.what.startswith("the old version raised ValueError: not [1], and the new one r")


def test_both_have_the_same_faults_and_options(backend):
    lost = Fault(item, Raise(ConnectionError("lost")), call=1)
    result = compare(one_by_one, in_a_batch, [1, 2], seeds=[0], backend=backend, faults=[lost], timeout=7)
    [difference] = result.differences
    assert difference.old.end == "raised ConnectionError: lost"
    assert difference.old.config.timeout == difference.new.config.timeout == 7


class Box:
    """Has no equality of its own."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Box({self.value})"


def test_objects_without_an_equality_are_compared_by_their_texts(backend):
    @rt.function_node
    async def one():
        return Box(1)

    @rt.function_node
    async def two():
        return Box(2)

    assert compare(one, one, seeds=[0], backend=backend).differences == ()
    assert len(compare(one, two, seeds=[0], backend=backend).differences) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seeds": []}, r"seeds is empty; write seeds=range\(100\)"),
        ({"seeds": 3}, r"seeds is 3; write seeds=range\(100\)"),
        ({"by": "result"}, "by is 'result'; write a function of an outcome"),
    ],
    ids=["none", "number", "by"],
)
def test_wrong_arguments_are_refused(arguments, text):
    with pytest.raises(ConfigError, match=text):
        compare(refuses, refuses, [1], **arguments)


@pytest.mark.either_backend
def test_what_is_compared_may_stand_outside_of_the_run():
    sent = []

    @rt.function_node
    async def send_once():
        sent[:] = ["a"]

    @rt.function_node
    async def send_twice():
        sent[:] = ["a", "a"]

    result = compare(send_once, send_twice, seeds=[0], by=lambda outcome: list(sent))
    assert result.differences[0].what == "<lambda> is ['a'] for the old version, and ['a', 'a'] for the new one"
