"""Spans of calls that ran in workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import railtracks as rt
from tests.places import nodes
from tests.places.helpers import at

trace = pytest.importorskip("opentelemetry.trace")


@pytest.fixture
def exporter(monkeypatch):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def paths(exporter):
    """Return the names of each span and of those around it."""
    spans = {span.context.span_id: span for span in exporter.get_finished_spans()}
    exporter.clear()

    def path(span):
        above = spans.get(span.parent.span_id) if span.parent else None
        return (span.name, *(() if above is None else path(above)))

    return sorted(map(path, spans.values()))


@pytest.mark.parametrize("where", ["thread", "pool"])
def test_calls_in_a_worker_have_spans_below_the_right_ones(where, backend, exporter):
    async def main(place):
        with ThreadPoolExecutor(1) as pool:
            async with rt.Session({"offset": 1}, name="traced", tracing=True, executors={"pool": pool}):
                await rt.call(at(nodes.work_async, place), 3)

    anyio.run(main, None, backend=backend)
    plain = paths(exporter)
    anyio.run(main, where, backend=backend)
    assert paths(exporter) == plain
    assert len(plain) > 5
