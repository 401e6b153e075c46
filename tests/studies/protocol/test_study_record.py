"""What a study's record tells those who read its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol import provenance, study_record
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.toy import toy_config


def test_a_study_records_the_families_of_its_datasets_and_how_often_seeds_were_added(tmp_path: Path) -> None:
    manifests: dict[str, Any] = {}
    config = toy_config(datasets=["crema_d_mlb", "av_digits"], methods=["joint"])
    assert study_record.looks_of(tmp_path) == 1
    assert study_record.families_of(tmp_path) == {}
    provenance.begin_or_check(StudyFolder(tmp_path), config, manifests)
    assert study_record.families_of(tmp_path) == {"crema_d_mlb": "crema_d", "av_digits": "av_digits"}
    assert study_record.looks_of(tmp_path) == 1
    raw = config.as_dict()
    for seeds, looks in ((raw["confirm"]["seeds"] + 1, 2), (raw["confirm"]["seeds"] + 2, 3)):
        more = {**raw, "confirm": {**raw["confirm"], "seeds": seeds}}
        provenance.begin_or_check(StudyFolder(tmp_path), StudyConfig.model_validate(more), manifests)
        assert study_record.looks_of(tmp_path) == looks
    trials = {**more, "search": {**raw["search"], "trials": raw["search"]["trials"] + 1}}
    provenance.begin_or_check(StudyFolder(tmp_path), StudyConfig.model_validate(trials), manifests)
    assert study_record.looks_of(tmp_path) == 4, "another search may choose another point"


@pytest.mark.parametrize("text", ["{", "[]", '{"code": {}, "packages": {}}', '{"code": 1, "packages": {}, "data": {}}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / study_record.RECORD).write_text(text)
    with pytest.raises(UserError, match=r"study.json must be readable, but .* is not"):
        study_record.looks_of(tmp_path)
