"""The answer of the report in words: the methods that an attack brings below chance, and those that hold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.paper.methods import Method
from aloe_lightning.report.texts import budget_text

CHANCE = 50.0
"""AUROC, in percent, of a score that tells nothing."""
BELOW, AT_CHANCE, MOST_LOST, KEPT, WEAK = (
    "below chance",
    "no better than chance",
    "lost more than half of the margin over chance",
    "kept at least half of the margin over chance",
    "no better than chance even without an attack",
)
FATES = (BELOW, AT_CHANCE, MOST_LOST, KEPT, WEAK)


class Estimate(NamedTuple):
    """A number in percent with its interval, or its standard deviation on both sides; without either low = high."""

    value: float
    low: float
    high: float


class Change(NamedTuple):
    """The AUROC of a method without an attack and with both sides attacked; None if it was not attacked."""

    method: Method
    clean: Estimate
    attacked: Estimate | None

    @property
    def fate(self) -> str:
        """One of `FATES`.

        - `WEAK`: the interval of the clean number does not lie above 50 %.
        - `BELOW`: the interval of the attacked number lies below 50 %; `AT_CHANCE`: it holds 50 %.
        - `MOST_LOST` and `KEPT`: the attack took more than half of (clean - 50 %), or not.

        Raises:
            ValueError: if the method was not attacked.
        """
        if self.attacked is None:
            raise ValueError(f"{self.method} was not attacked")
        if self.clean.low <= CHANCE:
            return WEAK
        if self.attacked.low <= CHANCE:
            return BELOW if self.attacked.high < CHANCE else AT_CHANCE
        return MOST_LOST if self.clean.value - self.attacked.value > (self.clean.value - CHANCE) / 2 else KEPT


class Verdict(NamedTuple):
    """The changes of all methods on a data set, in the order of the tables, at the first budget of its attacks."""

    dataset: str
    epsilon: float
    changes: list[Change]

    @property
    def headline(self) -> str:
        """State who falls most and who holds best in a sentence; without an attack who is best."""
        attacked = self._attacked()
        if not attacked:
            best = max(self.changes, key=lambda change: change.clean.value)
            return f"{self.dataset}: not attacked. Clean, {best.method} is best with {best.clean.value:.1f} % AUROC."
        best = max(attacked, key=lambda change: change.attacked.value)
        worst = max(attacked, key=lambda change: change.clean.value - change.attacked.value)
        opening = f"{self.dataset}: under an attack of {self.epsilon:g}/255 on both sides"
        if best is worst:
            return f"{opening}, {_falls(best)}."
        return f"{opening}, {_falls(worst)}; {_holds(best)}{self._rivals(best)}.".replace(") (", "; ")

    @property
    def lines(self) -> list[str]:
        """List the attacked methods by their fate, each with its clean and attacked AUROC."""
        by_fate: dict[str, list[str]] = {fate: [] for fate in FATES}
        for change in self._attacked():
            numbers = f"{change.clean.value:.1f} → {change.attacked.value:.1f}"
            by_fate[change.fate].append(f"{change.method} ({numbers})")
        return [f"{fate.capitalize()}: {', '.join(names)}." for fate, names in by_fate.items() if names]

    def ranks(self) -> dict[Method, tuple[int, int]]:
        """Return the rank of each attacked method by AUROC, clean and attacked; 1 is best, equal numbers share it."""
        attacked = self._attacked()
        clean = pd.Series([change.clean.value for change in attacked], dtype=float)
        after = pd.Series([change.attacked.value for change in attacked], dtype=float)
        pairs = zip(*(values.rank(ascending=False, method="min").astype(int) for values in (clean, after)), strict=True)
        return dict(zip((change.method for change in attacked), pairs, strict=True))

    def _attacked(self) -> list[Any]:
        """Return the changes with an attacked number; Any, because their `attacked` is never None."""
        return [change for change in self.changes if change.attacked is not None]

    def _rivals(self, best: Any) -> str:
        """Name the methods whose intervals overlap with that of the best one under attack."""
        others = [change for change in self._attacked() if change is not best]
        names = [str(change.method) for change in others if change.attacked.high >= best.attacked.low]
        if not names:
            return ""
        rivals = "any other method" if len(names) == len(others) > 1 else ", ".join(names)
        return f" (no clear difference from {rivals})"


def _falls(change: Any) -> str:
    numbers = f"{change.clean.value:.1f} to {change.attacked.value:.1f} % AUROC"
    if change.fate in (KEPT, MOST_LOST) and change.attacked.value >= change.clean.value:
        return f"{change.method} goes from {numbers}"
    return f"{change.method} falls from {numbers}: {change.fate}"


def _holds(change: Any) -> str:
    numbers = f"{change.attacked.value:.1f} of {change.clean.value:.1f}"
    if change.attacked.value > change.clean.value:
        return f"{change.method} goes from {change.clean.value:.1f} to {change.attacked.value:.1f}"
    if change.fate == KEPT:
        return f"{change.method} keeps {numbers}"
    return f"even the best, {change.method}, keeps only {numbers} ({change.fate})"


def verdicts_of(frame: pd.DataFrame) -> list[Verdict]:
    """Return the verdict on each data set of `table_frame`, in the paper's order.

    The budget is the one of Table 1: 1 for the paper's data sets if evaluated, else the least one.
    """
    numbers = frame[frame.metric == "auroc"]
    verdicts = []
    for dataset in sorted(numbers.dataset.unique(), key=dataset_order):
        rows = numbers[numbers.dataset == dataset]
        clean = _by_method(rows[(rows.table == "table1") & (rows.epsilon == 0)])
        epsilon = float(next(iter(clean.values())).budget) if clean else 0.0
        attacked = _by_method(rows[(rows.epsilon > 0) & (rows.epsilon == epsilon)])
        changes = [
            Change(method, _estimate(row), _estimate(attacked[method]) if method in attacked else None)
            for method, row in sorted(clean.items(), key=lambda item: item[0])
        ]
        if changes:
            verdicts.append(Verdict(dataset, epsilon, changes))
    return verdicts


def _by_method(rows: pd.DataFrame) -> dict[Method, Any]:
    """Return the first row of each method."""
    return {row.method: row for row in reversed(list(rows.itertuples()))}


def _estimate(row: Any) -> Estimate:
    if row.low == row.low:
        return Estimate(row.value, row.low, row.high)
    margin = row.margin if row.margin == row.margin else 0.0
    return Estimate(row.value, row.value - margin, row.value + margin)


def verdict_caption(verdicts: Sequence[Verdict], frame: pd.DataFrame) -> str:
    """Explain the chart of the changes: the numbers, the bars, the words."""
    budgets = ", ".join(dict.fromkeys(budget_text(verdict.epsilon) for verdict in verdicts if verdict.epsilon))
    parts = ["Mean AUROC over the OOD test sets, clean"]
    parts[0] += f" and with both sides attacked at {budgets}." if budgets else "."
    if frame.low.notna().any():
        parts.append("Bars are 95 % bootstrap intervals over test images.")
    if frame["std"].notna().any():
        parts.append("Bars of several seeds are one standard deviation to each side.")
    return " ".join(parts)
