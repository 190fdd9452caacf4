"""Image sources, picture files, integrity, duplicates."""
