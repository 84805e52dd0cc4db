"""What people see of a run in Python: its tree, its summary, and what prints as what."""

import copy
import io
import math
import pickle

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import FatalError, SessionError
from railtracks.state import Status

pytestmark = pytest.mark.either_backend


@rt.function_node
async def fetch(page, *, retry=False):
    await anyio.sleep(page / 100)
    if page % 70 == 3:
        raise LookupError(f"no page {page}")
    return page


@rt.function_node
async def prepare(name):
    return await rt.call(fetch, 1)


@rt.function_node
async def everything(count):
    await rt.call(prepare, "a\nb")
    await rt.call_batch(fetch, range(count))
    await anyio.sleep(0.5)
    return await rt.call(fetch, 73, retry=True)


TREE = """\
session pages  Failed  3.23 s  204 calls, 5 failed
└─ everything(200)  Failed  3.23 s (own 500 ms)  LookupError (raised by fetch)
   ├─ prepare("a\\nb")  Completed  10 ms (own 0 µs)
   │  └─ fetch(1)  Completed  10 ms
   └─ fetch × 201: 197 ok, 4 failed, 0 µs to 1.99 s
      ├─ fetch(3)  Failed  30 ms  LookupError: no page 3
      ├─ fetch(73)  Failed  730 ms  LookupError: no page 73
      ├─ fetch(143)  Failed  1.43 s  LookupError: no page 143
      ├─ fetch(199)  Completed  1.99 s  (slowest)
      └─ fetch(73, retry=true)  Failed  730 ms  LookupError: no page 73"""


async def run_pages(count=200):
    async with rt.Session(name="pages", logging_setting="NONE") as session:
        with pytest.raises(LookupError):
            await rt.call(everything, count)
    return session


async def test_a_run_prints_as_a_tree_live_and_loaded():
    session = await run_pages()
    loaded = rt.state.load_run("pages")
    assert str(session.info) == session.info.tree() == TREE
    assert str(loaded) == TREE


async def test_a_tree_shows_what_is_asked_for():
    info = (await run_pages(5)).info
    assert info.tree(arguments=False).splitlines()[1:4] == [
        "└─ everything  Failed  1.28 s (own 500 ms)  LookupError (raised by fetch)",
        "   ├─ prepare  Completed  10 ms (own 0 µs)",
        "   │  └─ fetch  Completed  10 ms",
    ]
    assert info.tree(max_calls=2).splitlines()[2:] == [
        '   ├─ prepare("a\\nb")  Completed  10 ms (own 0 µs)', "… and 7 more calls",
    ]  # fmt: skip
    assert info.tree(failed=True).splitlines()[2:] == [
        "   ├─ fetch(3)  Failed  30 ms  LookupError: no page 3",
        "   └─ fetch(73, retry=true)  Failed  730 ms  LookupError: no page 73",
    ]
    long = (await run_pages(20)).info
    assert len(long.tree(folds=False).splitlines()) == 25
    assert len(long.tree(max_calls=0).splitlines()) == 1


async def test_open_cancelled_and_reused_calls_say_so(backend):
    @rt.function_node
    async def first():
        return 1

    @rt.function_node
    async def wait():
        await anyio.sleep(60)

    @rt.function_node
    async def work():
        await rt.call(first)
        await rt.call(wait)

    flow = rt.Flow("Work", work, timeout=2, run_identifier="work", logging_setting="NONE")
    async with rt.Session() as session, anyio.create_task_group() as group:
        group.start_soon(rt.call, wait)
        await anyio.sleep(1)
        assert session.info.tree() == f"session {session.identifier}  Open  1 call, 1 open\n└─ wait()  Open"
        group.cancel_scope.cancel()
    async with rt.Session(name="empty", logging_setting="NONE") as session:
        assert session.info.tree() == "session empty  Open  0 calls"
    for reused in ("", " (reused)"):
        connection = flow.connect()
        with pytest.raises(TimeoutError):
            await (connection.aresume("work") if reused else connection.ainvoke())
        assert connection.session.info.tree().splitlines() == [
            "flow Work, session work  Cancelled  2 s  3 calls, 2 cancelled",
            "└─ work()  Cancelled (timeout)  2 s (own 0 µs)",
            f"   ├─ first()  Completed{reused}  0 µs",
            "   └─ wait()  Cancelled (timeout)  2 s",
        ]


class Odd:
    def __repr__(self):
        return "<Odd\n\x1b[31m at 0x7f00>"


