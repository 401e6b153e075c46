"""The name of a trial within its study."""

from __future__ import annotations

from typing import NamedTuple

from balance_tune.studies.storage.records import CONFIRM, Phase


class TrialKey(NamedTuple):
    """A trial's place in its study; `number` counts search trials, and select and confirm trials together."""

    arm: str
    phase: Phase
    number: int

    @property
    def study_name(self) -> str:
        return self.arm if self.phase == "search" else self.arm + CONFIRM
