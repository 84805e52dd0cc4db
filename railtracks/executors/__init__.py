"""Where nodes can run beside this event loop: in worker processes, and in executors like ``concurrent.futures``."""

from railtracks.executors._dask import Dask
from railtracks.executors._runner import Capabilities, Runner

__all__ = ["Capabilities", "Dask", "Runner"]
