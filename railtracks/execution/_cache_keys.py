"""What equal calls of a node with ``cache`` have in common."""

from __future__ import annotations

import hashlib
from typing import Any

from railtracks._policies import Cache
from railtracks._resume._canonical import CanonicalForms, canonical_value, forms_key
from railtracks.execution._cached_results import LOST, Unfit
from railtracks.execution._closures import NOTHING, Closure, closure_of
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._large_values import discard
from railtracks.state._serialization._record_text import dumps, form_in, inputs_text, is_lossy, result_text


class CacheKeys:
    """Makes the keys of calls of one session.

    Args:
        redactor: The secrets that the session knows.
        max_bytes: The number of bytes up to which arguments are compared.
    """

    def __init__(self, redactor: Redactor, max_bytes: int) -> None:
        self._redactor = redactor
        self._max_bytes = max_bytes
        self._forms: dict[tuple[int, bool], CanonicalForms] = {}
        self._kept: dict[int, object] = {}  # what keys have the identity of, so that nothing else gets it

    def of(self, cache: Cache, node: FunctionNode[..., Any], record: CallRecord, scope: str) -> str:
        """Return what a call has in common with equal ones.

        Args:
            cache: The policy.
            node: The node.
            record: The call.
            scope: Where results are kept: "session", where an object is known by its identity, or "store".

        Raises:
            Unfit: Nothing says so.
        """
        redactor = self._redactor
        if node.key is None:
            raise Unfit("cannot be found by others: it has no name that identifies it; give the node a key=")
        if redactor.redact_name(node.key) != node.key:
            raise Unfit("has a secret in what it is bound to")
        text = self._arguments(node, record) if cache.key is None else self._given_key(cache, record)
        return _digest(node, cache.key is not None, text, *self._closure_part(counted_closure(cache, node), scope))

    def _closure_part(self, closure: Closure, scope: str) -> list[Any]:
        """Return what the key has of the functions around a node."""
        if closure is NOTHING:
            return []
        values = result_text(closure.values, self._redactor, self._max_bytes, discard)
        if is_lossy(form := form_in(values)):
            raise Unfit(f"uses a variable of the function around it that {LOST.get(form, 'is not all on record')}")
        if scope == "store":
            return [values] if closure.values else []
        self._kept.update((id(each), each) for _, each in closure.objects)
        return [values, [(name, id(each)) for name, each in closure.objects]]

    def of_recorded(self, node: FunctionNode[..., Any], record: CallRecord) -> str | None:
        """Return the same of a call on record, from the text of its arguments; None if that does not say it."""
        if record.inputs is None or is_lossy(form_in(record.inputs)):
            return None
        return _digest(node, False, self._canonical(node, record.inputs))

    def _arguments(self, node: FunctionNode[..., Any], record: CallRecord) -> str:
        args, kwargs = record.args, record.kwargs
        if node.ignore:
            args, kwargs = node.without_ignored(args, kwargs)
        limit, redactor = self._max_bytes, self._redactor
        text = inputs_text(args, kwargs, redactor, node.secret_positions, limit, discard)
        if is_lossy(form := form_in(text)):
            raise Unfit(f"has an argument that {LOST.get(form, 'is not all on record')}; pass key= to rt.Cache")
        return self._canonical(node, text)

    def _canonical(self, node: FunctionNode[..., Any], text: str) -> str:
        key = forms_key(node.target)
        forms = self._forms.get(key)
        if forms is None:
            forms = self._forms[key] = CanonicalForms(node.target)
        return forms.of(text, node.ignore) or text

    def _given_key(self, cache: Cache, record: CallRecord) -> str:
        assert cache.key is not None
        made = cache.key(*record.args, **record.kwargs)
        text = result_text(made, self._redactor, self._max_bytes, discard)
        if is_lossy(form := form_in(text)):
            raise Unfit(f"has a cache key that {LOST.get(form, 'is not all on record')}: what key= has returned")
        return canonical_value(text)


def counted_closure(cache: Cache, node: FunctionNode[..., Any]) -> Closure:
    """Return what counts of the functions around a node: nothing if the user has said what identifies its calls."""
    return NOTHING if cache.key is not None or node.given_key is not None else closure_of(node.target)


def _digest(node: FunctionNode[..., Any], is_given: bool, text: str, *more: Any) -> str:
    parts = dumps([node.key, node.code, is_given, text, *more])
    return hashlib.blake2b(parts.encode("ascii"), digest_size=24).hexdigest()
