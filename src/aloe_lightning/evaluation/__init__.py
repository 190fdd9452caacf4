"""Net x detectors x test sets x condition -> scores -> records."""
