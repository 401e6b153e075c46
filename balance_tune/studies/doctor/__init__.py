"""What would go wrong with a study on this machine and cluster, checked before it is run: one finding a check."""

from balance_tune.studies.doctor.examination import examine
from balance_tune.studies.doctor.finding import Finding

__all__ = ["Finding", "examine"]
