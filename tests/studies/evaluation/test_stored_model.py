"""A model in a folder: ours, somebody else's, damaged, or none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.evaluation.stored_model import LOADER, stored_model
from balance_tune.studies.storage.study_folder import StudyFolder


def flavor(folder: Path, loader: str) -> None:
    folder.mkdir(exist_ok=True)
    text = f"flavors:\n  python_function:\n    loader_module: {loader}\n    data: data\n    python_version: '3.11'\n"
    (folder / "MLmodel").write_text(text)


def refusal(folder: Path) -> str:
    path = list(sys.path)
    with pytest.raises(UserError) as caught, stored_model(str(folder), StudyFolder(folder.parent)):
        raise AssertionError("it was opened")
    assert sys.path == path
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    assert "must be a folder with an MLmodel" in refusal(tmp_path / "absent")


def test_a_model_of_somebody_else_is_told(tmp_path: Path) -> None:
    flavor(tmp_path / "m", "sklearn")
    assert "must have been stored by balance_tune" in refusal(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "[", "flavors: 3"])
def test_a_damaged_description_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/MLmodel").write_text(text)
    assert "must" in refusal(tmp_path / "m")


def test_a_model_whose_weights_are_gone_is_told(tmp_path: Path) -> None:
    flavor(tmp_path / "m", LOADER)
    assert "must be" in refusal(tmp_path / "m")


def test_an_address_in_a_store_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with (
        pytest.raises(UserError, match="is the --root right"),
        stored_model("models:/quickstart-av_digits@champion", StudyFolder(tmp_path)),
    ):
        raise AssertionError("it was opened")
