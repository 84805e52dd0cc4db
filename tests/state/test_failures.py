"""The exception of a failed call is recorded so that it can be made again, or the form says that it cannot."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Self

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import CallRecord, Form, RecordedError, Status
from railtracks.state._redaction._redactor import Redactor, Secret
from railtracks.state._serialization._guarding import guarded, guarded_repr
from railtracks.state._serialization._record_text import (
    failure_text,
    form_in,
    is_lossy,
    output_text,
    parse_members,
    why_lossy,
)
from railtracks.state._serialization._structuring import restore_error
from tests.effort import examples
from tests.state.seeing import CLASSES, Plain, Slotted, seen, values


class WithKeyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class OwnNew(Exception):
    def __new__(cls, code: int, text: str) -> Self:
        made = super().__new__(cls, text)
        made.code = code
        return made

    def __init__(self, code: int, text: str) -> None:
        self.code: int = code


class Reduced(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class WithSlots(Exception):
    __slots__ = ("reason", "unset")

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason


class Registering(Exception):
    count = 0

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        Registering.count += 1


class OwnOSError(ConnectionError):
    def __init__(self, code: int, host: str) -> None:
        super().__init__(code, "lost")
        self.host = host


class OwnGroup(ExceptionGroup):
    code: int

    def __new__(cls, errors: list[Exception], code: int) -> Self:
        made = super().__new__(cls, "several", errors)
        made.code = code
        return made


class Holding(Exception):
    def __init__(self, held: Plain, other: Slotted | None = None) -> None:
        super().__init__(held)
        self.other = other


@dataclass
class DataError(Exception):
    code: int
    what: Any = None


@attrs.define
class AttrsError(Exception):
    code: int
    what: Any = None


@attrs.frozen
class FrozenError(Exception):
    code: int


class Outer:
    class Inner(Exception):
        pass


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an exception after it was raised."""
    try:
        if cause is None:
            raise error
        raise error from cause
    except BaseException as exc:
        return exc


def raised_by(code: str) -> BaseException:
    try:
        exec(code, {"values": [], "asyncio": asyncio, "json": json, "subprocess": subprocess})
    except BaseException as exc:
        return exc
    raise AssertionError(code)


def noted(error: BaseException, *notes: str) -> BaseException:
    for note in notes:
        error.add_note(note)
    return error


def seen_of(error: BaseException | None) -> Any:
    """Return what the owner of an exception can see in it, but for its traceback."""
    if error is None:
        return None
    members = {
        name: getattr(error, name, None)
        for name in (
            "errno", "strerror", "filename", "filename2", "value", "code", "name", "path", "msg", "lineno", "offset",
            "text", "encoding", "object", "start", "end", "reason", "message", "characters_written",
        )
    }  # fmt: skip
    held = [
        seen_of(each) if isinstance(each, BaseException) else seen(each) for each in error.args if each is not error
    ]
    inner = [seen_of(each) for each in getattr(error, "exceptions", ())]
    own = {name: value for name, value in vars(error).items() if not isinstance(value, BaseException)}
    shown = guarded(str, error), guarded_repr(error).partition("(")[0]  # equal sets may have another order in a repr
    return [
        type(error), shown, held, inner, seen(members), seen(own), error.__suppress_context__, seen_of(error.__cause__),
    ]  # fmt: skip


def assert_comes_back(error: BaseException) -> BaseException:
    text = failure_text(error, Redactor())
    assert form_in(text) is Form.TYPED, text
    restored = restore_error(text)
    assert seen_of(restored) == seen_of(error)
    return restored


