"""What is not exported: over something, or without a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.evaluation.export import export_best
from balance_tune.studies.results import leaderboard
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.made_study import Made, make_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose trials have histories but no checkpoints (any more)."""
    return make_study(tmp_path, Made(datasets=["av_digits"], methods=["joint", "mlb"]))


def test_an_export_does_not_overwrite(study: Path, tmp_path: Path) -> None:
    row = next(row for row in leaderboard.build(study) if row.chosen)
    (tmp_path / "out/av_digits").mkdir(parents=True)
    with pytest.raises(UserError, match="an export must not overwrite"):
        export_best(StudyFolder(study), row, {}, tmp_path / "out")


def test_an_arm_without_a_checkpoint_is_told_and_nothing_is_written(study: Path, tmp_path: Path) -> None:
    row = next(row for row in leaderboard.build(study) if row.chosen)
    with pytest.raises(UserError, match=f"{row.arm} must have a checkpoint to be exported"):
        export_best(StudyFolder(study), row, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
