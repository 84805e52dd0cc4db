"""Settings of a model for single calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks.exceptions import ConfigError
from railtracks.llm._model import Model


def with_settings(model: Model, settings: Mapping[str, Any], whose: str) -> Model:
    """Return a model with other settings.

    Args:
        model: The model.
        settings: Those that change.
        whose: What it is the model of, for the error.

    Raises:
        ConfigError: It takes no settings for single calls, or not these.
    """
    change = getattr(model, "with_settings", None)
    if not callable(change):
        names = ", ".join(settings)
        raise ConfigError(
            f"{whose}: the model {model.name}, a {type(model).__name__}, takes no settings for single calls ({names}), "
            f"as it has no method with_settings(**settings); write options(llm=...) with a model that is made with them"
        )
    changed: Model = change(**settings)
    return changed


def merged_settings(
    settings: Mapping[str, Any], changes: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return settings with some changed; None stands for the default, or for none.

    Args:
        settings: The settings.
        changes: Those that change.
        defaults: What those have that must not be missing.
    """
    given = {name: defaults.get(name) if value is None else value for name, value in changes.items()}
    merged = {**settings, **given}
    return {name: value for name, value in merged.items() if name not in given or value is not None}
