"""The log lines and events of calls, as a table over the transitions of a record."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import attrs
import pytest

import railtracks as rt
from railtracks._logging import SessionLog
from railtracks.execution._call_lines import MAX_MESSAGE
from railtracks.execution._call_log import CallLog
from railtracks.nodes._resolve import as_node
from railtracks.pubsub import RTPublisher
from railtracks.state import Broadcast, CallCancelled, CallCreated, CallFailed, CallSucceeded, Reason, Status
from railtracks.state._records import REUSED
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._redacted_values import logged_text
from railtracks.state._serialization._shown_arguments import SHOWN_CHARACTERS, shown_arguments
from railtracks.state._transitions import RTState

ERROR = ValueError("no")
EXIT = SystemExit(3)
NODE = as_node(len, "test")


class Observed:
    """A publisher's observer that keeps the events."""

    observes_calls = True

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)


def ended(kind):
    """Return a record that ended in some way, below another one."""
    state = RTState()
    parent = state.created("parent", "Tool", (), {}, None, 1.0)
    record = state.created("child", "Tool", (1,), {"x": 2}, parent, 2.0)
    match kind:
        case "succeeded" | "replayed":
            state.succeeded(record, 7, 3.5)
            record.reuse = REUSED if kind == "replayed" else None
        case "failed":
            state.failed(record, ERROR, 3.5)
        case "exited":
            state.failed(record, EXIT, 3.5)
        case _:
            state.cancelled(record, Reason(kind), 3.5)
    return parent, record


ENDS: dict[str, tuple[str, type[Any], dict[str, Any]]] = {
    "succeeded": ("DEBUG child DONE", CallSucceeded, {"result": 7}),
    "replayed": ("DEBUG child REUSED", CallSucceeded, {"result": 7}),
    "failed": ("WARNING child FAILED ValueError: no", CallFailed, {"exception": ERROR}),
    "exited": ("WARNING child FAILED SystemExit: 3", CallFailed, {"exception": EXIT}),
    "timeout": ("DEBUG child CANCELLED (timeout)", CallCancelled, {"reason": Reason.TIMEOUT}),
    "end_on_error": (
        "DEBUG child CANCELLED (end_on_error): KeyError ended the session",
        CallCancelled, {"reason": Reason.END_ON_ERROR},
    ),
    "request": (
        "DEBUG child CANCELLED (request): rt.state.cancel_run was called", CallCancelled, {"reason": Reason.REQUEST},
    ),
    "handle": ("DEBUG child CANCELLED (handle): handle.cancel() was called", CallCancelled, {"reason": Reason.HANDLE}),
    "outside": (
        "DEBUG child CANCELLED (outside): by the code around it, such as a timeout of its own, or by Ctrl-C",
        CallCancelled, {"reason": Reason.OUTSIDE},
    ),
}  # fmt: skip


def call_log(level="VERBOSE", observer=None, redactor=None):
    redactor = redactor or Redactor()
    log = SessionLog(level, None, "s", lambda: 0.0, partial(logged_text, redactor=redactor))
    return CallLog("s", log, RTPublisher(log, observer), redactor, RTState())


def lines(caplog):
    return [f"{entry.levelname} {entry.getMessage()}" for entry in caplog.records]


def failing(log, *exceptions):
    """Log that a call and its callers failed, the innermost first, each with an exception."""
    state = log._raisers._state
    records: list[Any] = []
    for number in range(len(exceptions)):
        records.append(state.created(f"c{number}", "Tool", (), {}, records[-1] if records else None, 1.0))
    for record, exception in zip(reversed(records), exceptions, strict=True):
        state.failed(record, exception, 2.0)
        log.ended(record)


@pytest.mark.parametrize("kind", ENDS)
def test_the_end_of_a_call_is_one_line_and_one_event(caplog, kind):
    line, event_class, members = ENDS[kind]
    observer = Observed()
    caplog.set_level(logging.DEBUG, "RT")
    _, record = ended(kind)
    call_log(observer=observer).ended(record, (), KeyError())
    assert lines(caplog) == [line]
    assert [(entry.run_id, entry.node_id) for entry in caplog.records] == [("s-r0", "s-n1")]
    (event,) = observer.events
    assert type(event) is event_class
    assert {name: getattr(event, name) for name in members} == members
    assert (event.time, event.step, event.parent_id) == (3.5, record.ended_step, "s-n0")
    check_whole_and_frozen(event)


def check_whole_and_frozen(event):
    """Check that an event has all its attributes, and that none can be changed."""
    for name in attrs.fields_dict(type(event)):
        assert hasattr(event, name), name
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(event, name, None)


