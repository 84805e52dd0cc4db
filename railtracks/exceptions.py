"""The errors that Railtracks raises.

Their texts are written where they are raised. Each names the thing, says what was wrong, and shows what to write
instead. Advice that does not fit on one line is attached as PEP 678 notes, so that every traceback shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = [
    "ConfigError",
    "ContextError",
    "FatalError",
    "Filtered",
    "GlobalTimeOutError",
    "GuardTripped",
    "LLMError",
    "LimitExceeded",
    "LimitExceededError",
    "MCPError",
    "MCPToolError",
    "ModelRetry",
    "NodeCreationError",
    "NodeInvocationError",
    "NodeTimeOutError",
    "RTError",
    "Refused",
    "RemoteError",
    "RemoteTraceback",
    "RunCancelledError",
    "RunExistsError",
    "RunInUseError",
    "RunLostError",
    "RunNotFoundError",
    "RunSuspended",
    "SessionEndedError",
    "SessionError",
    "StateError",
    "StoreError",
    "TransferError",
    "Truncated",
    "WorkerLostError",
]


class RTError(Exception):
    """The base class of all errors that Railtracks itself raises.

    Args:
        message: What happened, to what, and what to do instead.
        notes: More lines, attached as PEP 678 notes.
    """

    def __init__(self, message: str = "", notes: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        for note in notes:
            self.add_note(note)

    def __str__(self) -> str:
        return self.message


class ConfigError(RTError, ValueError):
    """An option or an argument has a wrong value, an option is unknown, or the configuration file cannot be read."""


class ContextError(RTError, LookupError):
    """The context, or another service of a session, was used outside a session."""


class NodeCreationError(RTError, TypeError):
    """A node was expected, and what was passed cannot be one."""


class NodeInvocationError(RTError):
    """A call failed in a way that its node expected; raised by nodes.

    Args:
        message: What failed.
        notes: Hints for the reader of the traceback.
        fatal: Whether the whole session ends, even without ``end_on_error``.
    """

    def __init__(self, message: str = "", notes: Iterable[str] = (), fatal: bool = False) -> None:
        super().__init__(message, notes)
        self.fatal = fatal


class FatalError(RTError):
    """An error that ends the whole session, even without ``end_on_error``; raised by nodes."""


class LLMError(RTError):
    """An answer of a model from which its agent could make no result.

    What a provider's SDK raises (for a wrong key, a rate limit, a lost connection) is raised unchanged instead.

    Args:
        message: What was wrong.
        message_history: The conversation up to the answer, if there was one. It can be gone on with.
        usage: The tokens of all requests of the agent, an ``rt.llm.Usage``; None if none was made.
        cost: What they cost, in dollars, a ``Decimal``; None if that is not known.
    """

    def __init__(self, message: str = "", message_history: Any = None, usage: Any = None, cost: Any = None) -> None:
        super().__init__(message)
        self.message_history = message_history
        self.usage = usage
        self.cost = cost

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.message_history, self.usage, self.cost), self.__dict__  # with the notes


class Truncated(LLMError):
    """An answer was cut off, at the limit of tokens for an answer or of the model. The arguments are its base's."""


class Filtered(LLMError):
    """An answer was withheld, or cut off, by the provider's filter of contents. The arguments are its base's."""


class Refused(LLMError):
    """The model refused to answer. The arguments are its base's."""


class LimitExceeded(LLMError):
    """An agent has reached its ``max_requests``, ``max_tokens`` or ``max_cost``. The arguments are its base's."""


class GuardTripped(LLMError):
    """A guard of an agent does not accept what the agent was given, or what it has answered.

    Args:
        message: What was wrong.
        message_history: See ``LLMError``. Without the answer, if the guard is an input guard.
        usage: See ``LLMError``. Without a request that was cancelled.
        cost: See ``LLMError``; likewise.
        guard: The name of the guard.
        reason: What the guard has returned.
    """

    def __init__(
        self,
        message: str = "",
        message_history: Any = None,
        usage: Any = None,
        cost: Any = None,
        guard: str = "",
        reason: str = "",
    ) -> None:
        super().__init__(message, message_history, usage, cost)
        self.guard = guard
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.message, self.message_history, self.usage, self.cost, self.guard, self.reason)
        return type(self), given, self.__dict__  # with the notes


class ModelRetry(RTError):
    """What a model has done does not fit, and it should try again; raised by tools, output guards and validators.

    The model reads the text as it stands. It counts as one of the ``repairs`` of the agent if it is about an answer.

    Args:
        message: What is wrong, and what to do instead, for the model.
    """


class MCPError(RTError):
    """An MCP server cannot be reached, was lost, or does not do what its protocol says.

    Args:
        message: The server, what was tried, and what has happened.
    """


class MCPToolError(MCPError):
    """A tool of an MCP server has failed, and says why: the text is that of the server.

    Args:
        message: What the tool says.
    """


class StateError(RTError):
    """A saved state cannot be read, or the file holds something else."""


class StoreError(StateError, OSError):
    """The database of a store cannot be used: it cannot be reached, does not exist, or refuses what was tried.

    It is an ``OSError``, too, as what other stores raise is.

    Args:
        message: The store, without its password, what was tried, and what the server or the network says.
        temporary: Whether that may pass by itself, as when the server starts again. A session goes on without its
            record only then, if ``on_write_error`` allows that.
    """

    def __init__(self, message: str = "", temporary: bool = True) -> None:
        super().__init__(message)
        self.temporary = temporary


class RunNotFoundError(StateError):
    """There is no run with this identifier in the store."""


