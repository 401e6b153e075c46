"""What a user may give a model: columns and their names, and what a cell may hold."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.tracking.raw_inputs import SERVING, as_columns, by_modality, missing, unpack

RAW = {"photo": {"column": "file", "kind": "image"}, "size": {"column": ["wide", "high"], "kind": "numbers"}}
MODALITIES = ("photo", "size")


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        (pd.DataFrame({"a": [1, 2]}, index=[5, 6]), {"a": [1, 2]}),
        ({"a": [1, 2], "b": [3, 4]}, {"a": [1, 2], "b": [3, 4]}),
        ({"a": b"one", "b": None}, {"a": [b"one"], "b": [None]}),
        ([{"a": 1}, {"b": 2}], {"a": [1, None], "b": [None, 2]}),
        ({"a": np.array(["x", "y"], dtype=object)}, {"a": ["x", "y"]}),
    ],
)
def test_an_input_is_a_table_in_whatever_form(given: Any, columns: dict[str, list[Any]]) -> None:
    found, index = as_columns(given)
    assert found == columns
    assert index is None or index.tolist() == [5, 6]


@pytest.mark.parametrize("given", ["text", 5, [1, 2], np.zeros((2, 2))])
def test_another_input_is_told_in_one_line(given: Any) -> None:
    with pytest.raises(UserError, match="an input must be a table with a column a modality, but is of type"):
        as_columns(given)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match=r"must have one length, but have \[1, 2\]"):
        as_columns({"a": [1], "b": [1, 2]})


def test_columns_have_the_names_of_modalities_or_of_the_recipe() -> None:
    assert by_modality({"photo": [1], "size": [[2, 3]]}, RAW, MODALITIES) == {"photo": [1], "size": [[2, 3]]}
    found = by_modality({"high": [3, None], "file": ["x", "y"], "wide": [2, 5]}, RAW, MODALITIES)
    assert found == {"photo": ["x", "y"], "size": [[2, 3], None]}
    assert by_modality({"size": [[2, 3]]}, RAW, MODALITIES) == {"size": [[2, 3]]}


def test_numbers_may_be_text_as_the_table_writes_them() -> None:
    assert by_modality({"wide": ["2,5"], "high": [" 3 "]}, RAW, MODALITIES, ",") == {"size": [[2.5, 3.0]]}
    one = {"weight": {"column": "grams", "kind": "numbers"}}
    assert by_modality({"grams": [4]}, one, ["weight"]) == by_modality({"weight": [4]}, one, ["weight"])
    assert by_modality({"weight": [4, "", [5]]}, one, ["weight"]) == {"weight": [[4], None, [5]]}
    with pytest.raises(UserError, match="a number must be one, but in row 1: `high` is no number"):
        by_modality({"wide": [1, 2], "high": ["3", "high"]}, RAW, MODALITIES)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"phto": [1]}, "must be one of photo, size, but got `phto`"),
        ({"photo": [1], "sise": [1], "id": [7]}, "but got `sise`, `id`; rename"),
        ({"wide": [1]}, "but got `wide`"),
        ({"photo": [1], "file": [2]}, "but got `file`"),
        ({}, "must have a column of photo, size, but has none"),
    ],
)
def test_another_column_is_an_error_that_names_the_columns(columns: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        by_modality(columns, RAW, MODALITIES)


@pytest.mark.parametrize("cell", [None, float("nan"), np.float32("nan"), pd.NA, "", "  "])
def test_a_cell_that_holds_nothing_is_a_missing_modality(cell: Any) -> None:
    assert missing(cell)


@pytest.mark.parametrize("cell", [0, 0.0, b"", [], [float("nan")], "0"])
def test_another_cell_is_not(cell: Any) -> None:
    assert not missing(cell)


def test_a_file_is_a_path_or_its_bytes_or_base64(tmp_path: Path) -> None:
    file, numbers = tmp_path / "a.bin", tmp_path / "n.npy"
    file.write_bytes(b"content")
    np.save(numbers, np.arange(3.0))
    text = base64.b64encode(b"content").decode()
    for given in (file, str(file), b"content", text, {"bytes": b"content", "path": "a.bin"}):
        assert unpack(given) == b"content"
    assert unpack(str(numbers)).tolist() == [0.0, 1.0, 2.0]
    assert unpack([str(file), file]) == [b"content", b"content"]
    assert unpack(tmp_path) == tmp_path


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base64 .* there is no file of that name either \(`.*/none\.png`\)"):
        unpack(str(tmp_path / "none.png"))
    with pytest.raises(UserError, match=r"a file must be readable, but .*/none\.png: "):
        unpack(tmp_path / "none.png")


def test_a_server_opens_no_file_that_a_request_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.png").write_bytes(b"content")
    monkeypatch.setenv(SERVING, "true")
    with pytest.raises(UserError, match="a server opens no files by their paths"):
        unpack(str(tmp_path / "secret.png"))
