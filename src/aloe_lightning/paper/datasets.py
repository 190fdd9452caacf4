"""Titles and order of the paper's data sets."""

DATASET_TITLES = {"gtsrb": "GTSRB", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
"""Titles of the paper's in-distribution data sets, in its order."""
OUTLIER_TITLES = {
    "300k": "300K Random Images",
    "tiny_images": "80 Million Tiny Images (withdrawn by its creators in 2020 for its offensive content)",
    "imagenet32": "ImageNet 32x32",
}
SUBSTITUTES = {"300k": "in the place of the paper's 80 Million Tiny Images, which were withdrawn"}
"""Outliers that replace those of the paper, and why."""


def dataset_title(name: str) -> str:
    """Return the title of a data set; another one's is its name."""
    return DATASET_TITLES.get(name, name)


def dataset_order(title: str) -> tuple[int, str]:
    """Sort key: the paper's data sets in its order, then others by name."""
    titles = list(DATASET_TITLES.values())
    return (titles.index(title) if title in titles else len(titles), title)


def outliers_title(name: str, dataset: str) -> str:
    """Return the title of outliers; with a data set of the paper it says what they replace."""
    title = OUTLIER_TITLES.get(name, name) or "none"
    return f"{title} ({SUBSTITUTES[name]})" if name in SUBSTITUTES and dataset in DATASET_TITLES else title


def in_paper(title: str) -> bool:
    """Return True for the title of an in-distribution data set of the paper."""
    return title in DATASET_TITLES.values()