RAISED_BY_PYTHON = [
    "open('/nowhere/to/be/found')", "b'\\xff'.decode()", "'\\ud800'.encode()", "{}['x']", "values[3]", "1 / 0",
    "missing", "None.missing", "import nowhere_to_be_found", "from json import nothing", "compile('1 +', 'f', 'exec')",
    "compile('if 1:\\nx', 'f', 'exec')", "raise SystemExit(3)", "raise SystemExit", "raise StopIteration((1, 2))",
    "raise StopAsyncIteration", "raise KeyboardInterrupt", "next(iter(()))", "int('x')", "assert 1 == 2, 'no'",
    "raise TimeoutError", "raise ConnectionResetError(104, 'reset')", "raise BlockingIOError(11, 'again', 3)",
    "raise OSError(2, 'gone', 'a', None, 'b')", "raise OSError('text')", "json.loads('{')", "raise EOFError()",
    "subprocess.run(['false'], check=True)", "raise subprocess.TimeoutExpired('cmd', 2.5, b'out')",
    "raise asyncio.CancelledError('why')", "raise asyncio.IncompleteReadError(b'a', 3)", "raise NotImplementedError",
    "raise UnicodeTranslateError('abc', 1, 2, 'bad')", "raise ValueError(1, (2, 3), {'a': {4}})", "raise MemoryError",
    "raise ImportError('no', name='n', path='p')", "raise NameError('no', name='n')", "raise UserWarning('w')",
]  # fmt: skip


@pytest.mark.parametrize("code", RAISED_BY_PYTHON)
def test_an_exception_of_python_comes_back(code):
    assert_comes_back(raised_by(code))


OWN: dict[str, Any] = {
    "keyword": lambda: WithKeyword(code=3),
    "new": lambda: OwnNew(3, "text"),
    "reduce": lambda: Reduced(1, "a"),
    "slots": lambda: WithSlots("r"),
    "os": lambda: OwnOSError(5, "h"),
    "group": lambda: OwnGroup([ValueError(1), OwnGroup([KeyError("x")], 5)], 4),
    "nested group": lambda: ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError("x")])]),
    "base group": lambda: BaseExceptionGroup("g", [SystemExit(1)]),
    "group of a tuple": lambda: ExceptionGroup("g", (ValueError(1), TypeError("t"))),
    "held": lambda: Holding(Plain(1, [2]), Slotted(3)),
    "dataclass": lambda: DataError(1, what=(1, 2)),
    "attrs": lambda: AttrsError(1, {"a": (2,)}),
    "frozen attrs": lambda: FrozenError(1),
    "inner": lambda: Outer.Inner("x"),
    "notes": lambda: noted(ValueError("x"), "one", "two"),
    "cause": lambda: raised(ValueError("x"), OwnOSError(5, "h")),
    "cause as argument": lambda: raised(RuntimeError(cause := KeyError("x")), cause),
    "timeout": lambda: rt.exceptions.GlobalTimeOutError(3.5, "slow", ["shop, line 3"]),
    "ended": lambda: raised(rt.exceptions.SessionEndedError("ended"), ValueError("x")),
    "model": lambda: rt.exceptions.LLMError("no", rt.llm.MessageHistory([rt.llm.UserMessage("hi")])),
    "fatal": lambda: rt.exceptions.NodeInvocationError("no", ["hint"], fatal=True),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_an_exception_with_ways_of_its_own_comes_back(make):
    assert_comes_back(raised(make()))


def test_no_code_of_the_class_runs_when_an_exception_comes_back():
    text = failure_text(Registering("a"), Redactor())
    before = Registering.count
    assert restore_error(text).args == ("a",)
    assert Registering.count == before


def test_an_exception_that_occurs_twice_comes_back_as_one():
    cause = KeyError("x")
    restored = assert_comes_back(raised(RuntimeError("r", cause), cause))
    assert restored.args[1] is restored.__cause__


def test_a_group_comes_back_with_its_own_members():
    restored = assert_comes_back(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError("x")])]))
    assert isinstance(restored, ExceptionGroup)
    assert [restored.args[1][0]] == [each for each in restored.exceptions if isinstance(each, ValueError)]


