"""Secrets: what names one, and how they are kept out of all that is written."""
