"""Programs: what a random user of Railtracks writes, as plain data.

A program is a tree of steps, so it can be shown, compared, and made smaller. The same program runs on both backends;
what only asyncio has (``gather``, ``wait_for``, ``task.cancel()``) has a counterpart on trio.

Times are in units: a unit is a second of virtual time, and two milliseconds of real time in a program with threads.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

FOREVER = 1000
"""Units that outlast everything else in a program."""

Moment = tuple[int | float, int]
"""A moment of a program: so many units after its beginning, and then so many turns of the event loop."""


@attrs.frozen
class Step:
    """Something that a program does."""


Block = tuple[Step, ...]

Ending = Literal[
    "ValueError",
    "TimeoutError",
    "falsy",  # an exception whose truth value is False
    "frozen",  # an exception whose attributes cannot be set
    "group",
    "BaseException",
    "BaseExceptionGroup",
    "GeneratorExit",
    "FatalError",
    "SystemExit",
]


@attrs.frozen
class Node:
    """What is called. A node in a thread runs its body with ``rt.call_sync`` and the like."""

    body: Block = ()
    thread: bool = False
    waits: bool = False
    """Of a node in a thread: ``abandon_on_cancel=False``."""


# ---- waiting, and leaving


@attrs.frozen
class Turns(Step):
    """Let the event loop run for so many turns."""

    count: int = 1


@attrs.frozen
class Sleep(Step):
    """Wait."""

    units: int | float = 1


@attrs.frozen
class Raise(Step):
    """Raise a new exception."""

    kind: Ending = "ValueError"


# ---- calls


@attrs.frozen
class Call(Step):
    """``await rt.call(node)``, or ``rt.call_sync(node)`` in a thread."""

    node: Node
    caught: bool = False


@attrs.frozen
class Batch(Step):
    """``await rt.call_batch(...)``."""

    nodes: tuple[Node, ...]
    limit: int | None = None
    return_exceptions: bool = True


@attrs.frozen
class StartSoon(Step):
    """``session.start_soon(node)``."""

    node: Node


@attrs.frozen
class Put(Step):
    """Change the context, and read it."""


# ---- tasks


@attrs.frozen
class Branches(Step):
    """Blocks beside each other: ``asyncio.gather``, anyio's task group, or the backend's own."""

    style: Literal["gather", "group", "native"]
    blocks: tuple[Block, ...]


@attrs.frozen
class Strays(Step):
    """Bare tasks, as of ``asyncio.create_task``, which may be cancelled, and may never be waited for."""

    blocks: tuple[Block, ...]
    cancel_after: int | None = None
    """Turns after which they are cancelled."""
    times: int = 1
    awaited: bool = False


# ---- scopes and handlers


@attrs.frozen
class Shield(Step):
    """A shielded cancel scope."""

    block: Block


@attrs.frozen
class Limit(Step):
    """A time limit of the user's own code."""

    style: Literal["move_on_after", "fail_after", "wait_for", "timeout"]
    units: int | float
    block: Block


@attrs.frozen
class Swallow(Step):
    """Swallow a cancellation."""

    block: Block


@attrs.frozen
class Catch(Step):
    """Catch errors."""

    block: Block


@attrs.frozen
class Cleanup(Step):
    """``try: ... finally: ...``."""

    block: Block
    after: Block
    shielded: bool = True


@attrs.frozen
class Generator(Step):
    """An async generator that is left in the middle; closed by its consumer or by the garbage collector."""

    before: Block
    after: Block
    closed: bool = False


# ---- events


@attrs.frozen
class Subscriber:
    """A subscription and its callback, which runs ``body`` for the first ``reacts`` events."""

    policy: Literal["wait", "drop_oldest", "drop_newest", "fail"] = "drop_oldest"
    on_error: Literal["keep", "remove"] = "keep"
    capacity: int = 1024
    kinds: Literal["all", "calls", "broadcasts"] = "all"
    is_async: bool = True
    body: Block = ()
    reacts: int = 1


@attrs.frozen
class Subscribe(Step):
    """``session.subscribe(...)``."""

    subscriber: Subscriber


@attrs.frozen
class Unsubscribe(Step):
    """Close the latest subscription of the session."""


@attrs.frozen
class Broadcast(Step):
    """``await rt.broadcast(...)``."""


# ---- sessions, and whole programs


@attrs.frozen
class OpenSession(Step):
    """A session with its body."""

    block: Block
    plain: bool = False
    """Whether it is entered with a plain ``with``."""
    timeout: int | float | None = None
    end_on_error: bool = False
    stored: bool = False
    subscribers: tuple[Subscriber, ...] = ()
    """Subscribed before the session is entered."""


@attrs.frozen
class Cancellation:
    """A cancellation from outside: of the task, as by ``task.cancel()``, or of a cancel scope around all of it."""

    moment: Moment
    native: bool = False


@attrs.frozen
class Program:
    """What runs in one event loop, from its beginning to its end."""

    block: Block
    cancellations: tuple[Cancellation, ...] = ()
    shutdown: Moment | None = None
    """When the main function returns, while the block runs in the background. Its tasks are cancelled then."""
    threads: bool = False
    """Whether it has nodes in threads, and so runs in real time."""
    interrupts: tuple[Moment, ...] = ()
    """When Ctrl-C comes. The block runs in the main task then."""


def show(value: Any, indent: str = "") -> str:
    """Return a program, or a part of it, as text: a step a line, without what has its default."""
    if isinstance(value, tuple):
        if all(isinstance(each, int | float) for each in value):
            return repr(value)
        inner = indent + "  "
        return "(\n" + "".join(f"{inner}{show(each, inner)},\n" for each in value) + f"{indent})"
    if not attrs.has(type(value)):
        return repr(value)
    shown = []
    for field in attrs.fields(type(value)):
        given = getattr(value, field.name)
        if given != field.default:
            shown.append(f"{field.name}={show(given, indent)}")
    return f"{type(value).__name__}({', '.join(shown)})"
