"""A fuzzer of sessions: random programs, run for real, and judged by what they noted themselves.

``python -m tests.fuzz --backend trio --seed 123 --cases 1 -v`` runs one program and shows it. ``programs`` says what a
program consists of, ``drawing`` draws one from a seed, ``runner`` runs it and ``oracle`` judges it.
"""
