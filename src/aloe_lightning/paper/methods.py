"""A method, a row of the paper's tables: an objective, a detector, and the training budget where it differs."""

from collections.abc import Collection
from dataclasses import dataclass, replace

OBJECTIVES = {"original": "Original", "oe": "OE", "adv": "ADV", "aoe": "AOE", "aloe": "ALOE"}
DETECTORS = {"msp": "MSP", "odin": "ODIN", "mahalanobis": "Mahalanobis", "": ""}
"""Titles by the key in the records; "" is the classifier alone."""


@dataclass(frozen=True)
class Method:
    """A row of a table; methods compare by their place in the paper's tables.

    `objective` and `detector` are as in the records, "" for the classifier alone (Table 4). `trained_at` is the
    training budget in 1/255 steps of a net that is evaluated at other budgets, too; None for a net that is attacked at
    its training budget only, and for one that was trained without perturbations.
    """

    objective: str
    detector: str
    objective_title: str
    detector_title: str
    trained_at: float | None = None

    def __str__(self) -> str:
        return self.title

    def __lt__(self, other: "Method") -> bool:
        return self.order < other.order

    @property
    def name(self) -> str:
        """Title without the training budget: the detector's on the original net, else the objective's."""
        if self.detector and self.objective == "original":
            return self.detector_title
        if self.detector in ("", "msp"):
            return self.objective_title
        return f"{self.objective_title}+{self.detector_title}"

    @property
    def title(self) -> str:
        """Title of the row, such as `ALOE+ODIN` or `ALOE (trained at 1)`."""
        return self.name if self.trained_at is None else f"{self.name} (trained at {self.trained_at:g})"

    @property
    def in_paper(self) -> bool:
        """True if the paper has results of this objective with this detector."""
        return replace(self, trained_at=None) in PAPER_METHODS

    @property
    def order(self) -> tuple[int, str, float]:
        """Sort key: the paper's order, further methods last by name; a method without a training budget first."""
        place = PAPER_METHODS.index(replace(self, trained_at=None)) if self.in_paper else len(PAPER_METHODS)
        return place, self.name, -1.0 if self.trained_at is None else self.trained_at

    @property
    def hidden(self) -> bool:
        """True for a detector of the paper on an objective of the paper for which the paper has no such row."""
        titles = OBJECTIVES.get(self.objective), DETECTORS.get(self.detector)
        return titles == (self.objective_title, self.detector_title) and not self.in_paper


PAPER_METHODS = tuple(
    Method(objective, detector, OBJECTIVES[objective], DETECTORS[detector])
    for objective, detector in (
        *(("original", "msp"), ("original", "odin"), ("original", "mahalanobis"), ("oe", "msp"), ("oe", "odin")),
        *(("adv", "msp"), ("aoe", "msp"), ("aloe", "msp"), ("aloe", "odin")),
        *((objective, "") for objective in OBJECTIVES),
    )
)
"""The rows of Tables 1 to 3 in the paper's order, then those of Table 4."""


def distinct_titles(titles: Collection[tuple[str, str]], known: Collection[str]) -> dict[tuple[str, str], str]:
    """Make the titles of pairs (key, title) differ by appending keys, as in `ODIN (odin_2)`; not to the known keys."""
    keys = {title: {key for key, same in titles if same == title} for _, title in titles}
    return {
        (key, title): title if len(keys[title]) == 1 or key in known else f"{title} ({key})" for key, title in titles
    }
