"""Stores: where runs are kept, listed, locked and pruned."""
