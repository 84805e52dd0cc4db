"""``@rt.session``: a session around each call of an async function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from inspect import isasyncgenfunction
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from railtracks._config import validate_options
from railtracks._options import SessionOptions
from railtracks._session._session import Session, check_arguments
from railtracks.nodes._callables import is_async

P = ParamSpec("P")
T = TypeVar("T")


@overload
def session(func: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, tuple[T, Session]]]: ...
@overload
def session(
    *,
    context: Mapping[str, Any] | None = None,
    name: str | None = None,
    payload_callback: Callable[[dict[str, Any]], Any] | None = None,
    **options: Unpack[SessionOptions],
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, tuple[T, Session]]]]: ...
def session(func: Any = None, context: Any = None, **options: Any) -> Any:
    """Open a session around each call of an async function.

    Written ``@rt.session``, ``@rt.session()``, or with options::

        @rt.session(timeout=30)
        async def main(name: str) -> str:
            return await rt.call(greet, name)

        result, session = await main("Ada")

    Args:
        func: The function, if the decorator is used without parentheses.
        context: As for :class:`Session`.
        **options: As for :class:`Session`.

    Returns:
        An async function that returns what the function returned, and the session, which has ended.

    Raises:
        TypeError: the function is not async.
        ConfigError: an option is not allowed; raised where the decorator is applied.
    """
    if func is not None and not callable(func):
        raise TypeError(f"@rt.session was given {func!r}; write `@rt.session(context=...)` or `@rt.session`")

    def decorate(wrapped: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, tuple[T, Session]]]:
        if not is_async(wrapped):
            name = getattr(wrapped, "__name__", repr(wrapped))
            if isasyncgenfunction(wrapped):
                raise TypeError(
                    f"@rt.session needs a function that returns, and {name} is an async generator; "
                    f"collect what it yields and return that"
                )
            raise TypeError(f"@rt.session needs an async function, and {name} is not; write `async def {name}(...)`")

        @functools.wraps(wrapped)
        async def in_session(*args: P.args, **kwargs: P.kwargs) -> tuple[T, Session]:
            opened = Session(context, **options)
            async with opened:
                result = await wrapped(*args, **kwargs)
            return result, opened

        return in_session

    # Check here, where the decorator is applied; name and payload_callback are arguments, but not options.
    check_arguments(context, options.get("payload_callback"), name=options.get("name"))
    validate_options({name: value for name, value in options.items() if name not in ("name", "payload_callback")})
    return decorate if func is None else decorate(func)
