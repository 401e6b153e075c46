"""A model as it is served: raw bytes where the dataset decodes them, one line where an input cannot be one."""

from __future__ import annotations

import base64
import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from balance_tune.datasets.store import build_store
from balance_tune.errors import UserError
from balance_tune.studies.tracking.models import foreign_code, preprocessing, requirements
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.training.checkpoint import save_best
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare
from tests.datasets.tiny import Tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("served")
    manifest = build_store(Tiny(), here / "store")
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(here / "store"), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 1, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, here)
    (here / PREPROCESSING).write_text(json.dumps({**preprocessing(manifest, Tiny), "imports": []}))
    return here


def decode(modality: str, raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, dtype=np.float32).reshape({"a": (3,), "b": (2, 4)}[modality])


def test_bytes_and_base64_go_through_the_datasets_own_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_files(self: Tiny, modality: str, raw: Any) -> Any:
        return decode(modality, raw) if isinstance(raw, bytes) else self.shaped(modality, raw)

    monkeypatch.setattr(Tiny, "decode", with_files)
    inputs = Tiny().read().inputs
    numbers = pd.DataFrame({m: [x[0].tolist(), x[1].tolist()] for m, x in inputs.items()})
    raw = pd.DataFrame({m: [x[0].tobytes(), base64.b64encode(x[1].tobytes()).decode()] for m, x in inputs.items()})
    model = Served(folder)
    np.testing.assert_array_equal(
        np.stack(model.predict(raw)["probabilities"]), np.stack(model.predict(numbers)["probabilities"])
    )


def test_where_the_datasets_code_is_not_installed_numbers_are_still_taken(folder: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    known = json.loads((elsewhere / PREPROCESSING).read_text())
    (elsewhere / PREPROCESSING).write_text(json.dumps({**known, "dataset_class": "of_somebody:Else"}))
    row = pd.DataFrame({"a": [[1.0, 2.0, 3.0]]})
    pd.testing.assert_frame_equal(Served(elsewhere).predict(row), Served(folder).predict(row))
    with pytest.raises(UserError, match="row 0: `a` must be numbers, because of_somebody:Else is not installed"):
        Served(elsewhere).predict(pd.DataFrame({"a": [b"12"]}))


def test_the_code_of_other_packages_comes_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_method.py").write_text("class Theirs: ...")
    (tmp_path / "their_package").mkdir()
    for name in ("__init__", "encoder"):
        (tmp_path / "their_package" / f"{name}.py").write_text("class Theirs: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    theirs = [import_module(name) for name in ("their_method", "their_package.encoder")]
    assert foreign_code([Served, *(module.Theirs for module in theirs)]) == {
        "their_method": tmp_path / "their_method.py",
        "their_package.encoder": tmp_path / "their_package",
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": None, "b": None}, "at least one of a, b, but row 0 has none"),
        ({"a": [1.0, 2.0]}, r"row 0: a sample of `a` must have shape \(3,\), but got \(2,\)"),
        ({"c": [1.0]}, "must be one of a, b, but got `c`"),
        ({"a": b"1234"}, "row 0: `a` must be numbers, because dataset `tiny` decodes no files"),
        ({"a": "no base64!"}, "row 0: text must be the base64 of a file's bytes"),
    ],
)
def test_an_input_that_cannot_be_one_is_told_in_one_line(folder: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Served(folder).predict(pd.DataFrame({name: [value] for name, value in row.items()}))


def test_requirements_are_pinned_to_public_versions() -> None:
    for line in requirements(decodes=True):
        assert "==" in line
        assert "+" not in line
