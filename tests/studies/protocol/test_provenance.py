"""What a study's numbers come from."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.protocol import own_names, provenance
from balance_tune.studies.protocol.study_record import RECORD, looks_of, read_record
from balance_tune.studies.storage.study_folder import StudyFolder
from tests.studies.toy import toy_config

CONFIG = toy_config(datasets=["av_digits"], methods=["joint"])


def test_code_is_hashed_alike_every_time() -> None:
    assert provenance.code_of(CONFIG) == provenance.code_of(CONFIG)
    assert list(provenance.code_of(CONFIG)) == ["balance_tune"]


def test_somebody_elses_method_is_hashed_by_the_file_it_is_written_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class TheirMethod:
        pass

    registries = {**own_names.REGISTRIES, "method": lambda: SimpleNamespace(get=lambda name: TheirMethod)}
    monkeypatch.setattr(own_names, "REGISTRIES", registries)
    (name,) = provenance.code_of(CONFIG).keys() - {"balance_tune"}
    assert name.startswith("method ")
    assert name.endswith("TheirMethod")


def test_a_study_whose_own_rule_raised_goes_on_with_the_corrected_rule_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, code = StudyFolder(tmp_path / "study"), {"balance_tune": "0", "stopping rule Mine": "1"}
    folder.path.mkdir()
    monkeypatch.setattr(provenance, "code_of", lambda config: dict(code))
    provenance.begin_or_check(folder, CONFIG, {})
    code["stopping rule Mine"] = "2"
    with pytest.raises(UserError, match="the code of `stopping rule Mine` has changed"):
        provenance.begin_or_check(folder, CONFIG, {})
    provenance.allow_correction(folder, "my_rules:Mine")
    assert provenance.begin_or_check(folder, CONFIG, {}) == ()
    record = read_record(folder.path / RECORD)
    assert record["code"] == code
    (extension,) = record["extensions"]
    assert extension["changes"] == ["the early-stopping rule `my_rules:Mine` raised and may have been corrected"]
    assert looks_of(folder.path) == 1
    code["stopping rule Mine"] = "3"
    with pytest.raises(UserError, match="has changed"):
        provenance.begin_or_check(folder, CONFIG, {})


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


def test_an_edit_of_what_only_shows_results_leaves_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "balance_tune"
    shutil.copytree(provenance.FOLDER, package, ignore=shutil.ignore_patterns("embedded", "__pycache__"))
    monkeypatch.setattr(provenance, "_foreign", lambda config, package: [])
    monkeypatch.setattr(provenance, "FOLDER", package)
    before = provenance.code_of(CONFIG)
    with (package / "studies/results/tables.py").open("a") as file:
        file.write("# edited\n")
    assert provenance.code_of(CONFIG) == before
