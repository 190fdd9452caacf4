"""Progress, seeds, hardware, and the processes that train together."""
