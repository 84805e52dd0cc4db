"""What a conversation costs: tokens and dollars, on record and in errors, and their bounds."""

from __future__ import annotations

import json

import railtracks as rt
from railtracks.llm import Usage
from railtracks.testing import ScriptedModel, answer

USAGE = Usage(1120, 50, cache_read_tokens=100, cache_write_tokens=1000, cache_write_1h_tokens=400, reasoning_tokens=30)
OF_USAGE = {
    "gen_ai.usage.input_tokens": 1120,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 100,
    "gen_ai.usage.cache_write.input_tokens": 1000,
    "gen_ai.usage.reasoning.output_tokens": 30,
}


async def test_the_parts_of_the_usage_are_on_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = rt.agent_node("Teller", llm=ScriptedModel([answer("So.", usage=USAGE)]))
    flow = rt.Flow("Telling", agent, run_identifier="telling", logging_setting="NONE")
    assert (await flow.ainvoke("And?")).usage == USAGE
    info = rt.state.load_run("telling")
    assert info.answer["usage"] == USAGE.counts()
    for record in info.records:
        said = json.loads(record.attributes or "")
        assert {name: said[name] for name in said if name.startswith("gen_ai.usage")} == OF_USAGE
    assert (await flow.aresume("telling")).usage == USAGE
