"""Reports: finished runs -> comparable groups -> one data frame -> table layouts -> renderers."""

from aloe_lightning.report.full import report
from aloe_lightning.report.study import StudyReport, show_studies, write_study

__all__ = ["StudyReport", "report", "show_studies", "write_study"]
