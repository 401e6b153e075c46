"""The name of a trial within its study."""

from __future__ import annotations

from typing import NamedTuple

from balance_tune.studies.storage.records import CONFIRM, Phase, cell_name

BASELINE = "joint"  # the arm that every other of its dataset is compared with
PLACEBO, MATCHED = "placebo", "joint_matched"
"""Names of the arms that a study has beside its methods (`protocol.baselines`)."""
PLACEBO_SEEDS = 5_000  # offset of the placebo's seeds from those of all other arms in a replicate


def seed_offset(arm: str) -> int:
    """Return the offset of the seeds of an arm ("dataset/label"): 0 for all but the placebo, which is not paired."""
    return PLACEBO_SEEDS if arm.partition("/")[2] == PLACEBO else 0


class TrialKey(NamedTuple):
    """A trial's place in its study; `number` counts search trials, and select and confirm trials together, of a cell.

    A cell is an arm in one replicate; replicates count from 0.
    """

    arm: str
    phase: Phase
    number: int
    replicate: int = 0

    @property
    def cell(self) -> str:
        """The name of the arm in its replicate."""
        return cell_name(self.arm, self.replicate)

    @property
    def study_name(self) -> str:
        """The name of the Optuna study that holds the trial."""
        return self.cell if self.phase == "search" else self.cell + CONFIRM

    def __str__(self) -> str:
        return f"{self.cell} {self.phase} {self.number}"
