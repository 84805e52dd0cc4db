"""The model of an agent: what is checked of it, and how it is found where it is only known when the agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from railtracks._options import ExecutorConfig, NotSent
from railtracks.exceptions import ConfigError, NodeCreationError
from railtracks.llm._model import Model
from railtracks.llm._settings import with_settings
from railtracks.state import CallRecord, Secret

_MISSING = object()


def check_model(whose: str, llm: object) -> None:
    """Check that this is a model.

    Args:
        whose: What it is, such as "the llm of the agent Weather".
        llm: What the user passed.

    Raises:
        NodeCreationError: It is something else, or lacks a part.
    """
    repair = "pass a model such as rt.llm.OpenAI('gpt-5'), or an object with all that rt.llm.Model lists"
    if isinstance(llm, type):
        raise NodeCreationError(f"{whose} is the class {llm.__name__}, not an instance; {repair}")
    what = f"{whose}, a {type(llm).__name__},"  # not its repr, which may show a key
    kinds = {"name": str, "provider": str, "settings": Mapping, "api_key": Secret | None}
    for part, kind in kinds.items():
        value = getattr(llm, part, _MISSING)
        if value is _MISSING or not isinstance(value, kind):
            problem = f"has no {part}" if value is _MISSING else f"has a {type(value).__name__} as its {part}"
            if part == "api_key" and isinstance(value, str):
                repair = "wrap the key in rt.Secret(...), so that it is never written"
            raise NodeCreationError(f"{what} {problem}; {repair}")
    for part in ("complete", "stream"):
        if not callable(getattr(llm, part, None)):
            raise NodeCreationError(f"{what} has no method {part}; {repair}")


def model_of(name: str, llm: Any) -> Any:
    """Return what an agent has as its model: the model, or a ``DefaultModel`` or ``ModelPerAttempt``.

    Args:
        name: The name of the agent.
        llm: What the user passed: a model, a list of models, or None.

    Raises:
        NodeCreationError: It is something else.
    """
    if llm is None:
        return DefaultModel()
    if not isinstance(llm, list | tuple):
        check_model(f"the llm of the agent {name}", llm)
        return llm
    if not llm:
        raise NodeCreationError(f"the llm of the agent {name} is an empty list; pass a model, or one for each attempt")
    for number, each in enumerate(llm, 1):
        check_model(f"model {number} of the llm of the agent {name}", each)
    return ModelPerAttempt(tuple(llm))


@attrs.frozen
class DefaultModel:
    """Stands in an agent for the model that its session has.

    Args:
        settings: Those that the model gets for the agent.
    """

    name: ClassVar = "default"
    provider: ClassVar = "default"
    api_key: ClassVar = None
    settings: Mapping[str, Any] = attrs.field(factory=dict)

    def with_settings(self, **settings: Any) -> DefaultModel:
        """Return it with other settings. None is passed on to the model."""
        return DefaultModel({**self.settings, **settings})

    def chosen(self, agent: str, config: ExecutorConfig, record: CallRecord) -> Model:
        """Return the model of the session.

        Args:
            agent: The name of the agent.
            config: The options of the session.
            record: The call of the agent.

        Raises:
            ConfigError: There is none, or it takes no settings.
            NodeCreationError: The session has something else as its model.
        """
        model = config.default_llm
        if model is None:
            raise ConfigError(
                f"the agent {agent} has no model; write rt.agent_node({agent!r}, llm=...), call it with "
                f"{agent}.options(llm=...), or give the session one: rt.Session(default_llm=...), "
                f"rt.Flow(..., default_llm=...) or rt.set_config(default_llm=...)"
            )
        if isinstance(model, NotSent):
            raise ConfigError(
                f"the agent {agent} runs in a worker, and the default_llm of its session is not there: {model.reason}; "
                f"make the model in the module that the worker imports, and write rt.agent_node({agent!r}, llm=...)"
            )
        check_model("the default_llm of the session", model)
        return with_settings(model, self.settings, f"the agent {agent}") if self.settings else model


@attrs.frozen
class ModelPerAttempt:
    """Stands in an agent for its models: one for each attempt of a call, of which the last one is for all further ones.

    Args:
        models: The models.
    """

    models: tuple[Model, ...]
    provider: ClassVar = "several"
    api_key: ClassVar = None

    @property
    def name(self) -> str:
        """The names of the models."""
        return ", ".join(model.name for model in self.models)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that determines the answers."""
        return {"models": [(model.provider, model.name, dict(model.settings)) for model in self.models]}

    def with_settings(self, **settings: Any) -> ModelPerAttempt:
        """Return the models with other settings."""
        return ModelPerAttempt(tuple(with_settings(model, settings, "the agent") for model in self.models))

    def chosen(self, agent: str, config: ExecutorConfig, record: CallRecord) -> Model:
        """Return the model of an attempt. For the arguments see ``DefaultModel``."""
        failed = 0 if record.policy is None else record.policy.retry
        return self.models[min(failed, len(self.models) - 1)]
