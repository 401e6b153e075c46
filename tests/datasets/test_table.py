import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balance_tune.cli import main
from balance_tune.datasets.miniature import scene, tone, write_picture, write_sound, write_video
from balance_tune.datasets.store import open_store, verify_store
from balance_tune.datasets.table import Table
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare
from balance_tune.studies.data.stores import store_of
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of
from balance_tune.studies.storage.study_folder import StudyFolder

KINDS = ("owl", "wren")
RECIPE: dict[str, Any] = {
    "name": "birds",
    "label": "species",
    "group": "site",
    "split": {"train": 0.5, "monitor": 0.1, "val": 0.2, "test": 0.2},
    "modalities": {
        "song": {"column": "wav", "kind": "spectrogram", "rate": 8000, "seconds": 1, "n_fft": 256, "hop": 128},
        "image": {"column": "jpg", "kind": "image", "size": 56},
        "clip": {"column": "mp4", "kind": "frames", "count": 2, "size": 28},
        "note": {"column": "text", "kind": "text", "length": 6},
        "embedding": {"column": "npy", "kind": "array", "shape": [5]},
        "weather": {"column": ["wind", "rain"], "kind": "numbers"},
    },
    "training": {"epochs": 5, "lr": 0.01},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds")
    with (folder / "birds.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("species", "site", "wav", "jpg", "mp4", "text", "npy", "wind", "rain", "mass", "part", "tags"))
        for k in range(20):
            kind, name = k % 2, f"b{k:02d}"
            write_sound(folder / f"{name}.wav", tone(kind, name, 0.5, 8000), 8000)
            write_picture(folder / f"{name}.jpg", scene(kind, name, 1)[0])
            write_video(folder / f"{name}.mp4", scene(kind, name, 6), 5, "libx264")
            np.save(folder / f"{name}.npy", np.full(5, kind + 0.1 * k))
            files = (f"{name}.wav", f"{name}.jpg", f"{name}.mp4", f"a {KINDS[kind]}, no. {k}", f"{name}.npy")
            part = "test" if k > 15 else "train"
            rows.writerow((KINDS[kind], f"s{k // 2}", *files, k, 2 * k, 10.5 + k, part, "owl|night" if kind else "day"))
    return folder / "birds.csv"


def test_every_kind_of_column_becomes_a_modality(table: Path, tmp_path: Path) -> None:
    prepare(Table(RECIPE, table), table.parent, tmp_path / "birds")
    data = open_store(tmp_path / "birds")
    shapes = {name: tuple(x.shape[1:]) for name, x in data.parts["train"].inputs.items()}
    assert shapes == {
        "song": (1, 129, 63),
        "image": (3, 56, 56),
        "clip": (3, 2, 28, 28),
        "note": (6,),
        "embedding": (5,),
        "weather": (2,),
    }
    assert data.manifest.classes == KINDS
    assert data.manifest.recipe == {"epochs": (5, "the table's recipe"), "lr": (0.01, "the table's recipe")}
    train = data.parts["train"]
    weather = train.take("weather", torch.arange(len(train)))
    assert weather.tolist() == [[float(row), 2.0 * row] for row in train.rows.tolist()]
    assert verify_store(tmp_path / "birds") == data.manifest


@pytest.mark.parametrize(
    ("changes", "task", "labels"),
    [
        ({"task": "regression", "label": ["mass", "wind"]}, "regression", [10.5, 0.0]),
        ({"task": "multilabel", "label": "tags"}, "multilabel", [1.0, 0.0, 0.0]),
    ],
)
def test_a_table_may_have_other_tasks(
    table: Path, tmp_path: Path, changes: dict[str, Any], task: str, labels: list[float]
) -> None:
    modalities = {"note": RECIPE["modalities"]["note"], "weather": {"column": "rain", "kind": "numbers"}}
    prepare(
        Table({**RECIPE, **changes, "split": "part", "modalities": modalities}, table), table.parent, tmp_path / "s"
    )
    data = open_store(tmp_path / "s", ("train", "monitor", "val", "test"), unseal=True)
    assert data.manifest.task == task
    first = next(p.labels[p.rows == 0] for p in data.parts.values() if (p.rows == 0).any())
    assert first.tolist() == [labels]
    assert data.parts["test"].rows.tolist() == [16, 17, 18, 19]


def test_a_study_knows_it_by_the_name_of_its_store(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**RECIPE, "modalities": {name: RECIPE["modalities"][name] for name in ("embedding", "weather")}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(small))
    out = tmp_path / "birds"
    argv = ["data", "prepare", "table", "--recipe", str(tmp_path / "recipe.yaml"), "--source", str(table)]
    assert main([*argv, "--out", str(out), "--workers", "1"]) == 0
    assert "embedding" in capsys.readouterr().out
    study = {"name": "mine", "datasets": ["birds"], "methods": ["joint"], "data": {"stores": {"birds": str(out)}}}
    config = load_config(study)
    (arm,) = arms_of(config)
    assert arm.space.defaults()["training.lr"] == 0.01
    assert store_of("birds", config.data.stores, StudyFolder(tmp_path))[0] == str(out)
    with pytest.raises(UserError, match=r"`data\.stores\.wrens` must be a store, but there is none in"):
        load_config({**study, "datasets": ["wrens"], "data": {"stores": {"wrens": str(tmp_path / "no")}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "a recipe must have `label`"),
        ({"label": "kind"}, "must have a column `kind`, but has species, site"),
        ({"labels": "x"}, "a recipe may have name, task"),
        ({"task": "ranking"}, "`task` must be classes, multilabel or regression"),
        (
            {"modalities": {"song": {"column": "wav", "kind": "sound"}}},
            "must be one of spectrogram, filter_bank, image",
        ),
        ({"modalities": {"song": {"column": "wav", "kind": "spectrogram", "hz": 5}}}, "must take its settings, but: "),
        ({"modalities": {"song": {"column": "wave", "kind": "spectrogram"}}}, "must have a column `wave`"),
        ({"split": "species"}, "must hold train, monitor, val, test, but holds `owl`"),
        ({"split": {"train": 0.9}}, "must be above 0 and sum to 1"),
        ({"split": {"tests": 0.9}}, "`split` must be a column, or kind"),
        ({"classes": ["owl"], "split": "part"}, "one of owl, but `species` is `wren` in row 3"),
        ({"task": "regression", "label": "species"}, "`species` in row 2 of .*: `owl` is no number"),
        ({"training": 3}, "settings of their kind, but `training` is 3, not dict"),
        ({"limits": "none"}, "`limits` is 'none', not list"),
        ({"limits": [1]}, r"`limits`\[0\] is 1, not str"),
        ({"classes": 3}, "`classes` is 3, not list"),
        ({"group": ["site"]}, "`group` is"),
        ({"name": ["a"]}, "`name` is"),
        ({"label": {"a": 1}}, "`label` is"),
        ({"split": [1]}, "`split` is"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(table: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Table({**RECIPE, **changes}, table).items(table.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have rows"),
        (b"species\n", "must have rows"),
        (b"species,site\nowl\n", "row 2 of .* as many fields as the header"),
        (b"\xff\xfe\x00x", "must be a CSV file in UTF-8, but is UTF-16"),
        (b"species,site\nowl,\xe9\n", "in UTF-8, but line 2 is not"),
    ],
)
def test_a_table_that_cannot_be_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        Table(RECIPE, tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(UserError, match="must be a readable Parquet file"):
        Table(RECIPE, tmp_path / "t.parquet")


def test_a_file_in_two_parts_is_told(table: Path) -> None:
    text = table.read_text().replace("b19.wav", "./b00.wav")
    (table.parent / "shared.csv").write_text(text)
    with pytest.raises(UserError, match=r"b00\.wav is in row 2 of shared\.csv and row 21"):
        Table({**RECIPE, "split": "part"}, table.parent / "shared.csv")


def test_an_array_file_with_objects_is_left_out_and_nothing_is_executed(table: Path, tmp_path: Path) -> None:
    small = {**RECIPE, "modalities": {name: RECIPE["modalities"][name] for name in ("embedding", "weather")}}
    whole = (table.parent / "b04.npy").read_bytes()
    try:
        np.save(table.parent / "b04.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        (lost,) = prepare(Table(small, table), table.parent, tmp_path / "s").skipped
    finally:
        (table.parent / "b04.npy").write_bytes(whole)
    assert lost.file == "b04.npy"
    assert "no array of numbers" in lost.reason
