"""What a study's numbers come from."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol import provenance
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.toy import toy_config

CONFIG = toy_config(datasets=["av_digits"], methods=["joint"])


def test_code_is_hashed_alike_every_time() -> None:
    assert provenance.code_of(CONFIG) == provenance.code_of(CONFIG)
    assert list(provenance.code_of(CONFIG)) == ["balance_tune"]


def test_somebody_elses_method_is_hashed_by_the_file_it_is_written_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class TheirMethod:
        pass

    monkeypatch.setattr(provenance, "modulations", lambda: SimpleNamespace(get=lambda name: TheirMethod))
    (name,) = provenance.code_of(CONFIG).keys() - {"balance_tune"}
    assert name.startswith("method ")
    assert name.endswith("TheirMethod")


@pytest.mark.parametrize(
    "module",
    [
        "tasks",
        "datasets/splits",
        "models/fusion",
        "modulations/ogm",
        "training/loop",
        "studies/early_stopping/rules",
        "studies/protocol/selection",
        "studies/search/live_trial",
    ],
)
def test_an_edit_of_what_trains_or_chooses_changes_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    package = tmp_path / "balance_tune"
    shutil.copytree(provenance.FOLDER, package, ignore=shutil.ignore_patterns("embedded", "__pycache__"))
    monkeypatch.setattr(provenance, "_foreign", lambda config, package: [])
    monkeypatch.setattr(provenance, "FOLDER", package)
    before = provenance.code_of(CONFIG)
    with (package / f"{module}.py").open("a") as file:
        file.write("# edited\n")
    assert provenance.code_of(CONFIG) != before


def test_a_study_records_the_families_of_its_datasets_and_how_often_seeds_were_added(tmp_path: Path) -> None:
    manifests: dict[str, Any] = {}
    config = toy_config(datasets=["crema_d_mlb", "av_digits"], methods=["joint"])
    assert provenance.looks_of(tmp_path) == 1
    assert provenance.families_of(tmp_path) == {}
    provenance.settle(StudyFolder(tmp_path), config, manifests)
    assert provenance.families_of(tmp_path) == {"crema_d_mlb": "crema_d", "av_digits": "av_digits"}
    assert provenance.looks_of(tmp_path) == 1
    raw = config.as_dict()
    for seeds, looks in ((raw["confirm"]["seeds"] + 1, 2), (raw["confirm"]["seeds"] + 2, 3)):
        more = {**raw, "confirm": {**raw["confirm"], "seeds": seeds}}
        provenance.settle(StudyFolder(tmp_path), StudyConfig.model_validate(more), manifests)
        assert provenance.looks_of(tmp_path) == looks
    trials = {**more, "search": {**raw["search"], "trials": raw["search"]["trials"] + 1}}
    provenance.settle(StudyFolder(tmp_path), StudyConfig.model_validate(trials), manifests)
    assert provenance.looks_of(tmp_path) == 3, "more search trials are no further look"


def test_an_edit_of_what_only_shows_results_leaves_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "balance_tune"
    shutil.copytree(provenance.FOLDER, package, ignore=shutil.ignore_patterns("embedded", "__pycache__"))
    monkeypatch.setattr(provenance, "_foreign", lambda config, package: [])
    monkeypatch.setattr(provenance, "FOLDER", package)
    before = provenance.code_of(CONFIG)
    with (package / "studies/results/tables.py").open("a") as file:
        file.write("# edited\n")
    assert provenance.code_of(CONFIG) == before