@pytest.mark.parametrize("is_in_call", [True, False], ids=["in a call", "outside calls"])
def test_a_broadcast_is_one_event_with_the_call_that_made_it(is_in_call):
    observer = Observed()
    _, record = ended("succeeded")
    log = call_log(observer=observer)
    for item in ("first", "second"):
        log.broadcast(record if is_in_call else None, item, 4.5)
    ids = ("s-r0", "s-n1") if is_in_call else (None, None)
    assert [(event.item, event.time, event.run_id, event.node_id) for event in observer.events] == [
        ("first", 4.5, *ids), ("second", 4.5, *ids),
    ]  # fmt: skip
    for event in observer.events:
        assert type(event) is Broadcast
        check_whole_and_frozen(event)


def test_broadcasts_in_turns_each_have_their_own_call():
    observer = Observed()
    parent, record = ended("succeeded")
    log = call_log(observer=observer)
    for each in (parent, record, None, parent):
        log.broadcast(each, "item", 4.5)
    assert [event.node_id for event in observer.events] == ["s-n0", "s-n1", None, "s-n0"]


def test_a_call_is_announced_with_its_caller(caplog):
    observer = Observed()
    caplog.set_level(logging.DEBUG, "RT")
    parent, record = ended("succeeded")
    log = call_log(observer=observer)
    log.created(parent, None, NODE)
    log.created(record, parent, NODE)
    assert lines(caplog) == ["INFO START CREATED parent()", "DEBUG parent CREATED child(1, x=2)"]
    assert [type(event) for event in observer.events] == [CallCreated] * 2
    check_whole_and_frozen(observer.events[0])
    assert (observer.events[1].args, observer.events[1].kwargs, observer.events[1].time) == ((1,), {"x": 2}, 2.0)


@pytest.mark.parametrize(
    ("level", "observed", "active"),
    [("VERBOSE", False, True), ("REGULAR", False, False), ("NONE", True, True), ("NONE", False, False)],
)
def test_it_is_active_if_a_line_or_an_event_has_a_receiver(level, observed, active):
    assert call_log(level, Observed() if observed else None).is_active is active


def test_an_abandoned_thread_is_a_warning(caplog):
    _, record = ended("outside")
    call_log("QUIET").abandoned(record)
    (entry,) = caplog.records
    assert entry.levelno == logging.WARNING
    assert "child was cancelled" in entry.getMessage()
    assert "abandon_on_cancel=False" in entry.getMessage()


# ---- failures


def test_a_failure_is_explained_once_where_it_was_raised(caplog):
    failing(call_log("QUIET"), error := ValueError("why"), error, error)
    assert lines(caplog) == ["WARNING c2 FAILED ValueError: why"]
    caplog.clear()
    failing(call_log("REGULAR"), error, error, error)
    assert lines(caplog) == [
        "WARNING c2 FAILED ValueError: why",
        "INFO c1 FAILED ValueError (raised by c2)",
        "INFO c0 FAILED ValueError (raised by c2)",
    ]


def test_an_exception_in_place_of_another_is_explained_too(caplog):
    failing(call_log("QUIET"), KeyError("k"), LookupError("no such price"))
    assert lines(caplog) == ["WARNING c1 FAILED KeyError: 'k'", "WARNING c0 FAILED LookupError: no such price"]


def test_a_group_of_failures_of_calls_is_not_explained_again(caplog):
    failing(call_log(), error := ValueError("why"), ExceptionGroup("group", [ExceptionGroup("inner", [error])]))
    assert lines(caplog)[1:] == ["INFO c0 FAILED ExceptionGroup (raised by c1)"]


def test_what_is_new_in_a_group_is_explained(caplog):
    error = ValueError("why")
    others = [KeyError(number) for number in range(4)]
    group = ExceptionGroup("group", [error, *others])
    failing(call_log(), error, group, group)
    assert lines(caplog)[1:] == [
        "WARNING c1 FAILED ExceptionGroup: group (5 sub-exceptions): KeyError: 0; KeyError: 1; KeyError: 2; ...",
        "INFO c0 FAILED ExceptionGroup (raised by c2, c1)",
    ]


def test_members_of_groups_in_a_group_come_in_order(caplog):
    inner = ExceptionGroup("inner", [KeyError(0), ExceptionGroup("innermost", [KeyError(1)])])
    failing(call_log(), ExceptionGroup("group", [inner, KeyError(2)]))
    assert lines(caplog) == [
        "WARNING c0 FAILED ExceptionGroup: group (2 sub-exceptions): KeyError: 0; KeyError: 1; KeyError: 2"
    ]


