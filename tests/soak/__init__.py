"""A soak test: drawn flows with faults for minutes, on both backends and in all stores, and what they leave behind.

``python -m tests.soak --minutes 30`` prints a report. ``drawing`` draws a flow from a seed and says what it must give,
``runs`` runs it with its fault, ``kills`` kills child processes, ``census`` counts what is left and measures memory.
"""
