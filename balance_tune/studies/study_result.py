"""What a run of a study returns: how it ended, its leaderboard, and its trials as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from balance_tune.studies.results import exports
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.studies.results.pairwise import Pair, compare_arms

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

Ending = Literal["done", "failed", "limited", "interrupted", "halted"]
"""How a run of a study ends; docs/operating.md has the table."""


@dataclass(frozen=True)
class StudyResult:
    """The result of a run of a study.

    Attributes:
        rows: the leaderboard, one row per arm; values that are not known yet are None.
        folder: the study's folder.
        state: "done"; "failed": every trial has ended, but an arm has nothing to compare, because its trials failed
            (`retry_failed` runs them again); "limited": the study's own limit ended it; "interrupted": a signal ended
            it; "halted": it cannot continue, for example because the disk is full. After the last three the same call
            resumes it.
        reason: why it ended early, in words.
    """

    rows: list[LeaderboardRow]
    folder: Path
    state: Ending = "done"
    reason: str = ""

    def seeds(self) -> pd.DataFrame:
        """Return a row for each confirmation trial that has ended, with the columns of `exports.seeds`."""
        import pandas as pd

        return pd.DataFrame(exports.seeds(self.folder))

    def trials(self) -> pd.DataFrame:
        """Return a row for each trial with its parameters and curve, with the columns of `exports.trials`."""
        import pandas as pd

        return pd.DataFrame(exports.trials(self.folder))

    def compare(self, first: str, second: str) -> Pair:
        """Return the difference of two arms of one dataset.

        Args:
            first: an arm, such as "av_digits/mlb".
            second: the arm that it is compared with.

        Raises:
            UserError: there is no such arm, or they are of different datasets.
        """
        return compare_arms(self.folder, first, second)
