"""What an agent is made of in one run, once all of it is known."""

from __future__ import annotations

import attrs

from railtracks._calls._call import call
from railtracks._context_variable import current
from railtracks.agents._models import DefaultModel, ModelPerAttempt
from railtracks.agents._spec import AgentSpec
from railtracks.agents._system_messages import returned_message
from railtracks.execution import Frame


async def settled(agent: AgentSpec) -> AgentSpec:
    """Return an agent with the model and the system message that it has in the current call.

    The function of a system message is a call on record, so a resumed run has the text that the run had before.

    Raises:
        ConfigError: It has no model, and neither has the session.
        NodeInvocationError: The function of the system message has returned something else.
        Exception: What that function raises, unchanged.

    Cancellation: Cancels that function.
    """
    frame: Frame | None = current.get()
    if frame is None or frame.record is None:  # the conversation refuses to begin
        return agent
    if isinstance(agent.model, DefaultModel | ModelPerAttempt):
        model = agent.model.chosen(agent.name, frame.coordinator.config, frame.record)
        agent = attrs.evolve(agent, model=model)
    if (function := agent.system_node) is not None:
        message = returned_message(await call(function), function.name, agent.name)
        agent = attrs.evolve(agent, system=message, system_node=None)
    return agent
