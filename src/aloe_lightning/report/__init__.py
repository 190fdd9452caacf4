"""Reports: finished runs -> comparable groups -> one data frame -> table layouts -> renderers."""

from aloe_lightning.report.reports import StudyReport, report, show_studies, write_study

__all__ = ["StudyReport", "report", "show_studies", "write_study"]
