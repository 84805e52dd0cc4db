"""A model of runs that are killed and resumed: random programs, their disturbed histories, and an oracle.

``python -m tests.durability.model --help`` runs many histories.
"""
