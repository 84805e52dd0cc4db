"""How calls are run: strategies, cancel scopes, and the Coordinator that joins them."""

from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._task_groups import find_interrupt, split_cancellation
from railtracks.execution._coordinator import Coordinator, Frame, abandon_current
from railtracks.execution._strategies import ExecutionStrategy, InTaskStrategy, ThreadStrategy

__all__ = [
    "Coordinator",
    "ExecutionStrategy",
    "Frame",
    "InTaskStrategy",
    "ThreadStrategy",
    "abandon_current",
    "find_interrupt",
    "running_library",
    "split_cancellation",
]
