"""The root keys, validation, and from config to objects."""