class RunExistsError(StateError):
    """There is a run with the ``run_identifier`` of a session whose ``if_exists`` is "fail"."""


class RunLostError(StateError):
    """The session does not have its run any more: it was paused or cut off for long, and another has taken it over."""


class SessionError(RTError, RuntimeError):
    """A session or a call was used in a way that cannot work."""


class RunInUseError(SessionError):
    """Another session that is still running has the ``run_identifier`` of this one."""


class SessionEndedError(SessionError):
    """A call came after its session or its top-level call had ended, or was cancelled by that end.

    ``__cause__`` is the error that ended the session, if there was one.
    """


class RunCancelledError(SessionEndedError):
    """The run was cancelled on request, by ``rt.state.cancel_run``."""


class Question(NamedTuple):
    """A question that a run waits to have answered."""

    id: str
    """What identifies the question; the same whenever the run is resumed, until it is answered."""
    text: str
    """For people to read. If the question is whether a tool of an agent may run, it is an ``rt.ApprovalRequest``."""


class RunSuspended(RTError):
    """The run is suspended: nothing in it can go on without an answer or a message. It is not a failure of the flow.

    Go on with ``flow.resume(run_identifier, answers={question.id: answer})``; or send what it waits for with
    ``rt.state.send(run_identifier, topic, value)``, from any process, and resume it.

    Args:
        run_identifier: The identifier of the run.
        questions: The questions that are open, in the order in which they were asked.
        topics: The topics of the messages that it waits for.
    """

    def __init__(self, run_identifier: str, questions: Iterable[Question] = (), topics: Iterable[str] = ()) -> None:
        self.run_identifier = run_identifier
        self.questions: tuple[Question, ...] = tuple(questions)
        self.topics: tuple[str, ...] = tuple(topics)
        waits = [f"the answer to {each.text!r} (id {each.id!r})" for each in self.questions]
        waits += [f"a message for {topic!r}" for topic in self.topics]
        ways = [f"flow.resume({run_identifier!r}, answers={{...}})"] if self.questions else []
        topic = next(iter((*self.topics, *(each.id for each in self.questions))), "topic")
        ways.append(f"flow.resume({run_identifier!r}) after rt.state.send({run_identifier!r}, {topic!r}, ...)")
        super().__init__(
            f"the run {run_identifier!r} is suspended, and waits for {' and '.join(waits) or 'nothing'}; go on with "
            f"{', or '.join(ways)}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_identifier, self.questions, self.topics), self.__dict__


class _TimeOutError(RTError, TimeoutError):
    """What the errors of deadlines have in common.

    Args:
        timeout: The limit that was exceeded, in seconds.
        message: What exceeded it.
        waiting: Where the innermost calls below it were waiting at that moment, such as ``fetch, line 12 of shop.py``.
    """

    def __init__(self, timeout: float, message: str = "", waiting: Iterable[str] = ()) -> None:
        self.timeout = timeout
        self.waiting: tuple[str, ...] = tuple(waiting)
        notes = [f"waiting at that moment: {place}" for place in self.waiting]
        super().__init__(message or f"the call exceeded its timeout of {timeout:g} s", notes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.timeout, self.message, self.waiting), self.__dict__


class GlobalTimeOutError(_TimeOutError):
    """A top-level call exceeded the session's ``timeout``.

    Args:
        timeout: The limit that was exceeded, in seconds.
        message: What exceeded it.
        waiting: Where the innermost calls below it were waiting at that moment, such as ``fetch, line 12 of shop.py``.
    """


class NodeTimeOutError(_TimeOutError):
    """A call exceeded the ``timeout`` of its node.

    Args:
        timeout: The limit that was exceeded, in seconds.
        message: What exceeded it.
        waiting: Where the innermost calls below it were waiting at that moment, such as ``fetch, line 12 of shop.py``.
    """


class LimitExceededError(RTError):
    """A call would exceed a limit, and may not wait, has waited as long as it may, or would wait for ever.

    Args:
        limit: The name of the limit: that of an ``rt.Limit``, or an option of the session such as "max_calls".
        message: What would exceed it, and what to do.
    """

    def __init__(self, limit: str, message: str = "") -> None:
        self.limit = limit
        super().__init__(message or f"the limit {limit} is exceeded")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit, self.message), self.__dict__


class TransferError(RTError, TypeError):
    """A node, an argument or a result cannot be sent to a worker, or back, because it cannot be pickled."""


class WorkerLostError(RTError):
    """The worker in which a node ran has died, or its executor is broken or closed. What the node did is not known.

    Args:
        message: What was lost, and what to do.
        executor: The name of the executor in the session; "process" for a worker process of the session's own.
    """

    def __init__(self, message: str = "", executor: str = "") -> None:
        super().__init__(message)
        self.executor = executor

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.executor), self.__dict__  # with the notes


class RemoteError(RTError):
    """An exception that a node raised in a worker, and that cannot be brought back as an object.

    Args:
        type_name: The module and the qualified name of its type, such as ``shop.errors.OutOfStock``.
        text: Its own text.
        traceback_text: The traceback in the worker.
        reason: Why the exception itself could not be brought back.
    """

    def __init__(self, type_name: str, text: str = "", traceback_text: str = "", reason: str = "") -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name, [reason] if reason else [])
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        # Without a reason, whose note is among the attributes.
        return type(self), (self.type_name, self.text, self.traceback_text), self.__dict__


class RemoteTraceback(Exception):
    """The cause of an exception that a worker raised: its traceback there, as text.

    It is here, and not with the workers, so that a process which resumes a run can make it before it has any.

    Args:
        text: The traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"
