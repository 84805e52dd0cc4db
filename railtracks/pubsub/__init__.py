"""The delivery of events to subscribers, each over a bounded channel in memory."""

from railtracks.pubsub._publisher import DRAIN_DEADLINE, RTPublisher
from railtracks.pubsub._subscription import OnError, Policy, PumpHost, Subscription, callback_of

__all__ = ["DRAIN_DEADLINE", "OnError", "Policy", "PumpHost", "RTPublisher", "Subscription", "callback_of"]
