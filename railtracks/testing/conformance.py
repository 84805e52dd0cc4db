"""What holds for every model: a suite for the authors of classes that are to be used as ``rt.llm.Model``.

``check`` runs all of it in the current event loop; with pytest, each check can be a test of its own::

    @pytest.mark.parametrize("name", conformance.CHECKS)
    async def test_my_model_conforms(name):
        await conformance.check(make_model, only=name)

Most checks need a provider that can be made to answer something, such as a server of the test: ``make_model`` is called
with the answers that it has to give, which are those that ``railtracks.testing.answer`` makes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from railtracks.exceptions import ConfigError
from railtracks.testing._conformance._checks import Case, ModelFactory, checks

__all__ = ["CHECKS", "ModelFactory", "NotConforming", "check"]

CHECKS: tuple[str, ...] = tuple(checks)
"""The names of the checks."""


class NotConforming(AssertionError):
    """A model does not do what ``rt.llm.Model`` asks for.

    Attributes:
        failed: What the checks raised, by their names.
    """

    def __init__(self, failed: Mapping[str, Exception]) -> None:
        self.failed: dict[str, Exception] = dict(failed)
        lines = (f"  {name}: {(str(exc) or repr(exc)).splitlines()[0]}" for name, exc in self.failed.items())
        super().__init__("\n".join(["the model does not conform to rt.llm.Model:", *lines]))


async def check(
    make_model: ModelFactory,
    *,
    scripted: bool = True,
    only: str | None = None,
    after_each: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Assert that a model does what ``rt.llm.Model`` asks for, in the current event loop.

    Run it on asyncio and on trio. Cancellation is checked with answers that take a day: they are not waited for.

    Args:
        make_model: Makes the model. It is called with the answers that its provider has to give, one for each request.
            What ``each.completion([], name)`` returns is what the provider has to say: with its own word for "length"
            where the answer is cut. With a ``pause`` only the first piece must come, and with a ``delay`` nothing.
            With an ``error`` the provider fails: at once, or where there is a text, in the middle of it.
        scripted: False for a provider that cannot be made to answer something, such as a real one: ``make_model`` may
            ignore the answers, and only what holds for any answer is checked.
        only: The name of one check, out of ``CHECKS``. None: all of them.
        after_each: Called after each check, to assert that the model has closed its connections.

    Raises:
        NotConforming: Some of it does not hold. The error names all that does not.
        ConfigError: There is no check with this name.

    Cancellation: Cancels the check that runs.
    """
    if only is not None and only not in checks:
        raise ConfigError(f"conformance: there is no check {only!r}; use one of {', '.join(checks)}")
    failed: dict[str, Exception] = {}
    for name, each in checks.items():
        if (each.needs_script and not scripted) or only not in (None, name):
            continue
        try:
            await each.run(Case(make_model, scripted))
            if after_each is not None:
                await after_each()
        except Exception as exc:
            failed[name] = exc
    if failed:
        raise NotConforming(failed) from next(iter(failed.values()))
