"""Settings of the paper's experiments."""

PUBLISHED_ETA = {"gtsrb": 0.0004, "cifar10": 0.0014, "cifar100": 0.0028}
"""Size of ODIN's input step, in [0, 1] pixels, by data set."""
PUBLISHED_EPSILONS = {"gtsrb": (1, 2, 3, 4), "cifar10": (1, 2, 3, 4), "cifar100": (1,)}
"""Attack budgets with published numbers, in 1/255 steps, by data set."""
