"""The leaderboard of robust detectors: one JSON file for each result, ranked among those of the same threat model."""

from aloe_lightning.report.leaderboard.entry import ENTRY, MEAN, Entry
from aloe_lightning.report.leaderboard.pages import write_leaderboard

__all__ = ["ENTRY", "MEAN", "Entry", "write_leaderboard"]
