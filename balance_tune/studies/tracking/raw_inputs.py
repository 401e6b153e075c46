"""Reads the inputs of a served model: named columns whose cells hold a file, its bytes, or numbers."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.datasets.columns import columns_of
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.files import content_of
from balance_tune.datasets.labels import as_number
from balance_tune.datasets.named_file import unusable
from balance_tune.errors import UserError

LONGEST_PATH = 4096
SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
"""Set by MLflow in a process that answers over HTTP; there no text names a file, else a request could open any."""


def as_columns(model_input: Any) -> tuple[dict[str, list[Any]], Any]:
    """Return a model's input as column -> cells, and the index of its rows (None: they are counted).

    Args:
        model_input: a table (pandas), a list of samples, or a mapping of columns (or of one sample's values).
    """
    import pandas as pd  # type: ignore[import-untyped]

    if isinstance(model_input, pd.DataFrame):
        return {str(name): list(model_input[name]) for name in model_input.columns}, model_input.index
    if isinstance(model_input, Mapping):
        several = all(isinstance(cells, list | np.ndarray | pd.Series) for cells in model_input.values())
        columns = {str(name): list(cells) if several else [cells] for name, cells in model_input.items()}
        lengths = {len(cells) for cells in columns.values()}
        if len(lengths) > 1:
            raise UserError(f"the columns of an input must have one length, but have {sorted(lengths)}.")
        return columns, None
    if isinstance(model_input, list) and all(isinstance(row, Mapping) for row in model_input):
        names = dict.fromkeys(str(name) for row in model_input for name in row)
        return {name: [row.get(name) for row in model_input] for name in names}, None
    raise UserError(f"an input must be a table with a column a modality, but is of type {type(model_input).__name__}.")


def by_modality(
    columns: Mapping[str, list[Any]], raw: Mapping[str, Any], modalities: Sequence[str], decimal: str = "."
) -> dict[str, Any]:
    """Return columns under the names of modalities; those of a user's table may have the names of its recipe.

    Args:
        columns: column -> cells.
        raw: modality -> its entry in the recipe; empty where there is none.
        modalities: of the model.
        decimal: the decimal sign of numbers that are text.

    Raises:
        UserError: a column is none of the model's, or there is none at all; the line names them.
    """
    by_name: dict[str, Any] = {}
    rest = dict(columns)
    for m in modalities:
        if m in rest:
            by_name[m] = rest.pop(m)
            if raw.get(m, {}).get("kind") == "numbers":
                by_name[m] = [
                    cell if _is_sample(cell) else _numbers([cell], decimal, k) for k, cell in enumerate(by_name[m])
                ]
            continue
        names = columns_of(raw.get(m))
        if names and all(name in columns and name not in modalities for name in names):
            cells = [columns[name] for name in names]
            numbers = raw[m].get("kind") == "numbers"
            rows = enumerate(zip(*cells, strict=True))
            by_name[m] = [_numbers(row, decimal, k) for k, row in rows] if numbers else cells[0]
            rest = {name: own for name, own in rest.items() if name not in names}
    takes = ", ".join(modalities)
    if rest:
        wrong = ", ".join(f"`{name}`" for name in rest)
        raise UserError(f"an input must be one of {takes}, but got {wrong}; rename or leave out what is none of these.")
    if not by_name:
        raise UserError(f"an input must have a column of {takes}, but has none.")
    return by_name


def _is_sample(cell: Any) -> bool:
    return isinstance(cell, Sequence | np.ndarray) and not isinstance(cell, str)


def _numbers(cells: Sequence[Any], decimal: str, row: int) -> Any:
    """Return the numbers of a row, or None where one is missing."""
    if any(missing(cell) for cell in cells):
        return None
    try:
        return [as_number(cell, decimal) if isinstance(cell, str) else cell for cell in cells]
    except ValueError as error:
        raise UserError(f"a number must be one, but in row {row}: {error}.") from error


def missing(value: Any) -> bool:
    """Return whether a cell is empty: None, not a number, pandas' NA, or blank text."""
    import pandas as pd

    if isinstance(value, str):
        return not value.strip()
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def unpack(value: Any) -> Any:
    """Return the value of a cell: the bytes of a file or of base64 text, or numbers as nested lists.

    Raises:
        UserError: text is neither base64 nor the path of a file that can be read.
    """
    if isinstance(value, os.PathLike):
        return _content(Path(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping) and set(value) == {"bytes", "path"} and value["bytes"] is not None:
        return unpack(value["bytes"])  # as Hugging Face's tables have pictures and sounds
    if isinstance(value, Mapping):  # a file with what belongs to it, or several
        return {key: unpack(inner) for key, inner in value.items()}
    if (isinstance(value, np.ndarray) and value.dtype == object) or (isinstance(value, list) and _of_text(value)):
        return [unpack(inner) for inner in value]
    return value


def _text(text: str) -> Any:
    served = os.environ.get(SERVING) == "true"
    if not served and len(text) < LONGEST_PATH and unusable(Path(text)) is None:
        return _content(Path(text))
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        what = "a server opens no files by their paths" if served else "there is no file of that name either"
        raise UserError(f"text must be the base64 of a file's bytes, but: {error}; {what} (`{text:.200}`).") from error


def _content(path: Path) -> Any:
    try:
        return content_of(path)
    except Unreadable as error:
        raise UserError(f"a file must be readable, but {path}: {error.reason}.") from error


def _of_text(values: list[Any]) -> bool:
    return bool(values) and isinstance(values[0], str | os.PathLike)
