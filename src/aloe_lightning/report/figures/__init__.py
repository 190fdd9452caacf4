"""Figures of the report, drawn with matplotlib; one module for each kind."""
