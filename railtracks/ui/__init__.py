"""``railtracks ui``: the runs of a store as pages on this machine, live. Needs the extra ``ui``."""
