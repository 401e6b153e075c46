"""A finished study and its leaderboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.studies.results import leaderboard
from balance_tune.studies.results.leaderboard import LeaderboardRow
from tests.studies.made_study import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def rows(study: Path) -> list[LeaderboardRow]:
    return leaderboard.build(study)
