"""Fetch, verify, unpack and check data sets."""
