"""Secrets of calls in sessions without a recorder, which would find them while it writes."""

from __future__ import annotations

from typing import Any

from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._record_text import inputs_text
from railtracks.state._serialization._secret_search import register_secrets


def register_call_secrets(record: CallRecord, node: FunctionNode[..., Any], redactor: Redactor) -> None:
    """Register the secrets among the arguments of a call, in a session that records nothing outside the process."""
    for text in node.secrets:
        redactor.add(text)
    if node.secret_positions:
        record.inputs = inputs_text(record.args, record.kwargs, redactor, node.secret_positions)
    elif record.kwargs:
        register_secrets(record.kwargs, redactor)
    for value in record.args:
        if id(type(value)) not in SCALAR_IDS:
            register_secrets(value, redactor)
