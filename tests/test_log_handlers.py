"""Handlers, filters and formatters that raise: calls and sessions end as they do without them."""

import contextlib
import io
import logging
import logging.config
import sys
import threading
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks import _log_handlers
from railtracks._logging import SessionLog
from tests import virtual
from tests.test_logging import is_summary, messages, no_handlers, own_levels  # noqa: F401 - a fixture

RT = logging.getLogger("RT")
SESSION = logging.getLogger("RT.Session")
ONCE = "log records may be missing there (this is logged once in each session)"
DOWN = ConnectionError("the log server is down")


class StrayError(BaseException):
    pass


async def work(x):
    return x + 1


ERROR = KeyError("no")


async def fails(x):
    raise ERROR


FAILED = f"fails(1) FAILED KeyError: 'no', line {fails.__code__.co_firstlineno + 1} of test_log_handlers.py"


class Raising(logging.Handler):
    """A handler that raises when it handles a log record with a text in it."""

    def __init__(self, error=DOWN, when=""):
        super().__init__()
        self.error = error
        self.when = when

    def emit(self, record):
        if self.when in record.getMessage():
            raise self.error


@contextlib.contextmanager
def added(handler, logger=RT):
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


def failures(texts):
    return [text for text in texts if "is logged once" in text]


# ---- handlers of the application


