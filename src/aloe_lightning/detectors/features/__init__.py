"""Detectors that read the last pooled features of any net."""
