"""The delivery of events to subscribers, each over a bounded channel in memory."""

from railtracks.pubsub._publisher import PumpHost, RTPublisher
from railtracks.pubsub._subscription import OnError, Policy, Subscription, in_callback

__all__ = ["OnError", "Policy", "PumpHost", "RTPublisher", "Subscription", "in_callback"]
