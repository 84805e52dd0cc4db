"""Event loops on a clock that jumps, in an order that a seed decides."""