def test_an_exception_that_is_wrapped_often_is_written_once():
    error: Exception = ValueError("x")
    for _ in range(12):
        try:
            raise RuntimeError(error) from error
        except RuntimeError as exc:
            error = exc
    text = failure_text(error, Redactor(), "")
    assert text.count('"$number"') == 12
    restore_error(text)


def test_the_context_comes_back():
    try:
        try:
            raise KeyError("x")
        except KeyError:
            raise ValueError("y")  # noqa: B904 - what is tested
    except ValueError as exc:
        restored = assert_comes_back(exc)
    assert seen_of(restored.__context__) == seen_of(KeyError("x"))


class Response:
    """Holds something that cannot be recorded."""


def with_response() -> Exception:
    error = ValueError("503")
    error.response = Response()  # type: ignore[attr-defined]
    return error


def test_a_cause_that_is_not_all_on_record_becomes_a_placeholder():
    restored = restore_error(failure_text(raised(RuntimeError("declined"), with_response()), Redactor()))
    assert repr(restored) == "RuntimeError('declined')"
    assert isinstance(restored.__cause__, RecordedError)
    assert str(restored.__cause__) == "ValueError: 503"


def endless() -> Exception:
    error = ValueError("x")
    error.args = (error,)
    return error


def local() -> Exception:
    class Local(Exception):
        pass

    return Local("x")


class Shadowed(Exception):
    pass


FormerShadowed = Shadowed


class Shadowed(Exception):  # type: ignore[no-redef]
    pass


LOST: dict[str, tuple[Any, Form]] = {
    "response": (with_response, Form.OPAQUE),
    "object": (lambda: ValueError(object()), Form.OPAQUE),
    "attribute error of an object": (lambda: raised_by("object().missing"), Form.OPAQUE),
    "member of a group": (lambda: ExceptionGroup("g", [with_response()]), Form.OPAQUE),
    "itself": (endless, Form.CUT),
    "local class": (local, Form.OPAQUE),
    "shadowed class": (lambda: FormerShadowed("x"), Form.OPAQUE),
    "secret": (lambda: ValueError(Secret("correct horse")), Form.MASKED),
    "named secret": (lambda: ValueError({"password": "abc"}), Form.MASKED),
    "secret in the message": (lambda: ValueError("password=hunter2"), Form.MASKED),
    "secret attribute": (lambda: AttrsError(1, {"api_key": "k"}), Form.MASKED),
    "placeholder": (lambda: RecordedError("ValueError", "x", ""), Form.OPAQUE),
    "too large": (lambda: ValueError("x" * 2_000_000), Form.CUT),
}


@pytest.mark.parametrize(("make", "form"), LOST.values(), ids=LOST)
def test_an_exception_that_is_not_all_on_record_says_so(make, form):
    text = failure_text(make(), Redactor(), max_bytes=1_000_000)
    assert form_in(text) is form
    assert "output_types" not in parse_members(text)
    with pytest.raises(ValueError, match=rf"^is not all on record \({why_lossy(form)}\)$"):
        restore_error(text)


def test_a_message_that_shows_a_secret_hides_what_it_is_made_of():
    text = failure_text(AttrsError(1, "password=hunter2"), Redactor())
    assert parse_members(text)["output"]["$type"].endswith("AttrsError")
    assert "hunter2" not in text


def test_pydantic_and_httpx_errors_are_never_half_restored():
    httpx, pydantic = pytest.importorskip("httpx"), pytest.importorskip("pydantic")
    request = httpx.Request("GET", "http://example.org")
    with pytest.raises(httpx.HTTPStatusError) as status:
        httpx.Response(500, request=request).raise_for_status()
    with pytest.raises(pydantic.ValidationError) as invalid:
        pydantic.TypeAdapter(int).validate_python("x")
    for error in (status.value, invalid.value, httpx.ConnectError("no", request=request)):
        assert form_in(failure_text(error, Redactor())) is Form.OPAQUE


