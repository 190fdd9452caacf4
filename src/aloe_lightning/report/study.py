"""A study is a folder of runs that share tables; each run that ends rewrites tables and figure for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from aloe_lightning.report.captions import table_caption
from aloe_lightning.report.figures.files import save_figure
from aloe_lightning.report.figures.score_histograms import score_figure, score_panels
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.renderers.csv_files import by_ood_csv, tables_csv
from aloe_lightning.report.renderers.markdown import markdown_table
from aloe_lightning.report.renderers.terminal import print_tables
from aloe_lightning.report.runs import ComparableRuns, collect
from aloe_lightning.report.table_layouts import TableLayout, table_layouts
from aloe_lightning.storage.files import atomic_write

RECORDS = "*/records.jsonl"


@dataclass(frozen=True)
class StudyReport:
    """The numbers of a study (see `table_frame`), the files written, and the folders of runs that are not in them."""

    frame: pd.DataFrame
    files: list[Path]
    left_out: list[Path]


def write_study(folder: Path) -> StudyReport:
    """Tabulate and draw the largest group of comparable runs of each data set among the sub-folders of a study.

    Raises:
        UserError: if there is no finished run.
    """
    with FileLock(folder / ".tables.lock"):
        collection = collect(folder, RECORDS)
        records = records_frame(collection.groups)
        frame = table_frame(records)
        tables = tables_with_captions(frame, collection.groups)
        texts = {
            "tables.csv": tables_csv(frame),
            "tables_by_ood.csv": by_ood_csv(records),
            "tables.md": "\n".join(markdown_table(*table) for table in tables),
        }
        files = write_texts(folder, texts)
        if panels := [panel for group in collection.groups for panel in score_panels(group)]:
            files += save_figure(score_figure(panels), folder, "scores")
        return StudyReport(frame, files, sorted(collection.left_out + collection.unreadable))


def show_studies(folder: Path, since: float) -> int:
    """Print the tables of each study under a folder that were written after a time; return the number of studies.

    Args:
        folder: folder of results.
        since: seconds since the epoch.
    """
    written = [path.parent for path in sorted(folder.glob("*/tables.csv")) if path.stat().st_mtime >= since]
    studies = [study for study in written if any(study.glob(RECORDS))]  # a report in the folder is no study
    for study in studies:
        print_tables(table_layouts(table_frame(records_frame(collect(study, RECORDS).groups))), study)
    return len(studies)


def tables_with_captions(frame: pd.DataFrame, groups: Sequence[ComparableRuns]) -> list[tuple[TableLayout, str]]:
    """Lay out the tables of a frame, each with its caption."""
    return [(layout, table_caption(frame[frame.table == layout.name], groups)) for layout in table_layouts(frame)]


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files by name, each whole or not at all, and return the paths."""
    for name, text in texts.items():
        with atomic_write(folder / name) as part:
            part.write_text(text)
    return [folder / name for name in texts]
