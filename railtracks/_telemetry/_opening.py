"""Whether a session has spans: OpenTelemetry has to be there, and a tracer provider that does something."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from railtracks._logging import SESSION, SessionLog
from railtracks._telemetry._conventions import SCOPE
from railtracks.exceptions import ConfigError
from railtracks.state import ExecutionInfo

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from railtracks._telemetry._spans import SessionSpans

_has_warned = False
_latest: tuple[TracerProvider, Tracer] | None = None
"""The tracer provider that was last used, and its tracer."""


def require_opentelemetry() -> None:
    """Check that the API of OpenTelemetry can be imported.

    Raises:
        ConfigError: It cannot. The text shows the command that installs it.
    """
    try:
        import_module("opentelemetry.trace")
    except ImportError as exc:
        raise ConfigError(
            f"the option tracing needs the package 'opentelemetry-api', which cannot be imported: {exc}; install it "
            f"with `python -m pip install '.[otel]'` in a checkout of the Railtracks repository"
        ) from exc


def open_spans(info: ExecutionInfo, values: bool, now: Callable[[], float], log: SessionLog) -> SessionSpans | None:
    """Begin the spans of a session; None if the program has not set a tracer provider, which is logged once.

    None, too, if a span processor raises; that is logged.

    Args:
        info: The session, before its first call.
        values: Whether spans get arguments, results and broadcast items.
        now: Returns the time in seconds since the epoch. It must not refer to the session.
        log: Its log. It must be open.
    """
    global _has_warned
    from opentelemetry import trace  # here, as few programs have it, like the next

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        if not _has_warned:
            _has_warned = True
            log.log(
                logging.WARNING,
                "The option tracing is set, but no tracer provider is, so there are no spans; call "
                "opentelemetry.trace.set_tracer_provider(...) before sessions are opened",
                logger=SESSION,
            )
        return None
    from railtracks._telemetry._guard import log_span_error
    from railtracks._telemetry._spans import SessionSpans

    try:
        spans = SessionSpans(_tracer_of(provider), info, values, now, log)
        return None if spans.traceparent is None else spans  # the SDK is switched off, by OTEL_SDK_DISABLED for example
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        log_span_error(log, exc)
        return None


def _tracer_of(provider: TracerProvider) -> Tracer:
    """Return the tracer of a provider, which makes it only once.

    That of the SDK adds a warning filter each time it is asked, and Python then shows warnings again that it has shown.
    """
    global _latest
    latest = _latest
    if latest is None or latest[0] is not provider:
        _latest = latest = provider, provider.get_tracer(SCOPE)
    return latest[1]
