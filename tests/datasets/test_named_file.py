"""A file's name that a user writes may be any text; one reason says why nothing can be read there."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from balance_tune.datasets.named_file import shortened, size_of, unusable
from balance_tune.datasets.table import Table
from balance_tune.errors import UserError
from balance_tune.studies.data.file_table import FileTable
from balance_tune.studies.data.prepare import prepare

MISSING = "it is missing"
NAMES = {
    "x" * 300: "its name is too long for a file",
    "\u00e9" * 200: "its name is too long for a file",  # 400 bytes
    "x/" * 2100: "its name is too long for a file",
    "gone.png": MISSING,
    "file/x": MISSING,
    "dangling/x": MISSING,
    "a\nb": MISSING,
    "~nobody/x": MISSING,
    "dangling": "it is a link to something that is missing",
    "circle": "it is a link to itself",
    "circle/x": "it is a link to itself",
    "pipe": "it is neither a file nor a folder",
    "/dev/null": "it is neither a file nor a folder",
    "https://host/x.png": "it is missing; an address is not opened, so download it",
    "clips\\x.png": "it is missing; folders are separated by `/`, not by `\\`",
}
"""Name -> why nothing can be read there."""
KINDS: dict[str, dict[str, Any]] = {
    "image": {"size": 4, "encoder": "cnn"},
    "frames": {"count": 2, "size": 4, "encoder": "cnn"},
    "spectrogram": {"rate": 8000, "seconds": 0.1, "n_fft": 64, "hop": 32, "encoder": "cnn"},
    "array": {"shape": [3]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("elcric")
    (tmp_path / "elcric").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_every_name_has_its_reason(folder: Path) -> None:
    for name, reason in NAMES.items():
        assert unusable(folder / name) == reason, name
        assert size_of(folder / name) == -1
    assert unusable(folder / "a\0b") == "its name has a character that no file's name has"
    assert size_of(folder / "a\0b") == -1
    assert unusable(folder) is None
    assert size_of(folder) == -1
    assert unusable(folder / "file") is None
    assert size_of(folder / "file") == 5


def test_a_folder_that_must_not_be_entered_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert unusable(folder / "file") == "it cannot be read (Permission denied)"


def test_a_long_name_is_shortened() -> None:
    assert shortened("a\n b") == "a b"
    assert shortened("x" * 300) == "x" * 40 + "..." + "x" * 80
    assert shortened(f"/long{'/x' * 100}/absent.npy").endswith("/absent.npy")


def table(folder: Path, names: dict[int, str]) -> Path:
    """Write a table of 60 rows, whose column `file` has these names at these rows of the file."""
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "p.png")
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "n", "label"])
        for row in range(2, 62):
            writer.writerow([names.get(row, "p.png"), row, "cat" if row % 2 else "dog"])
    return folder / "t.csv"


def recipe(kind: str) -> dict[str, Any]:
    modalities = {"m": {"column": "file", "kind": kind, **KINDS[kind]}, "n": {"column": "n", "kind": "numbers"}}
    return {"name": "birds", "label": "label", "duplicates": "ignore", "modalities": modalities}


def test_a_name_that_is_none_loses_its_row_alone(folder: Path) -> None:
    rows = {row: name.rstrip("/") for row, name in enumerate(NAMES, start=10)}
    manifest = prepare(Table(recipe("image"), table(folder, rows)), folder, folder / "s", max_corrupt=0.3)
    reasons = {int(s.sample): s.reason for s in manifest.skipped}
    assert reasons == {row: f"{NAMES.get(n, NAMES.get(n + '/'))} (row {row}, `file`)" for row, n in rows.items()}
    assert sum(manifest.rows(part) for part in ("train", "monitor", "val", "test")) == 60 - len(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_no_names_is_one_line(kind: str, folder: Path) -> None:
    path = table(folder, {row: "x" * 300 for row in range(62)})
    with pytest.raises(
        UserError, match=r"not one of .* first is x{40}\.\.\.x{80} \(row 2, `file`\): its name is too long"
    ):
        prepare(Table(recipe(kind), path), folder, folder / "s")
    mixed = table(folder, {row: "x" * 300 for row in range(30, 62)})
    with pytest.raises(
        UserError, match=r"the first x{40}\.\.\.x{80}: its name is too long for a file \(row \d+, `file`\)"
    ):
        prepare(Table(recipe("image"), mixed), folder, folder / "s")


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_names_row_and_column(name: str, folder: Path) -> None:
    table = FileTable(table_of_one(folder, name), ("file",), ("cat", "dog"))
    with pytest.raises(UserError, match=r"`file` names must be readable, but in row 3 of .*: ") as caught:
        table.rows(0, 2)
    assert str(caught.value).endswith(NAMES[name])
    assert "\n" not in str(caught.value)


def table_of_one(folder: Path, name: str) -> Path:
    with (folder / "e.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["file", "cat"], [name, "dog"]])
    return folder / "e.csv"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_permission_loses_its_row_alone(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from balance_tune.datasets import columns
    from balance_tune.datasets.decoding import Unreadable

    column = columns.column_of("m", {"column": "file", "kind": kind, **KINDS[kind]})
    (folder / "d").mkdir()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "open", refuse)
    for name in ("file", "d") if kind == "frames" else ("file",):
        with pytest.raises(Unreadable) as caught:
            column.sample(folder, (name,))
        assert caught.value.file == str(folder / name)
