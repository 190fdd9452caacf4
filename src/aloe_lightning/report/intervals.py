"""95 % intervals over the choice of test images, for the numbers of a single seed."""

from collections.abc import Sequence

import pandas as pd

from aloe_lightning.report.bootstrap import intervals, rejected_interval, share_interval
from aloe_lightning.report.runs import Run
from aloe_lightning.runtime.progress import track


def intervals_of(frame: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """Return the columns low and high in percent, aligned with the frame; NaN for numbers of several seeds.

    Args:
        frame: numbers of the tables, with the columns `run` (position in `runs`) and `num_id`.
        runs: runs indexed by the column `run`.
    """
    bounds = pd.DataFrame(float("nan"), index=frame.index, columns=["low", "high"])
    by_run = list(frame[frame.seeds == 1].groupby("run"))
    for position, rows in track(by_run, len(by_run), "intervals", unit="cells"):
        scores = runs[position].scores()
        resampled: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}  # metrics of the same scores together
        for row in rows.itertuples():
            detector = row.method.detector
            if row.table == "table4":
                interval = share_interval(row.value / 100, row.num_id)
            elif row.table == "table2":
                clean, attacked = scores[detector, "id", "clean"], scores[detector, "id", "misclassified"]
                interval = rejected_interval(clean, attacked)
            else:
                key = detector, "attacked" if row.epsilon else "clean"
                if key not in resampled:
                    ood_scores = {name: scores[detector, name, key[1]] for name in scores.ood_sets}
                    resampled[key] = intervals(scores[detector, "id", key[1]], ood_scores)
                interval = resampled[key][row.metric]
            bounds.loc[row.Index] = 100 * interval[0], 100 * interval[1]
    return bounds
