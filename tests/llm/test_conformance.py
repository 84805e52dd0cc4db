"""The suite that any model can be run through: over the script, the adapters, and models that are wrong."""

from __future__ import annotations

from functools import partial

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm import AssistantMessage, Completion, Usage
from railtracks.testing import ScriptedModel, conformance
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import adapter, in_thread  # noqa: F401 (a fixture)

every_check = pytest.mark.parametrize("name", conformance.CHECKS)


@every_check
async def test_the_scripted_model_conforms(name):
    await conformance.check(ScriptedModel, only=name)


async def test_all_checks_run_at_once():
    await conformance.check(ScriptedModel)


# ---- the adapters


CUT = {"anthropic": "max_tokens", "anyllm_anthropic": "max_tokens", "responses": "max_output_tokens"}
"""How the providers say that an answer is cut, if not as "length"."""


def served(given, cut):
    """Return what the server does for an answer."""
    completion = given.completion([], "served-model")
    message, usage = completion.message, given.usage
    is_cut = completion.finish_reason == "length"
    is_broken = given.error is not None and bool(message.content)
    return Answer(
        text=message.content,
        calls=[Call(name=each.name, arguments=each.arguments) for each in message.tool_calls],
        usage=(usage.input_tokens, usage.output_tokens) if isinstance(usage, Usage) else (3, 4),
        finish=cut if is_cut else True,
        hold="headers" if given.delay else "body" if given.pause else None,
        drop="body" if is_broken else None,
        status=500 if given.error is not None and not is_broken else 200,
        error="it did not work with {key}",
    )


@pytest.mark.either_backend
@every_check
async def test_an_adapter_conforms(adapter, server, name):  # noqa: F811 (a fixture)
    cut = CUT.get(adapter.__name__, "length")

    def make(answers):
        server.answers = [served(each, cut) for each in answers]
        return adapter(server.url)

    await conformance.check(make, only=name, after_each=partial(in_thread, server.wait_all_closed))


# ---- a model of which nothing is known


@pytest.mark.parametrize("number", range(2))
async def test_a_provider_without_a_script_is_checked_for_any_answer(number):
    texts = ['{"city": "Rome"}', '{"city": ""}'][number:]
    await conformance.check(lambda _: ScriptedModel(lambda _: texts[0]), scripted=False)


# ---- models that are wrong


class Wrong(ScriptedModel):
    """Does what it should, but for what subclasses override."""


class Silent(Wrong):
    async def stream(self, messages, **options):
        async for piece in super().stream(messages, **options):
            if isinstance(piece, str):
                yield piece


class Quick(Wrong):
    async def stream(self, messages, **options):
        yield await self.complete(messages, **options)


class Coroutine(Wrong):
    async def stream(self, messages, **options):  # type: ignore[override]
        return await self.complete(messages, **options)


class Plain(Wrong):
    async def complete(self, messages, **options):
        return (await super().complete(messages, **options)).message.content


class Uncounted(Wrong):
    async def complete(self, messages, **options):
        return attrs.evolve(await super().complete(messages, **options), usage=None)


class Swallowing(Wrong):
    async def complete(self, messages, **options):
        try:
            return await super().complete(messages, **options)
        except Exception as exc:
            return Completion(AssistantMessage(str(exc)))


class Failing(Wrong):
    async def stream(self, messages, **options):
        if messages is not None:
            raise ValueError("not today")
        yield


class Ending(Wrong):
    """Its streams end where the provider fails."""

    async def stream(self, messages, **options):
        try:
            async for piece in super().stream(messages, **options):
                yield piece
        except Exception:
            return


class Stubborn(Wrong):
    """Answers when it is cancelled."""

    async def complete(self, messages, **options):
        try:
            return await super().complete(messages, **options)
        except anyio.get_cancelled_exc_class():
            return Completion(AssistantMessage("cancelled"))


class Whole(Wrong):
    async def complete(self, messages, **options):
        return attrs.evolve(await super().complete(messages, **options), finish_reason="stop")


class Strict(Wrong):
    async def complete(self, messages, **options):
        [call.arguments["city"] for each in messages if each.role == "assistant" for call in each.tool_calls]
        return await super().complete(messages, **options)


class Changing(Wrong):
    async def complete(self, messages, **options):
        messages.pop(0)
        return await super().complete(messages, **options)


class Blind(Wrong):
    async def complete(self, messages, **options):
        if any(getattr(message, "attachments", ()) for message in messages):
            raise ValueError("I read only texts")
        return await super().complete(messages, **options)


class Filmed(Wrong):
    attachment_types = ("video",)


class Talkative(Wrong):
    api_key = rt.Secret("key-0123456789")
    settings = {"headers": "Bearer key-0123456789"}


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (Silent, "streams_what_it_answers", "ended without a Completion; yield one"),
        (Quick, "streams_what_it_answers", "the pieces say '', and the completion 'Hello dear world'"),
        (Coroutine, "streams_what_it_answers", "must be an async generator; write `async def` and `yield`"),
        (Plain, "answers", "returned 'Hello dear world'; expected an rt.llm.Completion"),
        (Uncounted, "counts_usage", r"the usage is None; the provider said Usage\(3, 4\)"),
        (Uncounted, "streams_what_it_answers", "the usage of stream"),
        (Swallowing, "lets_errors_through", "although the provider failed; let its error through"),
        (Swallowing, "raises_when_an_answer_breaks_off", "although the provider failed"),
        (Failing, "can_be_cancelled_while_it_streams", "did not come out: .*not today"),
        (Ending, "lets_errors_through", "ended without a Completion"),
        (Ending, "raises_when_an_answer_breaks_off", "ended without a Completion"),
        (Stubborn, "can_be_cancelled", "the cancellation did not come out"),
        (Whole, "says_that_an_answer_was_cut", "passes for a whole one: finish_reason is 'stop'"),
        (Strict, "takes_any_history", "a conversation with arguments that are not JSON is refused: TypeError"),
        (Blind, "takes_attachments", r"UserMessage\(.*\) is refused: ValueError\('I read only texts'\)"),
        (Filmed, "takes_attachments", "its attachment_types have 'video'; use 'image', 'audio', 'document'"),
        (Changing, "answers", "changed the list of messages"),
        (Talkative, "hides_its_key", "its settings shows the key"),
    ],
)
async def test_a_model_that_is_wrong_is_found(kind, name, text):
    with pytest.raises(conformance.NotConforming, match=text) as caught:
        await conformance.check(kind, only=name)
    assert list(caught.value.failed) == [name]


async def test_the_error_names_all_that_does_not_hold():
    with pytest.raises(conformance.NotConforming) as caught:
        await conformance.check(Swallowing)
    assert list(caught.value.failed) == ["lets_errors_through", "raises_when_an_answer_breaks_off"]
    assert str(caught.value).startswith("the model does not conform to rt.llm.Model:\n  lets_errors_through: ")


async def test_an_unknown_check_is_an_error():
    with pytest.raises(ConfigError, match="there is no check 'answer'; use one of says_what_it_is, "):
        await conformance.check(ScriptedModel, only="answer")


async def test_connections_are_looked_at_after_each_check():
    async def still_open():
        raise AssertionError("a connection is open")

    with pytest.raises(conformance.NotConforming, match="answers: a connection is open"):
        await conformance.check(ScriptedModel, only="answers", after_each=still_open)
