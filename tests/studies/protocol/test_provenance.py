"""What a study's numbers come from."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from balance_tune.studies.protocol import own_names, provenance
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
