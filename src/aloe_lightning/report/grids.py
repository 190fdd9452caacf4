"""The shapes of the paper's Tables 1 to 4: which measure stands where, whatever it is written in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aloe_lightning.paper.methods import budget, method_order, objective_order
from aloe_lightning.paper.published import Row
from aloe_lightning.report.measures import Measure
from aloe_lightning.report.tables import TABLE_METRICS

TITLES = {
    "table1": "Table 1. In- against out-of-distribution test images, clean and attacked",
    "table2": "Table 2. Images attacked to be misclassified that are rejected as OOD (1 − FPR at 95 % TPR) ↑",
    "table3": "Table 3. In- against out-of-distribution test images under larger budgets",
    "table4": "Table 4. Accuracy of the classifier ↑, clean and under PGD",
}
LOWER_IS_BETTER = ("fpr95", "detection_error")


@dataclass(frozen=True)
class Block:
    """Rows of one data set: a label, and for each row its name and a measure for each column, None where missing."""

    label: str
    rows: list[tuple[str, list[Measure | None]]]

    def best(self, column: int) -> Measure | None:
        """The best measure of a column; None if there are not two to compare."""
        found = [cells[column] for _, cells in self.rows]
        present = [m for m in found if m is not None]
        if len(present) < 2:
            return None
        sign = -1 if present[0].row.metric in LOWER_IS_BETTER else 1
        return max(present, key=lambda m: sign * m.row.value)


@dataclass(frozen=True)
class Grid:
    """A table: columns under headings, and a block of rows for each data set.

    Attributes:
        name: `table1` to `table4`.
        columns: heading and name of each column; neighbours of one heading share it.
        blocks: of rows.
    """

    name: str
    columns: list[tuple[str, str]]
    blocks: list[Block]

    @property
    def title(self) -> str:
        """What the table shows."""
        return TITLES[self.name]

    @property
    def headings(self) -> list[tuple[str, int]]:
        """Each heading with the number of columns under it."""
        spans: list[tuple[str, int]] = []
        for heading, _ in self.columns:
            if spans and spans[-1][0] == heading:
                spans[-1] = heading, spans[-1][1] + 1
            else:
                spans.append((heading, 1))
        return spans


def grids(found: Sequence[Measure]) -> list[Grid]:
    """The tables that there are numbers for."""
    makers: list[Callable[[Sequence[Measure]], Grid]] = [_table1, _table2, _table3, _table4]
    return [grid for make in makers if (grid := make(found)).blocks]


def _table1(found: Sequence[Measure]) -> Grid:
    mine = [m for m in found if m.row.table == "table1"]
    blocks = []
    for dataset in _datasets(mine):
        of_set = [m for m in mine if m.row.dataset == dataset]
        attacked = max(m.row.epsilon for m in of_set)
        label = f"{dataset}, {budget(attacked)}" if attacked else dataset
        keys = [(bool(state), metric) for state in (0, 1) for metric in TABLE_METRICS]
        cells = {(m.row.method, m.row.epsilon > 0, m.row.metric): m for m in of_set}
        rows = [(method, [cells.get((method, *key)) for key in keys]) for method in _methods(of_set)]
        blocks.append(Block(label, rows))
    columns = [(state, title) for state in ("without attack", "with attack") for title in TABLE_METRICS.values()]
    return Grid("table1", columns, blocks)


def _table3(found: Sequence[Measure]) -> Grid:
    mine = [m for m in found if m.row.table == "table3"]
    keys = [(epsilon, metric) for epsilon in sorted({m.row.epsilon for m in mine}) for metric in TABLE_METRICS]
    blocks = []
    for dataset in _datasets(mine):
        cells = {(m.row.method, m.row.epsilon, m.row.metric): m for m in mine if m.row.dataset == dataset}
        of_set = [m for m in mine if m.row.dataset == dataset]
        rows = [(method, [cells.get((method, *key)) for key in keys]) for method in _methods(of_set)]
        blocks.append(Block(dataset, rows))
    return Grid("table3", [(budget(epsilon), TABLE_METRICS[metric]) for epsilon, metric in keys], blocks)


def _table2(found: Sequence[Measure]) -> Grid:
    mine = [m for m in found if m.row.table == "table2"]
    cells = {(m.row.dataset, m.row.method): m for m in mine}
    keys = sorted({(m.row.dataset, m.row.epsilon) for m in mine}, key=lambda key: _datasets(mine).index(key[0]))
    rows = [(method, [cells.get((dataset, method)) for dataset, _ in keys]) for method in _methods(mine)]
    return Grid("table2", [(dataset, budget(epsilon)) for dataset, epsilon in keys], [Block("", rows)] if rows else [])


def _table4(found: Sequence[Measure]) -> Grid:
    mine = [m for m in found if m.row.table == "table4"]
    keys = [(d, e) for d in _datasets(mine) for e in sorted({m.row.epsilon for m in mine if m.row.dataset == d})]
    cells = {(m.row.method, m.row.dataset, m.row.epsilon): m for m in mine}
    names = sorted({m.row.method for m in mine}, key=objective_order)
    rows = [(name, [cells.get((name, *key)) for key in keys]) for name in names]
    columns = [(dataset, budget(epsilon)) for dataset, epsilon in keys]
    return Grid("table4", columns, [Block("", rows)] if rows else [])


PAPER_DATASETS = ("GTSRB", "CIFAR-10", "CIFAR-100")


def dataset_order(dataset: str) -> tuple[int, str]:
    """The paper's data sets in its order, then others."""
    return (PAPER_DATASETS.index(dataset) if dataset in PAPER_DATASETS else len(PAPER_DATASETS), dataset)


