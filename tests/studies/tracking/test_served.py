"""A model as it is served: raw bytes where the dataset decodes them, one line where an input cannot be one."""

from __future__ import annotations

import base64
import csv
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from balance_tune.datasets.base import Dataset, Samples
from balance_tune.datasets.crema_d import CremaD
from balance_tune.datasets.food101 import Food101
from balance_tune.datasets.modality import IMAGENET, Modality
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.datasets.store import build_store, open_store
from balance_tune.errors import UserError
from balance_tune.studies.data.file_table import FileTable
from balance_tune.studies.data.stores import small
from balance_tune.studies.evaluation.assessment import assess_part, assess_table
from balance_tune.studies.tracking.models import example, preprocessing, requirements
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.testing.distributions import prepared
from balance_tune.training.checkpoint import save_best
from balance_tune.training.evaluation import evaluate, predict
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


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": None, "b": None}, "at least one of a, b, but row 0 has none"),
        ({"a": [1.0, 2.0]}, r"row 0: a sample of `a` must have shape \(3,\), but got \(2,\)"),
        ({"c": [1.0]}, "must be one of a, b, but got `c`"),
        ({"a": b"1234"}, "row 0: `a` must be numbers, because dataset `tiny` decodes no files"),
        ({"a": "no base64!"}, "row 0, `a`: text must be the base64 of a file's bytes"),
    ],
)
def test_an_input_that_cannot_be_one_is_told_in_one_line(folder: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Served(folder).predict(pd.DataFrame({name: [value] for name, value in row.items()}))


def test_requirements_are_pinned_to_public_versions() -> None:
    found = requirements(CremaD.needs)
    for line in found:
        assert "==" in line
        assert "+" not in line
    assert {"torch", "soundfile", "soxr"} <= {line.partition("==")[0] for line in found}
    assert set(found) - set(requirements(()))


class Raw(Dataset):
    """Pixels, a spectrogram standardised when it is read, and words."""

    name = "raw_types"
    classes = ("no", "yes")
    modalities: ClassVar[dict[str, Modality]] = {
        "photo": Modality(
            (3, 4, 4),
            "cnn",
            {"channels": [3], "features": 4},
            stored=(3, 6, 5),
            dtype="uint8",
            unit=1 / 255,
            normalise=IMAGENET,
            augment=(("random_crop", {"size": 4}), ("flip", {})),
            evaluate=(("centre_crop", {"size": 4}),),
        ),
        "sound": Modality(
            (1, 4, 6), "cnn", {"channels": [3], "features": 4}, dtype="float16", normalise="train", standardise=(0, 1)
        ),
        "words": Modality(
            (5,), "text", {"vocabulary": 9, "width": 8, "heads": 2, "layers": 1}, dtype="int32", normalise=None
        ),
    }
    split = SplitRecipe("stratified", train=0.5, monitor=0.1, val=0.2, test=0.2)

    def read(self) -> Samples:
        generator = np.random.default_rng(0)
        inputs = {
            "photo": generator.integers(0, 256, (40, 3, 6, 5)).astype(np.uint8),
            "sound": generator.normal(3, 2, (40, 1, 4, 6)).astype(np.float16),
            "words": generator.integers(0, 9, (40, 5)).astype(np.int32),
        }
        return Samples(inputs, np.arange(40) % 2)


def test_what_is_stored_as_it_came_is_served_as_it_was_trained(tmp_path: Path) -> None:
    manifest = build_store(Raw(), tmp_path / "store")
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(tmp_path / "store"), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 1, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, tmp_path)
    (tmp_path / PREPROCESSING).write_text(json.dumps({**preprocessing(manifest, Raw), "imports": []}))
    model = Served(tmp_path)
    logits, _ = predict(model.model, run.validation)
    part = open_store(tmp_path / "store").parts["val"]
    table = pd.DataFrame({m: [sample.tolist() for sample in x] for m, x in part.inputs.items()})
    np.testing.assert_allclose(
        np.stack(model.predict(table)["probabilities"]), logits.double().softmax(1).numpy(), rtol=1e-4, atol=1e-5
    )
    found = assess_part(model, tmp_path / "store", "val")
    assert found["accuracy"] == evaluate(model.model, run.validation)["val/accuracy"]
    assert example(manifest).iloc[0]["words"] == [0.0] * 5


def test_pictures_and_words_of_a_real_dataset_are_answered_as_its_stored_rows(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    dataset = small(Food101())
    dataset.miniature(source)
    store = prepared(dataset, source, tmp_path / "store")
    run, modulation = prepare(
        {"method": "joint", "seed": 0, "store": str(store), "objective": "val/accuracy", "device": "cpu",
         "training": {"epochs": 1, "batch_size": 8}}
    )  # fmt: skip
    list(train(run, modulation))
    save_best(run, tmp_path)
    manifest = open_store(store).manifest
    (tmp_path / PREPROCESSING).write_text(json.dumps({**preprocessing(manifest, Food101), "imports": []}))
    model = Served(tmp_path)

    part, items = open_store(store).parts["val"], dataset.items(source)
    chosen = [items[row] for row in part.rows.tolist()]
    pictures = [(source / item.files[0]).read_bytes() for item in chosen]
    expected = predict(model.model, run.validation)[0].double().softmax(1).numpy()
    raw = {"image": [pictures[0], *(base64.b64encode(x).decode() for x in pictures[1:])]}
    raw["text"] = [item.more[0] for item in chosen]
    np.testing.assert_allclose(model.answers(raw), expected, rtol=1e-4, atol=1e-6)

    with (source / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("label", "image", "text"))
        rows.writerows((Food101.classes[int(item.label)], item.files[0], item.more[0]) for item in chosen)  # type: ignore[arg-type]
    table = FileTable(source / "table.csv", model.modalities, model.classes, model.task, model.words)
    found = assess_table(model, table)
    assert found["loss"] == pytest.approx(assess_part(model, store, "val")["loss"], abs=1e-5)
    assert found["modalities"]["text"]["rows"] == len(chosen)
