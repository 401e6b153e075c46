"""A model as it is served: raw bytes where the dataset decodes them, one line where an input cannot be one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from balance_tune.datasets.store import build_store
from balance_tune.errors import UserError
from balance_tune.studies.tracking import served
from balance_tune.studies.tracking.models import preprocessing, requirements
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
    (here / PREPROCESSING).write_text(json.dumps(preprocessing(manifest)))
    return here


def decode(modality: str, raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, dtype=np.float32).reshape({"a": (3,), "b": (2, 4)}[modality])


def test_bytes_and_base64_go_through_the_datasets_own_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "decoder", lambda dataset: decode)
    inputs = Tiny().read().inputs
    numbers = pd.DataFrame({m: [x[0].tolist(), x[1].tolist()] for m, x in inputs.items()})
    raw = pd.DataFrame({m: [x[0].tobytes(), base64.b64encode(x[1].tobytes()).decode()] for m, x in inputs.items()})
    model = Served(folder)
    np.testing.assert_array_equal(
        np.stack(model.predict(raw)["probabilities"]), np.stack(model.predict(numbers)["probabilities"])
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": None, "b": None}, "at least one of a, b, but row 0 has none"),
        ({"a": [1.0, 2.0]}, r"must have shape \(3,\), but row 0 has \(2,\)"),
        ({"c": [1.0]}, "must be one of a, b, but got `c`"),
        ({"a": b"1234"}, "its dataset decodes nothing, but row 0 is bytes"),
    ],
)
def test_an_input_that_cannot_be_one_is_told_in_one_line(folder: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Served(folder).predict(pd.DataFrame({name: [value] for name, value in row.items()}))


def test_requirements_are_pinned_to_public_versions() -> None:
    for line in requirements(decodes=True):
        assert "==" in line
        assert "+" not in line
