"""Figures: score histograms, and curves against the budget of the attack."""
