"""Robust out-of-distribution detection: train, attack, score and tabulate."""

__version__ = "0.1.0"
