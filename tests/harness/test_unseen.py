"""Failures that no code sees are in the outcome, and break the promise."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings

import anyio
import pytest

import railtracks as rt
from railtracks.testing import Fault, Violation, check, simulate
from railtracks.testing.faults import Kill, Raise

HERE = "test_unseen.py"


@rt.function_node
async def audit():
    await anyio.sleep(1)
    return "audited"


@rt.function_node
async def fails():
    await anyio.sleep(1)
    raise ValueError("lost")


def unseen(outcome):
    """Return the only unseen failure, which ``check`` reports too."""
    with pytest.raises(Violation) as raised:
        check(outcome)
    assert raised.value.broken == "nothing_fails_unseen"
    [text] = outcome.unseen
    assert f"nothing fails unseen: {text}\n" in str(raised.value)
    return text


# ---- coroutines that were never awaited


@rt.function_node
async def forgets_a_call():
    rt.call(audit)  # type: ignore[unused-coroutine]  # noqa: RUF100, RUF006
    return "ok"


@rt.function_node
async def forgets_a_coroutine():
    kept = anyio.sleep(1)
    await anyio.sleep(1)
    del kept


@rt.function_node
def forgets_in_a_thread():
    rt.call(audit)  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    ("flow", "text", "place"),
    [
        (forgets_a_call, "rt.call(audit, ...) was never awaited", "forgets_a_call"),
        (forgets_a_coroutine, "the coroutine sleep was never awaited", "forgets_a_coroutine"),
        (forgets_in_a_thread, "rt.call(audit, ...) was never awaited", "forgets_in_a_thread"),
    ],
    ids=["call", "coroutine", "thread"],
)
def test_a_coroutine_that_was_never_awaited_breaks_the_promise(backend, flow, text, place):
    found = unseen(simulate(flow, backend=backend))
    assert found.startswith(f"{text}; it was discarded in {place} ({HERE}:")


def test_a_filter_for_all_warnings_does_not_hide_it(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert unseen(simulate(forgets_a_call, backend=backend))


def test_a_filter_for_this_warning_hides_it(backend):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was never awaited")
        check(simulate(forgets_a_call, backend=backend))


@rt.function_node
async def silences_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rt.call(audit)  # type: ignore[unused-coroutine]


@rt.function_node
async def closes_it():
    rt.call(audit).close()


@rt.function_node
async def cancels_it():
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, audit)
            await rt.call(audit)


@pytest.mark.parametrize("flow", [silences_it, closes_it, cancels_it], ids=lambda flow: flow.__name__)
def test_what_user_code_handles_is_none(backend, flow):
    for seed in range(5):
        outcome = simulate(flow, backend=backend, seed=seed)
        check(outcome)
        assert outcome.unseen == ()


# ---- exceptions that nobody retrieved


@rt.function_node
async def loses_a_task():
    task = asyncio.create_task(rt.call(fails))
    await anyio.sleep(2)
    assert task.done()


@rt.function_node
async def loses_a_future():
    asyncio.get_running_loop().create_future().set_exception(ValueError("lost"))


@rt.function_node
async def loses_a_callback():
    asyncio.get_running_loop().call_soon(int, "x")
    await anyio.sleep(1)


@pytest.mark.either_backend
@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (loses_a_task, "ValueError('lost') of a task was never retrieved; it was raised in fails (test_unseen.py:"),
        (loses_a_future, "ValueError('lost') of a future was never retrieved"),
        (loses_a_callback, "ValueError(\"invalid literal for int() with base 10: 'x'\") was only logged by asyncio"),
    ],
    ids=["task", "future", "callback"],
)
def test_an_exception_that_nobody_retrieved_breaks_the_promise(flow, text):
    assert unseen(simulate(flow, backend="asyncio")).startswith(text)


@rt.function_node
async def retrieves_it():
    task = asyncio.create_task(rt.call(fails))
    await asyncio.wait([task])
    assert isinstance(task.exception(), ValueError)


@rt.function_node
async def handles_it():
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    asyncio.get_running_loop().call_soon(int, "x")
    await anyio.sleep(1)


@rt.function_node
async def cancels_a_task():
    task = asyncio.create_task(rt.call(fails))
    await anyio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.either_backend
@pytest.mark.parametrize("flow", [retrieves_it, handles_it, cancels_a_task], ids=lambda flow: flow.__name__)
def test_what_is_retrieved_or_handled_is_none(flow):
    check(simulate(flow, backend="asyncio"))


# ---- exceptions that leave a finalizer, a thread, a subscriber


class Broken:
    def __del__(self):
        raise ValueError("lost")


@rt.function_node
async def discards_one():
    Broken()
    await anyio.sleep(0)


@rt.function_node
async def starts_a_thread():
    def work():
        raise ValueError("lost")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def raise_lost(_):
    raise ValueError("lost")


@rt.function_node
async def broadcasts():
    await rt.broadcast("news")


def test_an_exception_that_leaves_a_finalizer_breaks_the_promise(backend):
    text = unseen(simulate(discards_one, backend=backend))
    assert text.startswith(
        f"ValueError('lost') left Broken.__del__, where Python ignores it; it was raised in __del__ ({HERE}:"
    )


def test_an_exception_that_ends_a_thread_breaks_the_promise(backend):
    text = unseen(simulate(starts_a_thread, backend=backend))
    assert text.startswith(f"ValueError('lost') has ended the thread Thread (work); it was raised in work ({HERE}:")


def test_an_exception_of_a_subscriber_breaks_the_promise(backend):
    text = unseen(simulate(broadcasts, backend=backend, broadcast_callback=raise_lost))
    assert text.startswith(
        f"ValueError('lost') of the subscriber broadcast_callback was only logged; it was raised in raise_lost ({HERE}:"
    )


def test_secrets_are_masked(backend):
    def leak(_):
        raise ValueError("it is hunter22-hunter22")

    @rt.function_node
    async def log_in(password):
        await rt.broadcast("news")

    outcome = simulate(log_in, "hunter22-hunter22", backend=backend, broadcast_callback=leak)
    assert unseen(outcome).startswith("ValueError('it is ***') of the subscriber")


def test_it_is_in_the_text_of_the_outcome(backend):
    outcome = simulate(forgets_a_call, backend=backend)
    assert f"unseen: {outcome.unseen[0]}" in str(outcome)


def test_after_a_kill_it_is_no_failure(backend):
    check(simulate(forgets_a_call, backend=backend, faults=[Kill(1)]))


# ---- what belongs to the run, and what does not


def test_what_others_discard_is_not_reported(backend, recwarn):
    @rt.function_node
    async def collects():
        gc.collect()

    cycle = [rt.call(audit)]
    cycle.append(cycle)  # type: ignore[arg-type]
    del cycle
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            outcome = simulate(collects, backend=backend)
    finally:
        gc.enable()
    check(outcome)
    assert ["was never awaited" in str(each.message) for each in recwarn] == [True]


def test_the_hooks_are_restored(backend):
    def hooks():
        hooks = sys.unraisablehook, threading.excepthook, vars(warnings)["_warn_unawaited_coroutine"]
        return *hooks, len(gc.callbacks)

    before = hooks()
    simulate(forgets_a_call, backend=backend)
    assert hooks() == before


@pytest.mark.either_backend
def test_the_hooks_do_not_pile_up(monkeypatch):
    """What was put in the place of a hook in a run, and put back after it, leaves the hook of that run."""
    left = []

    @rt.function_node
    def replaces():
        left.append(sys.unraisablehook)

    def depth():
        hook, count = sys.unraisablehook, 0
        while hasattr(hook, "before"):
            hook, count = hook.before, count + 1
        return count

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = sys.unraisablehook
    for _ in range(3):
        simulate(replaces)
        sys.unraisablehook = left[-1]
        assert depth() == 1
    simulate(replaces)
    assert sys.unraisablehook is before


def test_two_runs_at_a_time_have_their_own_failures():
    outcomes = {}
    inside = threading.Barrier(2, timeout=30)

    @rt.function_node
    def meets(name):
        inside.wait()
        if name == "wrong":
            rt.call(audit)  # type: ignore[unused-coroutine]
        inside.wait()

    def work(name):
        outcomes[name] = simulate(meets, name)

    threads = [threading.Thread(target=work, args=[name]) for name in ("wrong", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(outcomes["right"])
    unseen(outcomes["wrong"])


def test_a_simulation_in_a_node_has_its_own_failures(backend):
    inner = []

    @rt.function_node
    def outer():
        inner.append(simulate(forgets_a_call, backend=backend))

    check(simulate(outer, backend=backend))
    unseen(inner[0])


def test_a_fault_finds_a_task_that_nobody_waits_for():
    @rt.function_node
    async def notify():
        pass

    @rt.function_node
    async def checkout():
        task = asyncio.create_task(rt.call(notify))
        await anyio.sleep(1)
        return task.done()

    check(simulate(checkout, backend="asyncio"))
    outcome = simulate(checkout, backend="asyncio", faults=[Fault(notify, Raise(ConnectionError("lost")))])
    assert unseen(outcome) == "ConnectionError('lost') of a task was never retrieved"


def test_it_works_where_pytest_makes_warnings_errors(suite):
    result = suite(
        """
        from railtracks.testing import Violation, check, simulate

        class Broken:
            def __del__(self):
                raise ValueError("lost")

        @rt.function_node
        async def wrong():
            rt.call(child, 1)
            Broken()

        @pytest.mark.parametrize("backend", ["asyncio", "trio"])
        def test_it(backend):
            with pytest.raises(Violation, match="never awaited.*lost"):
                check(simulate(wrong, backend=backend))
        """,
        "-W",
        "error",
        "-p",
        "no:asyncio",
    )
    result.assert_outcomes(passed=2)
