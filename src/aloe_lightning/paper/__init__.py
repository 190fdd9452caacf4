"""Everything this project knows about the paper: published numbers, settings, methods and their order."""
