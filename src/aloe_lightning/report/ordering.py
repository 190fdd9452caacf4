"""Do methods come in the paper's order? Ranks of AUROC, ours against the published."""

from collections.abc import Sequence

from aloe_lightning.paper.methods import budget
from aloe_lightning.report.grids import dataset_order
from aloe_lightning.report.measures import Measure


def ordering(found: Sequence[Measure]) -> list[str]:
    """A line for each data set and budget with three published methods or more: the rank correlation, both orders.

    Spearman's correlation of AUROC: 1 for the same order, -1 for the reverse.
    """
    from scipy.stats import spearmanr

    places: dict[tuple[str, float], list[Measure]] = {}
    for m in found:
        if m.row.metric == "auroc" and m.published is not None:
            places.setdefault((m.row.dataset, m.row.epsilon), []).append(m)
    lines = []
    for (dataset, epsilon), mine in sorted(places.items(), key=lambda place: (dataset_order(place[0][0]), place[0][1])):
        if len(mine) < 3:
            continue
        theirs = [m.published or 0.0 for m in mine]
        correlation = float(spearmanr([m.row.value for m in mine], theirs).statistic)
        ours = " > ".join(m.row.method for m in sorted(mine, key=lambda m: -m.row.value))
        paper = " > ".join(m.row.method for m in sorted(mine, key=lambda m: -(m.published or 0.0)))
        lines.append(f"{dataset}, {budget(epsilon)}: {correlation:.2f}; ours {ours}; the paper's {paper}")
    return lines
