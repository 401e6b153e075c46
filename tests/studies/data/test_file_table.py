"""A table of labelled samples: what its cells and labels mean, and what it must not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from balance_tune.errors import UserError
from balance_tune.studies.data.file_table import FileTable
from balance_tune.tasks import Task

CLASSES = ("cat", "dog", "10")


def table(folder: Path, text: str, **options: Any) -> FileTable:
    (folder / "t.csv").write_text(text)
    return FileTable(folder / "t.csv", ("audio", "image"), CLASSES, **options)


def test_a_cell_names_a_file_beside_the_table_or_is_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "b.png").write_bytes(b"picture")
    found = table(tmp_path, "image,audio,label\nb.png,a.npy,cat\n,a.npy,dog\n")
    values, labels = found.rows(0, 2)
    assert len(found) == 2
    assert values["image"] == [b"picture", None]
    assert values["audio"][0].tolist() == [0, 1, 2]
    assert labels == [0, 1]
    assert found.rows(1, 2)[1] == [1]


def test_labels_are_names_or_for_the_whole_table_indices(tmp_path: Path) -> None:
    assert table(tmp_path, "audio,label\n,dog\n, cat\n,10\n").labels == [1, 0, 2]
    found = table(tmp_path, "audio,label\n,1\n,0\n,2\n")
    assert (found.labels, found.by_index) == ([1, 0, 2], True)
    with pytest.raises(UserError, match="`label` is `0` in row 3"):
        table(tmp_path, "audio,label\n,dog\n,0\n,10\n")


def test_a_table_of_the_users_own_has_the_columns_of_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kind;a;b;wav\ndog/cat;1,5;2;\ncat;;3;\n")
    raw = {"audio": {"column": "wav", "kind": "spectrogram"}, "image": {"column": ["a", "b"], "kind": "numbers"}}
    written = {"label": ["kind"], "separator": "/", "decimal": ","}
    found = FileTable(tmp_path / "t.csv", ("audio", "image"), CLASSES, "multilabel", raw=raw, notation=written)
    values, labels = found.rows(0, 2)
    assert values == {"audio": [None, None], "image": [[1.5, 2.0], None]}
    assert labels == [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert found.numbers == [2, 3]


@pytest.mark.parametrize(
    ("task", "label", "expected"),
    [
        ("multilabel", "dog| cat", [1.0, 1.0, 0.0]),
        ("multilabel", "dog; cat", [1.0, 1.0, 0.0]),
        ("multilabel", "", [0.0] * 3),
        ("regression", "1|-2.5|3", [1, -2.5, 3]),
        ("regression", "1;-2.5;3", [1, -2.5, 3]),
    ],
)
def test_several_labels_or_numbers_are_separated_as_in_a_recipe_or_as_they_were_before(
    tmp_path: Path, task: Task, label: str, expected: list[float]
) -> None:
    assert table(tmp_path, f'audio,label\nx,"{label}"\n', task=task).labels == [expected]


def test_words_are_the_cells_themselves(tmp_path: Path) -> None:
    found = table(tmp_path, "audio,label\nhello there,cat\n", words=("audio",))
    assert found.rows(0, 1)[0] == {"audio": ["hello there"]}


def test_parquet_holds_values_and_lists(tmp_path: Path) -> None:
    columns = {"audio": [[1.0, 2.0], None], "image": [b"picture", None], "label": [["cat", "dog"], []]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = FileTable(tmp_path / "t.parquet", ("audio", "image"), CLASSES, task="multilabel")
    values, labels = found.rows(0, 2)
    assert values == {"audio": [[1.0, 2.0], None], "image": [b"picture", None]}
    assert labels == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("audio\nx\n", {}, "must have a column `label`, but has audio"),
        ("sound,label\nx,cat\n", {}, "must have a column of a modality"),
        ("audio,label\n", {}, "must have rows, but has none"),
        ("audio,label\nx,dgo\n", {}, "`label` is `dgo` in row 2.*did you mean `dog`"),
        ("audio,label\nx,3\n", {}, "must be one of cat, dog, 10, but `label` is `3` in row 2"),
        ("audio,audio,label\nx,y,cat\n", {}, "has `audio` twice"),
        ("audio,label\nx,1;2\n", {"task": "regression"}, "must be 3 numbers"),
        ("audio,label\nx,1;2;many\n", {"task": "regression"}, "must be finite numbers.*`many` is no number"),
        ('"audio,label\nx', {}, "must be"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, text: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"(?i){said}") as caught:
        table(tmp_path, text, **options)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_told_with_the_table_that_names_it(tmp_path: Path) -> None:
    found = table(tmp_path, "audio,label\nabsent.npy,cat\n")
    with pytest.raises(
        UserError, match=r"a file that `audio` names must be readable, but in row 2 of .*t\.csv.*absent\.npy"
    ):
        found.rows(0, 1)


def test_a_folder_of_frames_stays_a_path(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    found = table(tmp_path, "audio,label\nframes,cat\n")
    assert found.rows(0, 1)[0] == {"audio": [tmp_path / "frames"]}
