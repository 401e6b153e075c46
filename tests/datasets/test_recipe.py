"""What a recipe cannot say, and what numbers of a table cannot be, is one line before anything is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets.recipe import checked_recipe
from balance_tune.datasets.table import Table
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare

RECIPE: dict[str, Any] = {
    "name": "birds",
    "label": "y",
    "modalities": {"a": {"column": "a", "kind": "numbers"}, "b": {"column": "b", "kind": "numbers"}},
}


def table(folder: Path, rows: list[tuple[object, ...]]) -> Path:
    lines = ["a,b,y", *(",".join(map(str, row)) for row in rows)]
    (folder / "t.csv").write_text("\n".join(lines))
    return folder / "t.csv"


def plain(count: int = 40) -> list[tuple[object, ...]]:
    return [(k, k / 2, "cat" if k % 2 else "dog") for k in range(count)]


def test_choices_have_their_defaults() -> None:
    choices = checked_recipe({**RECIPE, "missing": "silence"})
    assert choices["missing"] == "silence"
    assert (choices["task"], choices["duplicates"], choices["decimal"]) == ("classes", "group", ".")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("spectrogram", {"hop": 0}, "`hop` must be a whole number of at least 1, but got `0`"),
        ("spectrogram", {"seconds": 0}, "`seconds` must be a number of at least 0.001, but got `0`"),
        ("spectrogram", {"seconds": float("nan")}, "`seconds` must be a number"),
        ("spectrogram", {"n_fft": 1}, "`n_fft` must be a whole number of at least 2"),
        ("spectrogram", {"rate": "fast"}, "`rate` must be a whole number of at least 1, but got `fast`"),
        ("filter_bank", {"frames": -1}, "`frames` must be a whole number of at least 1"),
        ("image", {"size": 1.5}, "`size` must be a whole number of at least 1, but got `1.5`"),
        ("image", {"size": True}, "`size` must be a whole number"),
        ("image", {"size": 1_000_000}, r"a sample takes 3,000,000,000,000 bytes, more than"),
        ("frames", {"count": 0}, "`count` must be a whole number of at least 1"),
        ("text", {"length": 0}, "`length` must be a whole number of at least 1"),
        ("text", {"vocabulary": 1}, "`vocabulary` must be a whole number of at least 2"),
        ("numbers", {"encoder": "nope"}, "encoder must be one that exists, but got `nope`.* mlp"),
        ("numbers", {"encoder": 5}, r"`encoder` must be a name, but got 5 \(modality m\)"),
        ("numbers", {"encoder": ["mlp"]}, r"`encoder` must be a name, but got \['mlp'\]"),
    ],
)
def test_settings_of_a_modality_are_checked(kind: str, settings: Any, message: str, tmp_path: Path) -> None:
    modalities = {"m": {"column": "a", "kind": kind, **settings}}
    with pytest.raises(UserError, match=message):
        Table({**RECIPE, "modalities": modalities}, table(tmp_path, plain()))


def test_a_modality_is_not_the_label(tmp_path: Path) -> None:
    modalities = {**RECIPE["modalities"], "words": {"column": " y", "kind": "text"}}
    with pytest.raises(UserError, match="must not hold the label, but `words` comes from column `y`"):
        Table({**RECIPE, "modalities": modalities}, table(tmp_path, plain()))


def test_a_number_that_32_bits_do_not_hold_is_none(tmp_path: Path) -> None:
    rows = [(k, k, k) for k in range(40)]
    for value in ("3.5e38", "-1e39", "1e400"):
        with pytest.raises(UserError, match=r"`y` in row 42 of .*: `.*` is beyond the numbers of 32 bits"):
            Table({**RECIPE, "task": "regression"}, table(tmp_path, [*rows, (1, 1, value)]))
    Table({**RECIPE, "task": "regression"}, table(tmp_path, [*rows, (1, 1, "3.4e38")]))
    manifest = prepare(Table(RECIPE, table(tmp_path, [*plain(), ("1e39", 1, "cat")])), tmp_path, tmp_path / "s")
    ((row, reason),) = [(s.file, s.reason) for s in manifest.skipped]
    assert (row, reason) == ("row 42", "`a` is not a number: `1e39` is beyond the numbers of 32 bits (3.4e38)")


def test_a_class_that_loses_all_its_training_rows_is_one_line(tmp_path: Path) -> None:
    rows = [*plain(60), ("none of it", 1, "yak")]
    with pytest.raises(UserError, match="needs a training row that can be read, but `yak` has none left"):
        prepare(Table(RECIPE, table(tmp_path, rows)), tmp_path, tmp_path / "s")