@pytest.mark.parametrize("error", [DOWN, StrayError(), RecursionError(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("when", ["", "CREATED", "DONE", "FAILED", "Saving"])
async def test_handler_that_raises_changes_no_result_and_no_exception(when, error, caplog):
    with added(Raising(error, when)):
        async with rt.Session(store=rt.state.MemoryStore(), logging_setting="VERBOSE", run_identifier="s") as session:
            assert await rt.call(work, 1) == 2
            with pytest.raises(KeyError) as caught:
                await rt.call(fails, 1)
    assert caught.value is ERROR
    assert [record.status.value for record in session.info.records] == ["Completed", "Failed"]
    assert rt.session_id() is None
    assert failures(messages(caplog)) == [f"the log handler <Raising (NOTSET)> raised {error!r}; {ONCE}"]
    assert [text for text in messages(caplog) if text not in failures(messages(caplog))] == [
        "START CREATED work(1)", "work DONE", "START CREATED fails(1)", FAILED,
        "Saving execution info to memory, as s",
    ]  # fmt: skip


async def test_handlers_that_raise_do_not_hide_errors_of_subscribers(caplog):
    with added(Raising(when="subscriber")):
        async with rt.Session(save_state=False) as session:
            session.subscribe(lambda event: 1 / 0, name="mine")
            assert await rt.call(work, 1) == 2
    assert "subscriber mine raised ZeroDivisionError('division by zero') (1 in all)" in messages(caplog)


@pytest.mark.parametrize("position", [0, 1])
async def test_failure_of_a_handler_is_logged_by_the_others(position):
    seen: list[str] = []
    working = logging.Handler()
    working.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    pair = [working, Raising()]
    with no_handlers(), added(pair[position]), added(pair[1 - position]):
        for _ in range(2):
            async with rt.Session(logging_setting="VERBOSE", save_state=False):
                await rt.call(work, 1)
                await rt.call(work, 1)
    assert len(failures(seen)) == 2
    assert len(seen) == 2 + 2 * (2 * 2 + 1)


async def test_failure_of_the_only_handler_is_printed(capsys):
    with no_handlers(), added(Raising()):
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            await rt.call(work, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"RT.Session  : ERROR    - the log handler <Raising (NOTSET)> raised {DOWN!r}; {ONCE}")


async def test_failure_of_a_handler_shows_no_secret(capsys):
    with no_handlers(), added(Raising(ConnectionError("password='swordfish'"))):
        async with rt.Session(save_state=False):
            await rt.call(work, 1)
            rt.context.put("x", 1)
        async with rt.Session(save_state=False, logging_setting="VERBOSE"):
            await rt.call(work, 1)
    assert "swordfish" not in (printed := capsys.readouterr().err)
    assert "raised ConnectionError(" in printed


@pytest.mark.parametrize("exit_error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_a_handler_goes_on(exit_error, backend):
    raised = exit_error()
    sessions = []

    async def main():
        async with rt.Session(logging_setting="VERBOSE", run_identifier="mine") as session:
            sessions.append(session)
            await rt.call(work, 1)

    with added(Raising(raised, "work DONE")), pytest.raises(exit_error) as caught:
        virtual.run(backend, main)
    assert caught.value is raised
    assert rt.session_id() is None
    assert rt.ExecutionInfo.load(".railtracks/mine.json").answer == 2
    with rt.Session(run_identifier="mine"):
        pass  # the run is not locked any more


def test_events_of_a_call_are_whole_if_ctrl_c_comes_in_a_handler(backend):
    events = []

    async def main():
        async with rt.Session(logging_setting="VERBOSE", save_state=False) as session:
            session.subscribe(lambda event: events.append(type(event).__name__), policy="wait")
            with contextlib.suppress(KeyboardInterrupt):
                await rt.call(work, 1)

    with added(Raising(KeyboardInterrupt(), "CREATED")):
        virtual.run(backend, main)
    assert events[0] == "CallCreated"
    assert len(events) == 2


# ---- filters, formatters, factories, the redactor


class RaisingFilter(logging.Filter):
    def filter(self, record):
        raise DOWN


async def test_filter_that_raises_keeps_nothing_from_other_handlers(caplog):
    handler = logging.NullHandler()
    with added(handler):
        handler.addFilter(RaisingFilter())
        handler.handle = lambda record: handler.filter(record)  # type: ignore[method-assign]
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            assert await rt.call(work, 1) == 2
    texts = messages(caplog)
    assert texts[0].startswith("the log handler <NullHandler (NOTSET)> raised ConnectionError")
    assert texts[1:] == ["START CREATED work(1)", "work DONE"]


async def test_filter_of_a_logger_that_raises_filters_nothing(caplog):
    broken = RaisingFilter()
    RT.addFilter(broken)
    try:
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            assert await rt.call(work, 1) == 2
    finally:
        RT.removeFilter(broken)
    texts = messages(caplog)
    assert texts[0] == f"a handler or a filter of the logger 'RT' raised {DOWN!r}; {ONCE}"
    assert texts[1:] == ["START CREATED work(1)", "work DONE"]


async def test_filter_of_a_logger_that_works_is_asked(caplog):
    RT.addFilter(only := lambda record: "DONE" in record.getMessage())
    try:
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            await rt.call(work, 1)
        assert messages(caplog) == ["work DONE"]
        RT.disabled = True
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            await rt.call(work, 1)
    finally:
        RT.disabled = False
        RT.removeFilter(only)
    assert messages(caplog) == ["work DONE"]


async def test_formatter_that_raises_is_the_failure_of_its_handler(capsys):
    class Printing(logging.StreamHandler):
        def handleError(self, record):
            raise sys.exception()  # type: ignore[misc]

    class Broken(logging.Formatter):
        def format(self, record):
            raise DOWN

    handler = Printing(io.StringIO())
    handler.setFormatter(Broken())
    with no_handlers(), added(handler):
        async with rt.Session(logging_setting="VERBOSE", save_state=False):
            assert await rt.call(work, 1) == 2
    assert len(failures(capsys.readouterr().err.splitlines())) == 1


@pytest.mark.parametrize("result", [None, 1, "raises"])
async def test_record_factory_that_fails_is_done_without(result, caplog):
    def factory(*args, **kwargs):
        if result == "raises":
            raise DOWN
        return result

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        async with rt.Session(logging_setting="VERBOSE", save_state=False, run_identifier="s"):
            assert await rt.call(work, 1) == 2
    finally:
        logging.setLogRecordFactory(before)
    texts = messages(caplog)
    assert texts[0].startswith("making a log record raised ")
    assert texts[1:] == ["START CREATED work(1)", "work DONE"]
    assert {(record.session_id, record.run_id) for record in caplog.records[1:3]} == {("s", "s-r0")}


def test_text_that_cannot_be_redacted_is_not_logged(caplog):
    def redact(text):
        raise DOWN

    SessionLog("QUIET", None, "s", lambda: 0.0, redact).log(logging.WARNING, "a secret: %s", "swordfish")
    assert messages(caplog) == [
        f"making a log record raised ConnectionError; {ONCE}",
        "a log record could not be written: ConnectionError",
    ]


class Hostile(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


async def test_value_whose_repr_raises_is_named_by_its_class(caplog):
    def callback(event):
        raise Hostile

    async with rt.Session(save_state=False) as session:
        session.subscribe(callback, name="mine")
        assert await rt.call(work, 1) == 2
    assert "subscriber mine raised <Hostile whose repr raised RuntimeError> (1 in all)" in messages(caplog)


# ---- handlers that call Railtracks


async def test_handler_that_calls_nodes_does_not_go_on_for_ever(caplog):
    calls = 0

    class Calling(logging.Handler):
        def emit(self, record):
            nonlocal calls
            if not is_summary(record.getMessage()):  # when no call can be made any more
                calls += 1
                session.start_soon(work, 1)

    with added(Calling()):
        async with rt.Session(logging_setting="VERBOSE", save_state=False) as session:
            await rt.call(fails_not)
            await anyio.sleep(1)
    texts = messages(caplog)
    assert calls == 2  # those of the call that the body made
    assert texts.count("work DONE") == 2
    assert len(failures(texts)) == 1
    assert "makes log records of Railtracks itself" in failures(texts)[0]


async def fails_not():
    pass


async def test_handler_that_logs_to_our_loggers_ends(caplog):
    class Logging(logging.Handler):
        depth = 0

        def emit(self, record):
            Logging.depth += 1
            if Logging.depth > 5:
                raise RecursionError
            try:
                session._log.log(logging.WARNING, "inside")
                RT.warning("inside the logger")
            finally:
                Logging.depth -= 1

    with added(Logging()):
        async with rt.Session(save_state=False) as session:
            session._log.log(logging.WARNING, "outside")
            assert await rt.call(work, 1) == 2
    assert "outside" in messages(caplog)
    assert len(failures(messages(caplog))) == 1


async def test_handler_that_broadcasts_does_not_go_on_for_ever():
    class Broadcasting(logging.Handler):
        def emit(self, record):
            session._coordinator.publisher.publish(rt.state.Broadcast(
                session_id="s", time=0.0, item=record.getMessage(), run_id=None, node_id=None))  # fmt: skip

    def callback(event):
        items.append(event.item)
        raise RuntimeError

    items: list[str] = []
    with added(Broadcasting()):
        async with rt.Session(save_state=False) as session:
            session.subscribe(callback, kinds=(rt.state.Broadcast,), name="mine")
            await rt.broadcast("first")
            assert await rt.call(work, 1) == 2
    assert len(items) < 5


def test_threads_that_log_at_once_all_reach_the_handlers():
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[assignment, method-assign]
    log = SessionLog("QUIET", None, "s", lambda: 0.0)
    meet = threading.Barrier(4)

    def many():
        meet.wait()
        for _ in range(50):
            log.log(logging.WARNING, "x")

    with added(handler):
        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 200


# ---- applications that replace how handlers are called


async def test_replaced_way_of_calling_handlers_is_used(monkeypatch, caplog):
    """As by error trackers, which patch ``Logger.callHandlers``."""
    tracked = []
    original = logging.Logger.callHandlers

    def call_handlers(self, record):
        tracked.append(record.getMessage())
        original(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", call_handlers)
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False):
        await rt.call(work, 1)
        with added(Raising()):
            assert await rt.call(work, 1) == 2
    assert tracked[:2] == messages(caplog)[:2] == ["START CREATED work(1)", "work DONE"]
    written = Path("x.log").read_text()
    assert written.count("work DONE\n") == 2
    assert f"a handler or a filter of the logger 'RT' raised {DOWN!r}" in written


def test_own_way_of_calling_handlers_is_recognised(monkeypatch):
    with added(logging.NullHandler()) as handler:
        assert handler in _log_handlers.targets_of(RT)
        monkeypatch.setattr(logging.Logger, "handle", lambda self, record: None)
        assert _log_handlers.targets_of(RT) == [RT]
