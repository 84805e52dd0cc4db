"""The language of the model: flows as data, a tree of steps.

Each step has a place, its position in the tree (see ``world.Place``). What a leaf answers, and whether it fails, is
decided by the world outside and not by the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import attrs

Block = tuple["Step", ...]
ALWAYS = 99
"""In place of a number of failures: each time."""


@attrs.frozen
class Leaf:
    """A call of a leaf, which has an effect and answers at its end.

    Attributes:
        argument: Its argument; calls with the same one are equal.
        kind: The kind of value that it answers with.
        fails: How many of its first answers are failures.
        takes_latest: Whether it is given the latest value of its block as well.
        puts: The key of the context that it sets when it answers; "" for none.
        sends: The topic of a message that the world sends to the run when it answers; "" for none.
        tries: How often its node has it tried again when it fails; in a batch, as the first item says.
        policy: What else its node does, which changes only when it runs. "limit": no other one of this kind runs at the
            same time; "timeout": it is tried again if it takes long; "pool": it runs in a worker, which may be lost and
            is tried again then; "cache" and "cache in store": equal calls get its result, those of the run or all that
            use the store. In a batch, as the first item says.
    """

    argument: int = 0
    kind: str = "text"
    fails: int = 0
    takes_latest: bool = False
    puts: str = ""
    sends: str = ""
    tries: int = 0
    policy: Literal["", "limit", "timeout", "pool", "cache", "cache in store"] = ""

    @property
    def is_cached(self) -> bool:
        return self.policy.startswith("cache")


@attrs.frozen
class Wait:
    """A question to a person, or a message that is awaited; or several at once, as a batch.

    Attributes:
        of: "answer": to a question; "message": of a topic.
        about: The question, or the topic: equal ones are equal calls.
        count: How many; more than one make a batch.
        then: A leaf that is called afterwards, with what has come. What concurrent tasks do at the moment at which
            several of them go on has no order, so only a block that runs alone may do without.
    """

    of: Literal["answer", "message"]
    about: str
    count: int = 1
    then: Leaf | None = None


@attrs.frozen
class Below:
    """A call of a node that runs a block.

    Attributes:
        how: "call"; "flow": as the entry point of another flow; "thread": as a sync node, of which each step is a leaf
            or waits; "pool": in a worker, which may be lost and is tried again then, and of which each step is a leaf.
    """

    block: Block
    argument: int = 0
    how: Literal["call", "flow", "thread", "pool"] = "call"


@attrs.frozen
class Branches:
    """Blocks that run concurrently.

    Attributes:
        first: Whether the first one that ends gives the result, and the others are cancelled.
    """

    blocks: tuple[Block, ...]
    first: bool = False


@attrs.frozen
class Batch:
    """A batch of calls of a leaf or, with blocks, of a node that runs a block."""

    items: tuple[Leaf | Below, ...]
    limit: int | None = None
    returns_exceptions: bool = True


@attrs.frozen
class Try:
    """A block whose failure is handled.

    Attributes:
        times: How often the block is tried.
        handler: What runs when it has failed that often. None: the failure goes on.
        inside: Whether the handler runs while the exception is handled, so that what it raises is linked with it.
        reraises: Whether the failure goes on after the handler, which cleans up.
    """

    block: Block
    handler: Block | None = ()
    times: int = 1
    inside: bool = False
    reraises: bool = False


@attrs.frozen
class Raise:
    """The node itself raises."""


@attrs.frozen
class Context:
    """Something that the node does with the context. A read gives a value of the block."""

    does: Literal["put", "delete", "read", "add"]
    key: str


@attrs.frozen
class Value:
    """A value that differs from run to run."""

    of: Literal["now", "uuid4", "random"]


@attrs.frozen
class Sleep:
    seconds: int


Step = Leaf | Wait | Below | Branches | Batch | Try | Raise | Context | Value | Sleep


def blocks_of(step: Step) -> tuple[Block, ...]:
    """Return the blocks in a step."""
    match step:
        case Below(block=block):
            return (block,)
        case Branches(blocks=blocks):
            return blocks
        case Batch(items=items):
            return (tuple(items),)
        case Try(block=block, handler=handler):
            return (block,) if handler is None else (block, handler)
        case Wait(then=Leaf() as leaf):
            return ((leaf,),)
    return ()


def steps_in(block: Block) -> Iterator[Step]:
    """Yield all steps of a block and of the blocks in it."""
    for step in block:
        yield step
        for inner in blocks_of(step):
            yield from steps_in(inner)


def may_fail(block: Block) -> bool:
    """Return whether something in a block fails, handled or not."""
    return any(isinstance(step, Raise) or getattr(step, "fails", 0) for step in steps_in(block))


def goes_on_after_failures(step: Step) -> bool:
    """Return whether a step is a batch in which calls begin because others have failed.

    These are tried again as long as the batch has not ended, but those that began after them are replayed. So they may
    have ended in another order than in any run that was not disturbed, in which they would begin after the new try: the
    last one of them that changed the context is not always the same. No such run could have seen these answers in this
    order, so only their values and effects can be compared: the calls of such a batch leave the context alone.
    """
    return isinstance(step, Batch) and step.returns_exceptions and step.limit is not None and may_fail(step.items)


def without_context(block: Block) -> Block:
    """Return a block without changes and reads of the context."""
    return tuple(_without_context(step) for step in block if not isinstance(step, Context))


def _without_context(step: Step) -> Any:
    match step:
        case Leaf():
            return attrs.evolve(step, puts="")
        case Wait(then=Leaf() as leaf):
            return attrs.evolve(step, then=_without_context(leaf))
        case Below(block=block):
            return attrs.evolve(step, block=without_context(block))
        case Branches(blocks=blocks):
            return attrs.evolve(step, blocks=tuple(map(without_context, blocks)))
        case Batch(items=items):
            return attrs.evolve(step, items=tuple(map(_without_context, items)))
        case Try(block=block, handler=handler):
            handler = None if handler is None else without_context(handler)
            return attrs.evolve(step, block=without_context(block), handler=handler)
    return step


def placed(block: Block, place: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Step]]:
    """Yield all steps of a block and of the blocks in it, with their places. What is tried often has several."""
    for at, step in enumerate(block):
        here = *place, at
        yield here, step
        for number, inner in enumerate(blocks_of(step)):
            match step:
                case Branches():
                    yield from placed(inner, (*here, number))
                case Try(times=times):
                    for time in range(times) if number == 0 else [times]:
                        yield from placed(inner, (*here, time))
                case Wait(count=count):
                    yield (*here, count), inner[0]
                case _:
                    yield from placed(inner, here)


def reraising(block: Block) -> Iterator[tuple[int, ...]]:
    """Yield the places of handlers after which the failure may go on: by itself, or linked with what they raise.

    If it ends the run, it is tried again, and what the handler did was for nothing.
    """
    for place, step in placed(block):
        if isinstance(step, Try) and (step.inside or step.reraises):
            yield (*place, step.times)


def given_up(block: Block) -> Iterator[tuple[int, ...]]:
    """Yield the places of calls that the flow itself may cancel while calls below them have completed.

    Such a call does nothing when the run is resumed, and what is below it is not made again.
    """
    cancelling = [place for place, step in placed(block) if _may_cancel(step)]
    for place, step in placed(block):
        if isinstance(step, Below) and any(place[: len(outer)] == outer for outer in cancelling):
            yield place


def _may_cancel(step: Step) -> bool:
    match step:
        case Branches(blocks=blocks, first=first):
            return first or any(map(may_fail, blocks))
        case Batch(items=items, returns_exceptions=returns_exceptions):
            return not returns_exceptions and may_fail(items)
    return False


def show(block: Block, indent: str = "") -> str:
    """Return a block as text, one step per line."""
    return "\n".join(_show_step(step, indent) for step in block) or f"{indent}nothing"


def _show_step(step: Step, indent: str) -> str:
    plain = {
        field.name: getattr(step, field.name)
        for field in attrs.fields(type(step))
        if field.name not in ("block", "blocks", "items", "handler", "then")
        and getattr(step, field.name) != field.default
    }
    line = f"{indent}{type(step).__name__}({', '.join(f'{name}={value!r}' for name, value in plain.items())})"
    if isinstance(step, Try) and step.handler is None:
        line += " and no handler"
    return "\n".join([line, *(f"{indent}  |\n{show(inner, indent + '  | ')}" for inner in blocks_of(step))])


def smaller(block: Block) -> Iterator[Block]:
    """Yield blocks that are a little smaller."""
    for at in range(len(block)):
        yield (*block[:at], *block[at + 1 :])
    for at, step in enumerate(block):
        for inner in blocks_of(step):
            if not isinstance(step, Batch):
                yield (*block[:at], *inner, *block[at + 1 :])
        for less in _smaller_steps(step):
            yield (*block[:at], less, *block[at + 1 :])


def _smaller_steps(step: Step) -> Iterator[Step]:
    match step:
        case Leaf():
            yield from _simpler(step, kind="text", fails=0, takes_latest=False, puts="", sends="", tries=0, policy="")
        case Wait():
            yield from _simpler(step, count=1, of="message")
            if step.then is not None:
                yield from (
                    attrs.evolve(step, then=less) for less in _smaller_steps(step.then) if isinstance(less, Leaf)
                )
        case Below():
            yield from (attrs.evolve(step, block=less) for less in smaller(step.block))
            yield from _simpler(step, how="call")
        case Branches():
            for at, block in enumerate(step.blocks):
                if len(step.blocks) > 1:
                    yield attrs.evolve(step, blocks=(*step.blocks[:at], *step.blocks[at + 1 :]))
                for less in smaller(block):
                    yield attrs.evolve(step, blocks=(*step.blocks[:at], less, *step.blocks[at + 1 :]))
            yield from _simpler(step, first=False)
        case Batch():
            for at, item in enumerate(step.items):
                if len(step.items) > 1:
                    yield attrs.evolve(step, items=(*step.items[:at], *step.items[at + 1 :]))
                for other in _smaller_steps(item):
                    if type(other) is type(item) and getattr(other, "kind", "") == getattr(item, "kind", ""):
                        items: Any = (*step.items[:at], other, *step.items[at + 1 :])
                        yield attrs.evolve(step, items=items)
            yield from _simpler(step, limit=None, returns_exceptions=True)
        case Try():
            yield from (attrs.evolve(step, block=less) for less in smaller(step.block))
            if step.handler:
                yield from (attrs.evolve(step, handler=less) for less in smaller(step.handler))
            yield from _simpler(step, times=1, inside=False, reraises=False)


def _simpler(step: Any, **values: Any) -> Iterator[Any]:
    for name, value in values.items():
        if getattr(step, name) != value:
            yield attrs.evolve(step, **{name: value})
