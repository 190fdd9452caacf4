"""Reports: records -> the paper's tables and figure."""

from aloe_lightning.report.show import show_studies, show_study
from aloe_lightning.report.study import StudyReport, write_report
from aloe_lightning.report.tables import Row

__all__ = ["Row", "StudyReport", "show_studies", "show_study", "write_report"]
