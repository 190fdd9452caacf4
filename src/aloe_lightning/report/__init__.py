"""Reports: records -> the paper's tables and figure."""

from aloe_lightning.report.study import StudyReport, write_report
from aloe_lightning.report.tables import terminal_tables

__all__ = ["StudyReport", "terminal_tables", "write_report"]
