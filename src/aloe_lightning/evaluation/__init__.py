"""Evaluation: net x detectors x test sets x conditions -> scores -> records."""
