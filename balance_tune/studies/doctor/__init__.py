"""Checks machine and cluster before a study is run; each check gives one finding."""

from balance_tune.studies.doctor.examination import examine
from balance_tune.studies.doctor.finding import Finding

__all__ = ["Finding", "examine"]
