"""Image sources, picture files, integrity checks, duplicates."""
