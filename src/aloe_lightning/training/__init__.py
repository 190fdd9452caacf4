"""Lightning's trainer, its callbacks, and the reuse of a trained net."""
