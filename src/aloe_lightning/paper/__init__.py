"""Everything this project knows about the paper: published numbers, settings, methods, data sets and their order."""
