"""A call as a span: its name, its attributes and its status, by the semantic conventions of OpenTelemetry.

Nothing here needs a package of OpenTelemetry, so a recorded run can be exported without one. Texts are without secrets.

https://opentelemetry.io/docs/specs/semconv/code/, .../exceptions/, .../gen-ai/gen-ai-agent-spans/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from types import CodeType
from typing import Any, Literal, NamedTuple

import attrs

from railtracks._identifiers import node_id, run_id
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import innermost
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._records import is_retried, is_reused
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder
from railtracks.state._serialization._record_text import SEE_BELOW, dumps, loads
from railtracks.state._serialization._shown_arguments import arguments_of, result_of
from railtracks.state._views._texts import shown_error, shown_name

SCOPE = "railtracks"
"""The name of the instrumentation scope of all spans."""
MAX_VALUE = 1_000
"""The number of characters of a value that are shown."""
CHAT_KEY = "railtracks.chat"
"""What the key of a node begins with that asks a model."""

Attribute = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
Attributes = dict[str, Attribute]

_FAULTS = {
    Reason.TIMEOUT: "the top-level call exceeded its timeout",
    Reason.BUDGET: "the session had used up its budget",
    Reason.END_ON_ERROR: "the error of another call ended the session",
    Reason.PROCESS_DIED: "its process ended before the call did",
}
"""The reasons of a cancellation that are errors, in words. The others are how a program ends what it needs no more."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_OF_CONTENT = "gen_ai.system_instructions"
"""The recorded attribute that is a value, as arguments are."""
_RECORDED = ("gen_ai.", "railtracks.request.")
"""What the names of recorded attributes begin with that spans get."""


@attrs.frozen
class SpanError:
    """Why a span has the status ERROR.

    Args:
        type: The class of the exception, or the reason of the cancellation.
        description: What people read.
    """

    type: str
    description: str


class RecordedSpan(NamedTuple):
    """The span of a session, as it is on record: hexadecimal digits."""

    trace_id: str
    span_id: str
    flags: str


def span_of_traceparent(text: str | None) -> RecordedSpan | None:
    """Return what the ``traceparent`` on record names; None if there is none, or if it is damaged."""
    found = None if text is None else _TRACEPARENT.fullmatch(text)
    return None if found is None else RecordedSpan(*found.groups())


def operation_of(
    record: CallRecord, caller: CallRecord | None, key: str | None
) -> Literal["invoke_agent", "chat", "execute_tool"] | None:
    """Return what a call does in the terms of the conventions for generative AI; None if it has to do with no agent.

    Args:
        record: The call.
        caller: The call that made it.
        key: The key of its node.
    """
    if record.node_type == "Agent":
        return "invoke_agent"
    if key is not None and key.startswith(CHAT_KEY):
        return "chat"
    return "execute_tool" if caller is not None and caller.node_type == "Agent" else None


def span_name(record: CallRecord, operation: str | None, redactor: Redactor) -> str:
    """Return the name of the span of a call. The name of a request to a model has its operation already."""
    name = encodable(shown_name(record, redactor))
    return name if operation in (None, "chat") else f"{operation} {name}"


def attributes_of_start(
    record: CallRecord, operation: str | None, key: str | None, session_id: str, redactor: Redactor
) -> Attributes:
    """Return what is known of a call before it runs."""
    found: Attributes = {
        "railtracks.session_id": session_id,
        "railtracks.run_id": run_id(session_id, record.run),
        "railtracks.node_id": node_id(session_id, record.index),
        "railtracks.node.type": record.node_type,
        "railtracks.attempt": record.attempt,
    }
    if key is not None:
        found["railtracks.node.key"] = encodable(redactor.redact_name(key))
    if is_reused(record):
        found["railtracks.reused"] = True
    if operation is not None:
        name = encodable(shown_name(record, redactor))
        found["gen_ai.operation.name"] = operation
        if operation == "invoke_agent":
            found["gen_ai.agent.name"] = name
        elif operation == "execute_tool":
            found["gen_ai.tool.name"] = name
            found["gen_ai.tool.type"] = "function"
        else:
            found["gen_ai.request.model"] = name.removeprefix("chat ")
    return found


def attributes_of_end(record: CallRecord, values: bool = False) -> Attributes:
    """Return what is known of a call once it has ended, or of one that never did.

    Args:
        record: The call.
        values: Whether the instructions of an agent are among it.
    """
    found: Attributes = {"railtracks.status": record.status.value}
    if record.timeout is not None and record.status is Status.FAILED:
        found["railtracks.policy.timeout"] = record.timeout
    elif record.reason is not None and record.status is not Status.SUSPENDED:
        found["railtracks.cancelled.reason"] = record.reason.value
    if record.abandoned:
        found["railtracks.abandoned"] = True
    if record.policy is not None:
        for fact, value in record.policy._asdict().items():
            if value:  # those that have their defaults are not written
                found[f"railtracks.policy.{fact}"] = value
    if record.attributes is not None:
        for name, value in loads(record.attributes).items():
            if name.startswith(_RECORDED) and (values or name != _OF_CONTENT):
                found[name] = _attribute(value)
    return found