def test_an_exception_without_a_message_is_shown_with_its_place(caplog):
    def check(number):
        assert number == 2

    try:
        check(3)
    except AssertionError as exc:
        exc.args = ()
        failing(call_log(), exc)
    line = check.__code__.co_firstlineno + 1
    assert lines(caplog) == [f"WARNING c0 FAILED AssertionError, line {line} of test_call_log.py"]


async def buy(item, pin=None, *, client=None):
    raise KeyError("price")


BUY_LINE = buy.__code__.co_firstlineno + 1


@pytest.mark.parametrize("setting", ["REGULAR", "VERBOSE"])
@pytest.mark.parametrize("saved", [True, False])
async def test_a_failure_says_which_call_it_was_and_where(setting, saved, caplog):
    async def buy_all(items):
        await rt.call_batch(buy, items)

    async with rt.Session(logging_setting=setting, save_state=saved):
        await rt.call(buy_all, [67, "red shoes", [1, 2]])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        f"buy({shown}) FAILED KeyError: 'price', line {BUY_LINE} of test_call_log.py"
        for shown in ("67", '"red shoes"', "[1, 2]")
    ]


async def test_only_the_line_where_a_failure_was_raised_has_arguments(caplog):
    async def pass_on(item):
        await rt.call(buy, item)

    async with rt.Session(logging_setting="REGULAR", save_state=False):
        with pytest.raises(KeyError):
            await rt.call(pass_on, 5)
    assert [line for line in caplog.messages if "FAILED" in line] == [
        f"buy(5) FAILED KeyError: 'price', line {BUY_LINE} of test_call_log.py",
        "pass_on FAILED KeyError (raised by buy)",
    ]


@pytest.mark.parametrize("saved", [True, False])
async def test_arguments_of_a_failure_have_no_secrets_and_are_short(saved, caplog):
    async def log_in(user, password, *, api_key, client):
        raise KeyError("no")

    node = rt.function_node(log_in, ignore=["client"])
    with pytest.raises(KeyError):
        async with rt.Session(logging_setting="QUIET", save_state=saved):
            await rt.call(node, "Ada", 1234, api_key="k-77", client=object())
    with pytest.raises(KeyError):
        async with rt.Session(logging_setting="QUIET", save_state=saved):
            await rt.call(node, ["x" * 1000] * 3, "y", api_key="z", client="\n" * 1000)
    short, long = caplog.messages
    assert short.startswith('log_in("Ada", "***", api_key=***, client=…) FAILED KeyError')
    assert len(long) < 400
    assert long.isprintable()


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError


