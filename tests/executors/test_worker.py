"""The entry point of workers: what goes in, what comes out."""

import asyncio
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import sniffio
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import RemoteError, TransferError
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._worker import pack_work, run


def work(func, *args, **kwargs):
    return unpack_outcome(run(pack_work(func, args, kwargs, name="the_node")))


def add(a, b=1):
    return a + b


def test_the_result_of_a_function_comes_back():
    assert work(add, 2).unwrap() == 3
    assert work(add, 2, b=5).unwrap() == 7


def test_an_async_function_runs_on_the_backend_of_its_work(backend):
    async def where():
        await anyio.sleep(0)
        return sniffio.current_async_library()

    assert unpack_outcome(run(pack_work(where, backend=backend))).unwrap() == backend


def test_what_a_sync_function_returns_is_awaited():
    async def inner():
        return 5

    assert work(lambda: inner()).unwrap() == 5


def test_an_exception_comes_back_with_its_traceback_as_cause():
    def fail():
        raise KeyError("missing")

    outcome = work(fail)
    assert not outcome.is_success
    with pytest.raises(KeyError, match="missing") as caught:
        outcome.unwrap()
    assert "in fail" in str(caught.value.__cause__)


def test_output_is_captured_in_the_thread_that_works_only(capsys):
    entered, printed = threading.Event(), threading.Event()

    def talk():
        print("one")
        entered.set()
        printed.wait(10)
        print("two", file=sys.stderr)
        print("three")

    # Threads share what they refer to, so this function is not pickled.
    from railtracks.executors._capture import Capture, captured

    capture = Capture()

    def captured_talk():
        with captured(capture, None):
            talk()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(captured_talk)
        entered.wait(10)
        print("from outside")
        printed.set()
        future.result()
    assert capture.output == [("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n")]
    assert capsys.readouterr().out == "from outside\n"
    assert type(sys.stdout).__name__ != "_CapturingStream"


def test_logs_of_another_interpreter_come_back():
    def log():
        logging.getLogger("shop").info("sold %d", 3, extra={"till": 7})

    code = "import sys; from railtracks.executors import _worker as w; i = sys.stdin.buffer; "
    code += "sys.stdout.buffer.write(w.run(i.read()))"
    level = logging.root.level
    logging.root.setLevel(logging.INFO)
    try:
        packed = pack_work(log)
    finally:
        logging.root.setLevel(level)
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, input=packed, stdout=subprocess.PIPE, check=True).stdout
    outcome = unpack_outcome(answer)
    outcome.unwrap()
    [record] = [logging.makeLogRecord(each) for each in outcome.logs]
    assert (record.name, record.levelno, record.getMessage(), vars(record)["till"]) == (
        "shop",
        logging.INFO,
        "sold 3",
        7,
    )


def test_logs_of_this_process_reach_its_handlers_once(caplog):
    outcome = work(lambda: logging.getLogger("shop").warning("sold"))
    assert outcome.logs == []
    assert [record.getMessage() for record in caplog.records] == ["sold"]


def test_an_exception_that_cannot_be_pickled_says_what_it_was():
    def fail():
        class Odd(Exception):
            def __reduce__(self):
                raise TypeError("not me")

        raise Odd("text")

    with pytest.raises(RemoteError, match=r"Odd: text") as caught:
        work(fail).unwrap()
    assert caught.value.type_name.endswith("Odd")
    assert "in fail" in caught.value.traceback_text
    assert "not me" in caught.value.reason


def test_a_cancellation_in_a_worker_cancels_nothing_here():
    async def cancel():
        raise asyncio.CancelledError

    with pytest.raises(RemoteError, match=r"asyncio\.exceptions\.CancelledError"):
        work(cancel).unwrap()


def test_a_result_that_cannot_be_pickled_is_named():
    with pytest.raises(TransferError, match=r"result of the_node, of type _thread\.lock,"):
        work(threading.Lock).unwrap()


def test_an_argument_that_cannot_be_pickled_is_named():
    with pytest.raises(TransferError, match=r"argument 'b' of the_node cannot be sent"):
        pack_work(add, (1,), {"b": threading.Lock()}, name="the_node")


def test_work_that_cannot_be_read_is_an_error_and_not_a_crash():
    with pytest.raises(TransferError, match="the work for a worker was damaged on its way"):
        unpack_outcome(run(b"nonsense")).unwrap()


@given(st.data())
def test_an_answer_that_was_damaged_is_never_taken_for_one(data):
    answer = bytearray(run(pack_work(add, (1,))))
    at = data.draw(st.integers(0, len(answer) - 1))
    answer[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TransferError, match="the answer of a worker was damaged on its way"):
        unpack_outcome(bytes(answer))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner) | st.frozensets(st.integers()),
)


@given(PLAIN)
def test_plain_data_comes_back_as_it_was(value):
    assert work(lambda: value).unwrap() == value
    assert work(list, [value]).unwrap() == [value]


def test_a_node_travels_with_its_key():
    @rt.function_node(name="local")
    def local(x):
        return x * 2

    def inside(node, x):
        return node.key, node.name, node(x)

    assert work(inside, local, 4).unwrap() == (local.key, "local", 8)