def values_of(record: CallRecord, redactor: Redactor) -> Attributes:
    """Return the arguments and the result of a call, as far as it has one, shortened."""
    found: Attributes = {"railtracks.arguments": encodable(arguments_of(record, redactor, MAX_VALUE, MAX_VALUE))}
    if record.status is Status.COMPLETED:
        found["railtracks.result"] = encodable(result_of(record, redactor, MAX_VALUE))
    return found


def error_of(record: CallRecord, redactor: Redactor) -> SpanError | None:
    """Return why the span of a call has the status ERROR; None if it has not."""
    if record.exception is not None:
        return error_of_exception(record.exception, redactor)
    reason = record.reason
    return SpanError(reason.value, _FAULTS[reason]) if reason is not None and reason in _FAULTS else None


def error_of_exception(exc: BaseException, redactor: Redactor) -> SpanError:
    """Return what a span says of an exception, live or loaded."""
    described = Encoder(redactor).describe_error(exc, "")
    return SpanError(_exception_type(described), encodable(shown_error(exc, redactor)))


def error_of_run(records: Iterable[CallRecord | None], redactor: Redactor) -> SpanError | None:
    """Return why the span of a session has the status ERROR: because of the first top-level call whose span has it."""
    tops = (record for record in records if record is not None and record.parent is None and not is_retried(record))
    errors = (error_of(record, redactor) for record in tops)
    return next((error for error in errors if error is not None), None)


def exception_event(exc: BaseException, redactor: Redactor, has_traceback: bool) -> Attributes:
    """Return the attributes of the event ``exception``.

    Args:
        exc: The exception, live or loaded.
        redactor: The secrets that are known.
        has_traceback: Whether its traceback is among them.
    """
    described = Encoder(redactor).describe_error(exc, None if has_traceback else "")
    found: Attributes = {
        "exception.type": _exception_type(described),
        "exception.message": encodable(described["$message"]),
    }
    if has_traceback and described["$traceback"] not in ("", SEE_BELOW):
        found["exception.stacktrace"] = encodable(described["$traceback"])
    return found


def _exception_type(described: Mapping[str, Any]) -> str:
    return encodable(described["$type"].removeprefix("builtins."))


def attributes_of_session(session_id: str, name: str | None, flow_name: str | None, redactor: Redactor) -> Attributes:
    """Return the attributes of the span of a session."""
    found: Attributes = {"railtracks.session_id": session_id}
    for label, text in (("railtracks.session.name", name), ("railtracks.flow.name", flow_name)):
        if text is not None:
            found[label] = encodable(redactor.redact_name(text))
    return found


def session_span_name(name: str | None, flow_name: str | None, redactor: Redactor) -> str:
    """Return the name of the span of a session: that of its flow, or its own. Identifiers are not in it."""
    if flow_name is not None:
        return f"flow {encodable(redactor.redact_name(flow_name))}"
    return "session" if name is None else f"session {encodable(redactor.redact_name(name))}"


def code_attributes(node: FunctionNode[..., Any]) -> Mapping[str, Attribute]:
    """Return where the function of a node is defined, as far as it has code in Python."""
    target = innermost(node.target)
    function = getattr(target, "invoke", None) if isinstance(target, type) else target
    code = getattr(function, "__code__", None)
    name = encodable(node.definition)
    return _code_attributes(name, code) if type(code) is CodeType else {"code.function.name": name}


@lru_cache(maxsize=1024)
def _code_attributes(name: str, code: CodeType) -> Mapping[str, Attribute]:
    return {
        "code.function.name": name,
        "code.file.path": encodable(code.co_filename),
        "code.line.number": code.co_firstlineno,
    }


def encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: a lone surrogate would make an exporter lose all spans beside it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _attribute(value: Any) -> Attribute:
    """Return plain data as the value of an attribute: a scalar, a list of scalars of one type, or JSON text.

    A number that OTLP cannot hold is a text, and so are all those in a list with it.
    """
    if type(value) is str:
        return encodable(value)
    if type(value) in (bool, int, float):
        return value if _can_be_held(value) else str(value)
    kinds = {type(each) for each in value} if isinstance(value, list) else set()
    if len(kinds) == 1 and kinds <= {str, bool, int, float}:
        if kinds == {str}:
            return [encodable(each) for each in value]
        return value if all(map(_can_be_held, value)) else [str(each) for each in value]
    if isinstance(value, dict) and value.get("$type") == "float":  # NaN or infinity, as it is on record
        return encodable(str(value.get("$repr")))
    return dumps(value)


def _can_be_held(value: float) -> bool:
    """Return whether OTLP, and its JSON, have a number: integers of 64 bits, and floats that are finite."""
    return -(2**63) <= value < 2**63 if type(value) is int else isfinite(value)
