"""Reports: records -> the paper's tables and figure."""

from aloe_lightning.paper.published import Row
from aloe_lightning.report.show import show_studies, show_study
from aloe_lightning.report.study import StudyReport, write_report

__all__ = ["Row", "StudyReport", "show_studies", "show_study", "write_report"]
