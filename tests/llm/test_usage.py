"""Tokens mean the same whoever counts them: parts of a sum are among it."""

from __future__ import annotations

import contextlib

import attrs
import pytest

from railtracks.llm import Usage
from tests import virtual
from tests.llm.server import Answer
from tests.llm.test_adapters import ASKED, anthropic, anyllm_anthropic, anyllm_openai, both_ways, openai, responses

CHAT = {
    "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 10, "audio_tokens": 7},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
MESSAGES = {
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400},
}
CACHED = Usage(1120, 50, cache_read_tokens=100, cache_write_tokens=1000, cache_write_1h_tokens=400)


@both_ways
@pytest.mark.parametrize(
    ("make", "counted", "details", "usage"),
    [
        (openai, (120, 50), CHAT,
         Usage(120, 50, cache_read_tokens=100, cache_write_tokens=10, input_audio_tokens=7, reasoning_tokens=30)),
        (openai, (120, 50), {"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 56},
         Usage(120, 50, cache_read_tokens=64)),
        (openai, (120, 50), {"total_tokens": 200, "completion_tokens_details": {"reasoning_tokens": 30}},
         Usage(120, 80, reasoning_tokens=30)),
        (openai, (120, 50), {"prompt_tokens_details": None, "completion_tokens_details": None}, Usage(120, 50)),
        (responses, (120, 50), {"input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 10},
                                "output_tokens_details": {"reasoning_tokens": 30}},
         Usage(120, 50, cache_read_tokens=100, cache_write_tokens=10, reasoning_tokens=30)),
        (anthropic, (20, 50), MESSAGES | {"output_tokens_details": {"thinking_tokens": 30}},
         attrs.evolve(CACHED, reasoning_tokens=30)),
        (anthropic, (20, 50), {"cache_read_input_tokens": None, "cache_creation": None}, Usage(20, 50)),
        (anyllm_openai, (120, 50), CHAT,
         Usage(120, 50, cache_read_tokens=100, cache_write_tokens=10, input_audio_tokens=7, reasoning_tokens=30)),
        (anyllm_anthropic, (20, 50), MESSAGES, CACHED),
    ],
    ids=["openai", "deepseek", "xai", "openai-none", "responses", "anthropic", "anthropic-none", "any-openai", "any"],
)  # fmt: skip
async def test_the_parts_are_among_the_sums(server, backend, make, counted, details, usage, ask):
    is_any = make in (anyllm_openai, anyllm_anthropic)
    pytest.importorskip("any_llm" if is_any else "anthropic" if make is anthropic else "openai")
    server.answers = [Answer(usage=counted, details=details)]
    # The event loop that any-llm has under trio is in a thread that the clock does not know of.
    with virtual.hold_clock() if is_any and backend == "trio" else contextlib.nullcontext():
        assert (await ask(make(server.url), ASKED)).usage == usage


def test_usages_are_added_and_shown_without_parts_that_are_zero():
    usage = attrs.evolve(CACHED, reasoning_tokens=30, input_audio_tokens=7)
    assert attrs.astuple(usage + usage) == tuple(2 * count for count in attrs.astuple(usage))
    assert usage.total_tokens == 1170
    assert repr(Usage(3, 0)) == "Usage(input_tokens=3, output_tokens=0)"
    assert repr(Usage(3, 4, reasoning_tokens=2)) == "Usage(input_tokens=3, output_tokens=4, reasoning_tokens=2)"
