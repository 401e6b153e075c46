"""A stored model on the data it knows: the parts of a dataset, and tables of files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balance_tune.cli import main
from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.store import open_store
from balance_tune.studies.evaluation.stored_model import LOADER
from tests.studies.tracking.digits import URI, Digits


@pytest.fixture(autouse=True)
def _in_the_root_of_the_digits(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BALANCE_TUNE_ROOT", str(digits.root))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["evaluate", URI, "-f", "json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["evaluate", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_champion_scores_on_validation_what_its_trial_did(digits: Digits, capsys: Any) -> None:
    found = told(capsys, "--data", "av_digits")
    assert found["rows"] == 500
    for name in ("accuracy", "macro_f1"):
        assert found[name] == pytest.approx(digits.metrics[f"val/{name}"], abs=1e-6)
    for m in ("audio", "image"):
        assert found["modalities"][m]["accuracy"] == pytest.approx(digits.metrics[f"val/accuracy/{m}"], abs=1e-6)
    hits = sum(found["confusion"][i][i] for i in range(10))
    assert hits == round(found["accuracy"] * 500)
    assert sum(c["rows"] for c in found["classes"]) == 500


def test_people_get_a_table(capsys: Any) -> None:
    assert main(["evaluate", URI, "--data", "av_digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{URI} on av_digits val")
    assert [line.split()[0] for line in lines if line][1:5] == ["input", "all", "audio", "image"]


def test_the_test_part_is_opened_on_request_only_and_that_is_recorded(digits: Digits, capsys: Any) -> None:
    line = refusal(capsys, URI, "--data", "av_digits", "--split", "test")
    assert "say --unseal" in line
    record = digits.root / "unsealed.jsonl"
    assert not record.exists()
    found = told(capsys, "--data", "av_digits", "--split", "test", "--unseal")
    assert found["rows"] == 1300
    (entry,) = map(json.loads, record.read_text().splitlines())
    assert (entry["model"], entry["dataset"], entry["rows"]) == (URI, "av_digits", 1300)
    assert entry["accuracy"] == found["accuracy"]
    assert entry["at"]


def written(folder: Path, rows: list[int], digits: Digits) -> Path:
    """Write recordings and pictures of source rows as files, and a table that names them."""
    columns = AvDigits().columns(["audio", "image", "label"])
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["audio", "image", "label", "remark"])
        for row in rows:
            (folder / f"{row}.flac").write_bytes(columns["audio"][row].as_py())
            (folder / f"{row}.png").write_bytes(columns["image"][row].as_py())
            table.writerow([f"{row}.flac", f"{row}.png", columns["label"][row].as_py(), "a, b"])
    return folder / "table.csv"


def test_a_table_of_files_scores_as_the_same_rows_of_the_dataset_do(
    digits: Digits, capsys: Any, tmp_path: Path
) -> None:
    rows = open_store(digits.data).parts["val"].rows.tolist()
    table = told(capsys, "--data", str(written(tmp_path, rows, digits)))
    part = told(capsys, "--data", "av_digits")
    assert table["confusion"] == part["confusion"]
    assert table["loss"] == pytest.approx(part["loss"], abs=1e-5)
    assert table["modalities"]["image"]["accuracy"] == part["modalities"]["image"]["accuracy"]


def test_a_parquet_table_may_hold_bytes_and_numbers_and_lack_cells(digits: Digits, capsys: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns, samples = AvDigits().columns(["audio", "image", "label"]), AvDigits().read().inputs
    np.save(tmp_path / "2.npy", samples["image"][2])
    table = pa.table(
        {
            "audio": pa.array([columns["audio"][0].as_py(), None, columns["audio"][2].as_py()]),
            "image": pa.array([samples["image"][i].tolist() for i in (0, 1)] + [None]),
            "label": columns["label"].slice(0, 3),
        }
    )
    parquet.write_table(table, tmp_path / "table.parquet")
    found = told(capsys, "--data", str(tmp_path / "table.parquet"))
    assert found["rows"] == 3
    assert {m: own["rows"] for m, own in found["modalities"].items()} == {"audio": 2, "image": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("audio,label\n", "must have rows"),
        ("audio,image\na,b\n", "must have a column `label`"),
        ("sound,label\na,1\n", "must have a column of a modality (audio, image)"),
        ("audio,label\nabsent.flac,1\n", "must be readable"),
        ("audio,label\ntable.csv,1\n", "table.csv, row 2: the audio must be readable"),
        ("audio,label\n,1\n", "at least one of audio, image, but row 2 has none"),
        (
            "audio,label\ntable.csv,ten\n",
            "a label must be one of 0, 1, 2, 3, 4, 5, 6, 7, ... (10 in all), but `label` is `ten` in row 2",
        ),
        ("audio,label\ntable.csv,²\n", "but `label` is `²` in row 2"),
        ("audio,audio,label\na,b,1\n", "`audio` twice"),
    ],
)
def test_a_table_that_cannot_be_one_is_told_in_one_line(text: str, said: str, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(text)
    assert said in refusal(capsys, URI, "--data", str(tmp_path / "table.csv"))


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (URI, "av_digit", "must be a dataset"),
        (URI, "multiple_features", "asked for multiple_features"),
        ("models:/no-such@champion", "av_digits", "a model must be at"),
        ("no/such/folder", "av_digits", "must be a folder with an MLmodel"),
        ("http://127.0.0.1/x", "av_digits", "must be a folder with an MLmodel"),
        ("runs:/x", "av_digits", "a model must be at"),
        ("models:/" + "x" * 5000, "av_digits", "a model must be at"),
    ],
)
def test_what_does_not_exist_or_fit_is_told_in_one_line(model: str, data: str, said: str, capsys: Any) -> None:
    assert said in refusal(capsys, model, "--data", data)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "flavors: 3", "flavors: {python_function: 3}", "flavors: {python_function: []}"]
)
def test_an_mlmodel_that_is_none_is_told_in_one_line(content: str, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(content)
    assert "a model must " in refusal(capsys, str(tmp_path), "--data", "av_digits")


@pytest.mark.parametrize("flavor", ["data: 3", "code: 3", "code: [a]", "env: 3", "data: nowhere"])
def test_an_mlmodel_of_ours_that_is_damaged_is_told_in_one_line(flavor: str, capsys: Any, tmp_path: Path) -> None:
    text = f"flavors: {{python_function: {{loader_module: {LOADER}, {flavor}}}}}"
    (tmp_path / "MLmodel").write_text(text)
    assert "a model must be whole" in refusal(capsys, str(tmp_path), "--data", "av_digits")
