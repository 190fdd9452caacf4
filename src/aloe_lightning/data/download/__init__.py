"""Download, verify, extract and check data sets."""