MESSAGES = {
    "several lines": ("first\nsecond\r\x1b[31m\u2028third\udc80", r"first\nsecond\r\x1b[31m\u2028third\udc80"),
    "long": ("x" * 5_000, "x" * (MAX_MESSAGE - 33) + "... [5000 characters in all]"),
    "secret": ("token=hunter2hunter2", "token=***"),
    "known secret": ("it is correct horse", "it is ***"),
    "known secret at the cut": ("x" * (MAX_MESSAGE - 40) + "correct horse" * 500, None),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_one_line_short_and_without_secrets(name, caplog):
    message, expected = MESSAGES[name]
    redactor = Redactor()
    redactor.add("correct horse")
    failing(call_log(redactor=redactor), Exception(message))
    (line,) = lines(caplog)
    assert line.isprintable()
    assert "corr" not in line
    assert len(line) < MAX_MESSAGE + 100
    if expected is not None:
        assert line.startswith(f"WARNING c0 FAILED Exception: {expected[:900]}")
        assert line.endswith(expected[-20:])


def test_an_exception_that_cannot_be_read_is_named(caplog):
    failing(call_log(), Unreadable())
    assert lines(caplog) == ["WARNING c0 FAILED Unreadable: <str of Unreadable raised RuntimeError>"]


# ---- the other ends of top-level calls, which are shown by default


@pytest.mark.parametrize(
    ("waiting", "shown"), [((), ""), (("a, line 1 of x.py", "b"), ", waiting in a, line 1 of x.py; b")]
)
def test_a_timeout_says_what_was_waiting_where(waiting, shown, caplog):
    state = RTState()
    state.cancelled(record := state.created("c", "Tool", (), {}, None, 1.0), Reason.TIMEOUT, 2.0, 1.5)
    call_log("QUIET").ended(record, waiting)
    assert lines(caplog) == [f"WARNING c CANCELLED (timeout): it took longer than 1.5 s{shown}"]


def test_ends_of_top_level_calls_are_shown_by_default(caplog):
    log, state = call_log("REGULAR"), RTState()
    first, second = (state.created(name, "Tool", (), {}, None, 1.0) for name in "ab")
    state.cancelled(first, Reason.SESSION_ENDED, 2.0)
    state.suspended(second, 2.0)
    log.ended(first)
    log.ended(second)
    assert lines(caplog) == [
        "INFO a CANCELLED (session_ended): the session ended before it", "INFO b SUSPENDED",
    ]  # fmt: skip
    assert log.ends == {Status.CANCELLED: 1, Status.SUSPENDED: 1}


def test_a_replayed_failure_is_not_counted_in_this_session(caplog):
    state, log = RTState(), call_log()
    state.failed(record := state.created("c", "Tool", (), {}, None, 1.0), ERROR, 2.0)
    record.reuse = REUSED
    log.ended(record)
    assert lines(caplog) == ["DEBUG c REUSED, FAILED"]
    assert log.ends == {}


def test_only_the_first_call_is_shown_by_default(caplog):
    log, state = call_log("REGULAR"), RTState()
    for name in "abc":
        log.created(record := state.created(name, "Tool", (), {}, None, 1.0), None, NODE)
        state.succeeded(record, 1, 2.0)
        log.ended(record)
    assert lines(caplog) == ["INFO START CREATED a"]


# ---- arguments


class Order:
    def __repr__(self):
        return "<Order 7>"


class Broken:
    def __repr__(self):
        raise RuntimeError


class Long:
    def __repr__(self):
        return "x" * 10_000_000


class Noted:
    """A key that notes that it is written."""

    written: list[int] = []

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        self.written.append(self.number)
        return "noted"


_LONG = f"{'x' * 68}... [10000000 characters in all]"
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "none": ((), {}, ""),
    "scalars": ((1, "a\nb", None, 2.5), {"flag": True}, r'1, "a\nb", null, 2.5, flag=true'),
    "other writing": (("żółw",), {}, '"żółw"'),
    "collections": (([1, 2], {"a": (1,)}), {}, '[1, 2], {"a": [1]}'),
    "long text": (("x" * 1_000,), {}, f'"{"x" * 72}... [1000 characters in all]"'),
    "long repr": ((Long(),), {"x": [Long()]}, f"{_LONG}, x=[{_LONG}]"),
    "large dict": (({n: n for n in range(10_000)},), {}, "{0: 0, 1: 1, 2: 2, 3: 3, 4: 4, …}"),
    "many items": ((list(range(100)),), {}, "[0, 1, 2, 3, 4, …]"),
    "many arguments": (tuple(range(20)), {"x": 1}, "0, 1, 2, 3, 4, 5, 6, 7, … [13 more]"),
    "objects": ((Order(),), {"other": Broken()}, "<Order 7>, other=<repr of Broken raised RuntimeError>"),
    "secrets": (
        (rt.Secret("correct horse"), "it is correct horse", {"password": "x"}),
        {"api_key": "k"},
        '"***", "it is ***", {"password": ***}, api_key="***"',
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_shown_short_and_without_secrets(name):
    args, kwargs, expected = ARGUMENTS[name]
    redactor = Redactor()
    redactor.add("correct horse")
    assert shown_arguments(args, kwargs, redactor) == expected


def test_a_line_of_short_texts_that_is_cut_claims_no_length():
    shown = shown_arguments(([["a" * 9] * 5] * 5,), {}, Redactor())
    assert len(shown) <= SHOWN_CHARACTERS
    assert "in all" not in shown


def test_what_is_not_shown_of_a_large_dict_is_not_read():
    shown = shown_arguments(({Noted(number): 1 for number in range(100)},), {}, Redactor())
    assert shown == "{noted: 1, noted: 1, noted: 1, noted: 1, noted: 1, …}"
    assert len(Noted.written) < 10


def test_a_secret_where_an_argument_is_cut_is_masked_as_a_whole():
    redactor = Redactor()
    redactor.add("correct horse battery")
    for before in range(100):
        shown = shown_arguments(("." * before + "correct horse battery" + "." * 200,), {}, redactor)
        assert not any(part in shown for part in ("corr", "hors", "batt"))


def test_arguments_that_are_secret_or_ignored_are_not_shown(caplog):
    @rt.function_node(ignore=("client",))
    def fetch(url: str, token: str, client: object) -> None: ...

    state, log = RTState(), call_log()
    log.created(state.created("fetch", "Tool", ("u", "t", object()), {}, None, 1.0), None, as_node(fetch, "test"))
    assert lines(caplog) == ['INFO START CREATED fetch("u", "***", …)']