def _datasets(found: Sequence[Measure]) -> list[str]:
    return sorted({m.row.dataset for m in found}, key=dataset_order)


def _methods(found: Sequence[Measure]) -> list[str]:
    return sorted({m.row.method for m in found}, key=method_order)


def missing(found: Sequence[Measure], published: Sequence[Row]) -> list[str]:
    """What the paper has a number for and we have not, one line for each method, data set and budget.

    Where no data set of the paper is there, what other methods of a data set have at a budget and a method has not.
    """
    have = {(m.row.table, m.row.dataset, m.row.method, m.row.epsilon) for m in found}
    wanted = {(r.table, r.dataset, r.method, r.epsilon) for r in published}
    if not {dataset for _, dataset, _, _ in have} & {dataset for _, dataset, _, _ in wanted}:
        places = {(table, dataset, epsilon) for table, dataset, _, epsilon in have}
        # Nets that are evaluated at budgets of their own are rows of their own, and have no others to be held to.
        apart = {method.split(" (")[0] for _, _, method, _ in have if "trained at" in method}
        methods = {
            (table == "table4", dataset, method)
            for table, dataset, method, _ in have
            if method.split(" (")[0].split("+")[0] not in {name.split("+")[0] for name in apart}
        }
        wanted = {
            (table, dataset, method, epsilon)
            for table, dataset, epsilon in places
            for is_accuracy, of_set, method in methods
            if of_set == dataset and is_accuracy == (table == "table4")
        }
    gaps: dict[tuple[str, str, str], set[float]] = {}
    for table, dataset, method, epsilon in wanted - have:
        gaps.setdefault((table, dataset, method), set()).add(epsilon)
    lines: dict[tuple[str, str, tuple[float, ...]], list[str]] = {}
    for (table, dataset, method), epsilons in gaps.items():
        lines.setdefault((table, dataset, tuple(sorted(epsilons))), []).append(method)
    ordered = sorted(lines.items(), key=lambda line: (line[0][0], dataset_order(line[0][1]), line[0][2]))
    return [
        f"{table.replace('table', 'Table ')}, {dataset}, {', '.join(map(budget, epsilons))}: "
        + ", ".join(sorted(methods, key=objective_order if table == "table4" else method_order))
        for (table, dataset, epsilons), methods in ordered
    ]
