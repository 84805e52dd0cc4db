"""Events to subscribers over bounded memory channels."""

from railtracks.pubsub._publisher import RTPublisher
from railtracks.pubsub._subscription import OnError, Policy, Subscription, in_callback

__all__ = ["OnError", "Policy", "RTPublisher", "Subscription", "in_callback"]
