"""A real collector: Phoenix, which knows agents, models and tools by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.test_recipes import SECONDS, free_port, get

PYTHON = os.environ.get("PHOENIX_PYTHON", "")
"""The interpreter that has Phoenix. `nox -s collector` sets it."""
START = 180
"""Real seconds that it may take to start, on a machine that is busy."""
pytestmark = [
    pytest.mark.ecosystem,
    pytest.mark.skipif(not PYTHON, reason="the variable PHOENIX_PYTHON does not name an interpreter with Phoenix"),
]

ROOT = str(Path(__file__).parents[2])
PROGRAM = '''
import railtracks as rt
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from railtracks.testing import ScriptedModel, tool_call

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

@rt.function_node
async def forecast(city: str) -> str:
    """The weather of tomorrow.

    Args:
        city: Where.
    """
    if city == "Atlantis":
        raise LookupError("the password=kq7Rz2vL9x is of no use")
    return "snow"

model = ScriptedModel([[tool_call("forecast", city="Oslo")], [tool_call("forecast", city="Atlantis")], "Snow."])
Weather = rt.agent_node("Weather", llm=model, tool_nodes=[forecast])
rt.Flow("Trip", Weather, tracing="values").invoke("Do I need a coat?")
provider.shutdown()
'''


def stored(address: str, count: int) -> list[dict[str, Any]]:
    """Return the spans that Phoenix has, once there are so many: it stores them a moment after it has taken them."""
    deadline = time.monotonic() + SECONDS / 2
    while True:
        found: list[dict[str, Any]] = json.loads(get(f"{address}/v1/projects/default/spans?limit=100"))["data"]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_phoenix_knows_agents_models_and_tools(tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "PYTHONPATH": ROOT, "OTEL_EXPORTER_OTLP_ENDPOINT": address, "PHOENIX_WORKING_DIR": str(tmp_path),
        "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }  # fmt: skip
    command = [PYTHON, "-m", "phoenix.server.main", "serve"]
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=silent, stderr=silent) as server:
        try:
            get(f"{address}/healthz", START)
            subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, timeout=SECONDS, check=True)
            spans = stored(address, 7)
        finally:
            server.send_signal(signal.SIGTERM)
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    kinds = [(span["span_kind"], span["status_code"]) for span in spans]
    parents = [(span["name"], names.get(span["parent_id"])) for span in spans]
    found = sorted((*parent, *kind) for parent, kind in zip(parents, kinds, strict=True))
    assert found == [
        ("chat scripted", "invoke_agent Weather", "LLM", "UNSET"),
        ("chat scripted", "invoke_agent Weather", "LLM", "UNSET"),
        ("chat scripted", "invoke_agent Weather", "LLM", "UNSET"),
        ("execute_tool forecast", "invoke_agent Weather", "TOOL", "ERROR"),
        ("execute_tool forecast", "invoke_agent Weather", "TOOL", "UNSET"),
        ("flow Trip", None, "UNKNOWN", "UNSET"),
        ("invoke_agent Weather", "flow Trip", "AGENT", "UNSET"),
    ]
    assert "kq7Rz2vL9x" not in json.dumps(spans)