def test_a_class_that_is_gone_is_named():
    text = failure_text(OwnOSError(5, "h"), Redactor()).replace("OwnOSError", "Gone")
    with pytest.raises(ValueError, match=r"^is of a type that no loaded module defines \(.*\.Gone\)$"):
        restore_error(text)


def test_nothing_is_imported_for_a_name_on_record():
    text = failure_text(OwnOSError(5, "h"), Redactor()).replace("tests.state.test_failures.OwnOSError", "this.Error")
    with pytest.raises(ValueError, match=r"no loaded module defines \(this.Error\)"):
        restore_error(text)
    assert "this" not in sys.modules


def test_an_exception_whose_class_has_changed_does_not_come_back(monkeypatch):
    text = failure_text(OwnOSError(5, "h"), Redactor())
    monkeypatch.setattr(OwnOSError, "__str__", lambda self: f"lost {self.host}")
    with pytest.raises(ValueError, match=r"^cannot be made again exactly as it was$"):
        restore_error(text)


def test_the_failure_of_an_earlier_release_does_not_come_back():
    with pytest.raises(ValueError, match=r"^was recorded by an earlier release"):
        restore_error('"output": {"$type": "ValueError", "$message": "x", "$traceback": ""}')


def test_a_failure_that_is_described_elsewhere_comes_back():
    record = CallRecord(0, None, 0, "n", "Tool", (), {}, 0, 0.0, Status.FAILED, exception=raised(ValueError("x")))
    text = output_text(record, Redactor(), omit_traceback=True)
    assert parse_members(text)["output"]["$traceback"] == "(see the call below)\n"
    assert repr(restore_error(text)) == "ValueError('x')"


def test_registered_hooks_bring_an_exception_back(monkeypatch):
    from railtracks.state._serialization._hooks import registered_types

    monkeypatch.setattr(registered_types, "_by_type", {})
    monkeypatch.setattr(registered_types, "_by_name", {})
    rt.state.register_hooks(Holding, lambda error: error.args[0].x, lambda x: Holding(Plain(x)))
    assert_comes_back(Holding(Plain(5)))


CLASSES_OF_ERRORS = [
    ValueError, KeyError, OSError, FileNotFoundError, SystemExit, StopIteration, ImportError, AttributeError, NameError,
    SyntaxError, RuntimeError, DataError, Reduced, WithSlots, OwnOSError, rt.exceptions.StateError,
]  # fmt: skip


@st.composite
def errors(draw: st.DrawFn) -> BaseException:
    """Draw exceptions of many kinds, with anything in them."""
    cls: Any = draw(st.sampled_from(CLASSES_OF_ERRORS))
    error: BaseException = cls.__new__(cls)
    error.args = tuple(draw(st.lists(values, max_size=3)))
    for name in draw(st.sets(st.sampled_from(["a", "b", "filename", "errno", "name", "msg", "value"]), max_size=3)):
        setattr(error, name, draw(values))
    for note in draw(st.lists(st.text(max_size=5), max_size=2)):
        error.add_note(note)
    error.__cause__ = draw(st.none() | errors()) if draw(st.integers(0, 3)) == 0 else None
    error.__suppress_context__ = draw(st.booleans())
    return error


@examples(100)
@given(errors())
def test_an_exception_comes_back_exactly_or_is_lossy(error):
    text = failure_text(error, Redactor())
    if is_lossy(form_in(text)):
        return
    try:
        restored = restore_error(text, CLASSES)
    except ValueError:
        return  # such as for a class that only an annotation can bring back
    assert seen_of(restored) == seen_of(error)


@examples(100)
@given(errors(), errors())
def test_exceptions_that_differ_are_never_written_alike(one, two):
    texts = [failure_text(error, Redactor(), "") for error in (one, two)]
    if texts[0] == texts[1] and not is_lossy(form_in(texts[0])):
        assert seen_of(one) == seen_of(two)