class Broken(Exception):
    def __str__(self):
        raise RuntimeError


async def test_odd_values_are_one_line_and_no_secret_is_shown():
    @rt.function_node(name="a\nb")
    async def node(*args, **kwargs):
        raise Broken

    @rt.function_node
    async def login(user, password):
        raise ValueError(f"wrong password: {password}")

    for saves in (True, False):
        async with rt.Session(name="odd", save_state=saves, logging_setting="NONE") as session:
            await rt.call_batch(node, [Odd(), [1] * 9, {"a": {"b": {"c": {"d": {"e": 1}}}}}, b"abc", "x" * 90, 1 + 2j])
            with pytest.raises(ValueError):
                await rt.call(login, "ada", "9f8e7d6c5b4a3210")
        shown = session.info.tree().splitlines()[1:]
        assert [line[3:].partition("  Failed")[0] for line in shown] == [
            r"a\nb(<Odd\n\x1b[31m>)",
            r"a\nb([1, 1, 1, 1, 1, …])",
            r'a\nb({"a": {"b": {"c": {"d": {…}}}}})',
            r"a\nb(<bytes of 3 bytes>)",
            rf'a\nb("{"x" * 16}…{"x" * 31}")',
            r'a\nb("(1+2j)")',
            'login("ada", "***")',
        ]
        assert "3210" not in "\n".join(shown)
        assert shown[0].endswith("  Broken: <str of Broken raised RuntimeError>")


async def test_a_fold_does_not_hide_a_failure_below_it():
    @rt.function_node
    async def item(number):
        return await rt.call_batch(fetch, [number])

    async with rt.Session(name="below", logging_setting="NONE") as session:
        await rt.call_batch(item, [1] * 5 + [3] * 8)
    for lines in (session.info.tree().splitlines(), session.info.tree(failed=True).splitlines()):
        assert lines[1].startswith("└─ item × 13: 13 ok (8 with a call below that did not complete), 10 ms to")
        assert sum("LookupError: no page 3" in line for line in lines) == 5
        assert lines[-1] == "   └─ … and 3 more calls that did not complete, or in which one did not"


async def test_large_arguments_are_not_read():
    async with rt.Session(name="large", logging_setting="NONE") as session:
        await rt.call(prepare, ["x" * 1_000] * 100)
    assert "└─ prepare(… 100" in session.info.tree()


async def test_notebooks_and_rich_show_the_same_as_text():
    from rich.console import Console

    async with rt.Session(name="html", logging_setting="NONE") as session:
        await rt.call(prepare, "<script>alert(1)</script>[red]")
    shown = session._repr_html_()
    assert shown == session.info._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    written = io.StringIO()
    Console(width=200, file=written).print(session.info)
    assert [line.rstrip() for line in written.getvalue().splitlines()] == session.info.tree().splitlines()


async def test_a_session_prints_how_far_it_is():
    session = rt.Session(name="s", logging_setting="NONE")
    assert repr(session) == str(session) == "<Session s: not entered yet>"
    async with session:
        await rt.call(fetch, 1)
        assert repr(session) == "<Session s: open, 1 call>"
    assert repr(session) == "<Session s: Completed, 1 call>"
    assert repr(session.info) == "<ExecutionInfo: session s  Completed  10 ms  1 call>"


# ---- flows


def test_the_latest_run_of_a_flow_can_be_seen():
    flow = rt.Flow("Pages", prepare, run_identifier="first", logging_setting="NONE")
    assert repr(flow) == "<Flow 'Pages': prepare>"
    with pytest.raises(SessionError, match=r"the flow 'Pages' has not run yet; call flow\.invoke"):
        _ = flow.last
    connection = flow.connect()
    assert repr(connection) == "<FlowConnection of 'Pages': not run yet>"
    assert connection._repr_html_() == "&lt;FlowConnection of &#x27;Pages&#x27;: not run yet&gt;"
    flow.invoke("a")
    assert flow.last.session_id == "first"
    assert str(flow.last).startswith("flow Pages, session first  Completed")
    connection.invoke("b")
    assert flow.last == connection.session.info
    assert repr(connection) == "<FlowConnection of 'Pages': <Session first: Completed, 2 calls>>"
    assert connection._repr_html_() == flow.last._repr_html_()


def test_the_latest_run_is_no_part_of_copies_of_a_flow():
    flow = rt.Flow("Pages", prepare, logging_setting="NONE")
    flow.invoke("a")
    for other in (
        flow.update_context({"k": 1}),
        copy.copy(flow),
        copy.deepcopy(flow),
        pickle.loads(pickle.dumps(flow)),
    ):
        assert other.name == "Pages"
        with pytest.raises(SessionError):
            _ = other.last


