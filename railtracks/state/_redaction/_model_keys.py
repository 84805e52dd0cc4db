"""The keys of a language model, which must never be written."""

from __future__ import annotations

from typing import Any

from railtracks.state._redaction._redactor import Secret


def keys_of(model: Any) -> tuple[str, ...]:
    """Return the keys of a model; those of all models in it, if it has ``models``.

    Args:
        model: A model, as ``rt.llm.Model`` describes it.
    """
    key = getattr(model, "api_key", None)
    inner = (text for each in getattr(model, "models", ()) for text in keys_of(each))
    return (*(() if not isinstance(key, Secret) else (key.value,)), *inner)
