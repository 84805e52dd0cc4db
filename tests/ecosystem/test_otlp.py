"""What is sent to a collector of OpenTelemetry: live, by its exporter, and by hand, as ``railtracks export`` writes it.

The collector is a server that reads requests by the definitions of the protocol, as ``opentelemetry-proto`` has them.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ecosystem

ROOT = str(Path(__file__).parents[2])
PROGRAM = """
import railtracks as rt
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

@rt.function_node
def parse(text: str) -> int:
    return int(text)

@rt.function_node
async def total(texts: list) -> int:
    return sum(each for each in await rt.call_batch(parse, texts) if isinstance(each, int))

rt.Flow("Total", total, run_identifier="total").invoke(["4", "five", "\\ud800"])
provider.shutdown()
"""


class Collector(BaseHTTPRequestHandler):
    """Takes what is posted to ``/v1/traces``, in protobuf or in JSON."""

    received: list[Any]

    def do_POST(self) -> None:
        messages: Any = import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = messages.ExportTraceServiceRequest()
        if self.headers["Content-Type"] == "application/json":
            read_json(body.decode(), request)
        else:
            request.ParseFromString(body)
        self.received.append(request)
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def read_json(text: str, request: Any) -> None:
    """Read a request in JSON: that of protobuf, except that identifiers are hexadecimal. Unknown names are errors."""
    json_format: Any = import_module("google.protobuf.json_format")

    def as_base64(match: re.Match[str]) -> str:
        return f'"{match[1]}": "{base64.b64encode(bytes.fromhex(match[2])).decode()}"'

    ids = re.compile(r'"(traceId|spanId|parentSpanId)": "([0-9a-f]+)"')
    json_format.Parse(ids.sub(as_base64, text), request)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a collector, and the requests that it has received."""
    requests: list[Any] = []
    handler = type("Handler", (Collector,), {"received": requests})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def spans_of(requests: list[Any]) -> list[Any]:
    scopes = [scope for request in requests for each in request.resource_spans for scope in each.scope_spans]
    assert {scope.scope.name for scope in scopes} == {"railtracks"}
    return [span for scope in scopes for span in scope.spans]


def tree(spans: list[Any]) -> list[tuple[str, str | None, int]]:
    names = {span.span_id: span.name for span in spans}
    return sorted((span.name, names.get(span.parent_span_id), span.status.code) for span in spans)


def facts(span: Any) -> dict[str, str]:
    return {each.key: str(each.value) for each in span.attributes}


def test_a_collector_gets_the_same_live_and_exported(collector, tmp_path):
    address, received = collector
    environment = {
        **os.environ, "PYTHONPATH": ROOT, "RAILTRACKS_TRACING": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": address,
    }  # fmt: skip
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 60, "check": True}
    subprocess.run([sys.executable, "-c", PROGRAM], **run)
    live = spans_of(received)
    received.clear()
    exported = subprocess.run([sys.executable, "-m", "railtracks", "export", "total", "--format", "otlp"], **run)
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/traces", exported.stdout.encode(), headers)):
        pass
    sent = spans_of(received)
    assert tree(live) == tree(sent)
    assert [name for name, _, _ in tree(live)] == ["flow Total", "parse", "parse", "parse", "total"]
    assert len(json.loads(exported.stdout)["resourceSpans"]) == 1
    by_name = {facts(span).get("railtracks.node_id"): span for span in sent}
    for span in live:
        other = by_name[facts(span).get("railtracks.node_id")]
        assert (span.kind, span.status) == (other.kind, other.status)
        assert span.start_time_unix_nano == other.start_time_unix_nano
        assert span.end_time_unix_nano == other.end_time_unix_nano
        assert [event.name for event in span.events] == [event.name for event in other.events]
        assert facts(span).items() >= facts(other).items()
        assert {name for name in facts(span).keys() - facts(other).keys() if not name.startswith("code.")} == set()
