"""``simulate``: one run of a flow, observed by a witness."""