# ---- in numbers


async def test_a_summary_says_what_took_long():
    summary = (await run_pages()).info.summary()
    assert (summary.status, summary.seconds) == (Status.FAILED, pytest.approx(3.23))
    assert summary.calls == {Status.COMPLETED: 199, Status.FAILED: 5}
    assert summary.max_concurrency == 199  # the first page takes no time
    fetches, whole, prepared = summary.nodes
    assert (fetches.name, fetches.calls, fetches.failed) == ("fetch", 202, 4)
    assert fetches.total == pytest.approx(0.01 + sum(range(200)) / 100 + 0.73)
    assert fetches.mean == pytest.approx(fetches.total / 202)
    assert (fetches.p50, fetches.p95, fetches.longest) == pytest.approx((0.98, 1.89, 1.99))
    assert (whole.name, prepared.name) == ("everything", "prepare")
    path = [(step.record.name, step.record.args, round(step.seconds, 6)) for step in summary.critical_path]
    assert path[0] == ("everything", (200,), 0.5)
    assert ("fetch", (199,), 1.99) in path
    assert ("fetch", (198,), 1.98) not in path
    assert sum(step.seconds for step in summary.critical_path) == pytest.approx(3.23)
    text = str(summary)
    assert "calls: 199 completed, 5 failed; at most 199 at the same time" in text
    assert "fetch         202       4  3 min 20 s" in text
    assert "1.99 s  62%  fetch(199)" in text


async def test_a_summary_of_a_session_without_calls_has_none():
    async with rt.Session(logging_setting="NONE") as session:
        assert session.info.summary().seconds is None
    summary = session.info.summary()
    assert (summary.calls, summary.nodes, summary.critical_path, summary.max_concurrency) == ({}, (), (), 0)
    assert "calls: none" in str(summary)


def test_a_session_knows_what_the_process_used(backend):
    flow = rt.Flow("Busy", prepare, run_identifier="busy", backend=backend, logging_setting="NONE")
    flow.invoke("a")
    for info in (flow.last, rt.state.load_run("busy")):
        assert info.processor_seconds is not None
        assert 0 < info.processor_seconds < 60
        assert info.peak_memory_bytes is None or info.peak_memory_bytes > 2**20
    assert "of processor time" in str(info.summary())


# ---- from within


async def test_a_node_knows_its_call():
    @rt.function_node
    def in_thread():
        return rt.current_call()

    @rt.function_node
    async def node():
        found = []

        async def task():
            found.append(rt.current_call())

        async with anyio.create_task_group() as group:
            group.start_soon(task)
        return rt.current_call(), *found, await rt.call(in_thread)

    assert rt.current_call() is None
    async with rt.Session(name="s", timeout=60, logging_setting="NONE") as session:
        assert rt.current_call() is None
        own, in_task, below = await rt.call(node)
    (top, _) = session.info.records
    assert own == in_task == rt.CurrentCall("s", "s-r0", "s-n0", None, "node", 1, top.started + 60)
    assert (below.node_id, below.parent_id, below.run_id, below.name) == ("s-n1", "s-n0", "s-r0", "in_thread")
    assert below.deadline == own.deadline


async def test_a_call_without_a_limit_has_no_deadline():
    @rt.function_node
    async def node():
        return rt.current_call()

    async with rt.Session(timeout=math.inf, logging_setting="NONE"):
        assert (await rt.call(node)).deadline == math.inf


async def test_attempts_are_counted_over_resumes(backend):
    attempts = []

    @rt.function_node
    async def done():
        return rt.current_call().attempt

    @rt.function_node
    async def flaky():
        attempts.append(rt.current_call().attempt)
        if len(attempts) < 3:
            raise FatalError("once more")

    @rt.function_node
    async def work():
        first = await rt.call(done)
        await rt.call(flaky)
        return first, rt.current_call().attempt, await rt.call(done)

    flow = rt.Flow("Work", work, run_identifier="work", logging_setting="NONE")
    with pytest.raises(FatalError):
        await flow.ainvoke()
    with pytest.raises(FatalError):
        await flow.aresume("work")
    assert await flow.aresume("work") == (1, 3, 1)
    assert attempts == [1, 2, 3]
    assert [record.attempt for record in rt.state.load_run("work").records] == [3, 1, 3, 1]
