"""Any table that is accepted says in its store what an independent reading of it says, row by row."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from balance_tune.datasets import tabular
from balance_tune.datasets.parquet_file import IsolatedReader
from balance_tune.datasets.splits import PARTS
from balance_tune.datasets.store import open_store, verify_store
from balance_tune.datasets.table import Table
from balance_tune.datasets.tokens import hashed
from balance_tune.errors import UserError
from balance_tune.testing.distributions import prepared

EXAMPLES = int(os.environ.get("BALANCE_TUNE_FUZZ", "20"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a failure is reported as it is: making it smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LABELS = ("cat", "dog", "01", "NA", "no\u00ebl", "a b")
NOTHING = ("", " ", "nan", "NaN", "null")
Sample = tuple[str, list[float] | None, list[int] | None, str]
"""Label, numbers, words, the text of these."""
REFUSED = (
    "every class needs a training row",
    "must have two or more classes",
    "every part",
    "such sets",
    "every row of it is empty",
    "must have rows with every modality",
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6, allow_subnormal=False).map(repr),
    st.sampled_from(["007", "1e3", " 2.5 ", "-.5", "+3"]),
)


@dataclass(frozen=True)
class Written:
    """A table as its writer knows it: cells as text, and how they were written."""

    rows: tuple[tuple[str, ...], ...]  # a, b, note, y
    separator: str
    quoting: int
    bom: bool
    newline: str
    blanks: bool
    index: bool
    missing: str

    def content(self) -> bytes:
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=self.separator, quoting=self.quoting, lineterminator=self.newline)  # type: ignore[arg-type]
        header = [f" {name} " if self.blanks else name for name in ("a", "b", "note", "y")]
        writer.writerow((["", *header]) if self.index else header)
        for k, row in enumerate(self.rows):
            writer.writerow([str(k), *row] if self.index else row)
        return file.getvalue().encode("utf-8-sig" if self.bom else "utf-8")

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            "name": "fuzz",
            "label": "y",
            "missing": self.missing,
            "missing_labels": "drop",
            "split": {"train": 0.4, "monitor": 0.2, "val": 0.2, "test": 0.2},
            "modalities": {
                "number": {"column": ["a", "b"], "kind": "numbers"},
                "text": {"column": "note", "kind": "text", "length": 8},
            },
        }


@st.composite
def tables(draw: st.DrawFn) -> Written:
    cell = st.one_of(*[NUMBERS] * 8, st.sampled_from(NOTHING))
    label = st.one_of(*[st.sampled_from(LABELS[: draw(st.integers(2, 6))])] * 8, st.sampled_from(NOTHING))
    if draw(st.booleans()):
        label = label.map(lambda text: f" {text} ")
    rows = draw(st.lists(st.tuples(cell, cell, WORDS, label), min_size=24, max_size=40))
    twice = draw(st.lists(st.sampled_from(rows), max_size=6))
    return Written(
        tuple(rows + twice),
        draw(st.sampled_from([",", ";", "\t"])),
        draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        draw(st.booleans()),
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(["drop", "silence"])),
    )


def independently(written: Written, path: Path) -> pd.DataFrame:
    """Return the table as pandas reads it, as text."""
    frame = pd.read_csv(
        path, sep=written.separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
    )
    return frame.rename(columns=str.strip)[["a", "b", "note", "y"]]


def expected(frame: pd.DataFrame, missing: str) -> dict[int, Sample]:
    """Return row as the user counts -> what is expected, only of the rows that must be kept."""
    kept = {}
    for k, row in enumerate(frame.itertuples(index=False)):
        label = row.y.strip()
        numbers = (
            None if any(v.strip().lower() in ("", "nan", "null") for v in row[:2]) else [float(v) for v in row[:2]]
        )
        words = hashed(row.note, 8).tolist() if row.note.strip() else None
        if label.lower() in ("", "nan", "null") or not any(v.strip() for v in row):
            continue
        if (numbers is None and words is None) or (missing == "drop" and (numbers is None or words is None)):
            continue
        kept[k + 2] = (label, numbers, words, row.note.strip())
    return kept


def check(
    path: Path, recipe: dict[str, Any], rows: dict[int, tuple[str, list[float] | None, list[int] | None]]
) -> bool:
    """Compare a table's store with what is expected; false where the table is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            dataset = Table(recipe, path)
            out = prepared(dataset, path.parent, Path(folder) / "s")
        except UserError as error:
            refused = str(error)
        else:
            refused = ""
        if refused:  # chance has it so; nothing else is wrong with these tables
            assert "\n" not in refused
            assert any(words in refused for words in REFUSED), refused
            return False
        data = open_store(out, PARTS, unseal=True)
        verify_store(out)
        names = list(rows)
        seen = set()
        for part in data.parts.values():
            present = torch.ones(len(part), 2, dtype=torch.bool) if part.present is None else part.present
            for k, row in enumerate(part.rows.tolist()):
                label, numbers, words, _ = rows[names[row]]
                seen.add(names[row])
                assert data.manifest.classes[int(part.labels[k])] == label
                assert present[k].tolist() == [numbers is not None, words is not None]
                assert part.inputs["number"][k].tolist() == np.float32(numbers or [0, 0]).tolist()
                assert part.inputs["text"][k].tolist() == (words or [0] * 8)
        assert seen == set(names)
        where: dict[str, set[str]] = {}
        for name, part in data.parts.items():
            for row in part.rows.tolist():
                where.setdefault(repr(rows[names[row]][1::2]), set()).add(name)
        assert [key for key, parts in where.items() if len(parts) > 1] == []  # the same sample is in one part
    return True


@fuzzed
@given(tables())
def test_a_store_of_a_csv_table_is_what_pandas_reads(written: Written) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(written.content())
        check(path, written.recipe, expected(independently(written, path), written.missing))


@pytest.fixture(scope="module")
def one_reader() -> Iterator[None]:
    """One process tries all Parquet files of the fuzz; starting one takes longer than reading a small file."""
    with IsolatedReader() as reader, mock.patch.object(tabular, "try_reading", reader.try_reading):
        yield


@fuzzed
@given(tables(), st.booleans())
def test_a_store_of_a_parquet_table_is_what_pandas_reads(one_reader: None, written: Written, typed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        frame = pd.DataFrame(written.rows, columns=["a", "b", "note", "y"])
        if typed:
            nothing = frame.a.str.strip().str.lower().isin(["", "nan", "null"])
            frame["a"] = frame.a.where(~nothing, "nan").astype(float)
        parquet.write_table(pa.Table.from_pandas(frame), path, row_group_size=7)
        text = pd.read_parquet(path).map(
            lambda v: "" if v is None or v != v else v if isinstance(v, str) else repr(float(v))
        )
        check(path, written.recipe, expected(text, written.missing))


def test_the_fuzz_accepts_tables() -> None:
    rows = tuple((str(k), str(k / 2), f"word {k}", LABELS[k % 2]) for k in range(30))
    written = Written(rows, ";", csv.QUOTE_MINIMAL, True, "\r\n", True, True, "silence")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(written.content())
        assert check(path, written.recipe, expected(independently(written, path), "silence"))


@pytest.mark.parametrize("cell", ["1,5", "high", "1_0"])
def test_a_row_whose_number_is_none_is_the_only_one_that_is_lost(cell: str, tmp_path: Path) -> None:
    rows = [(str(k), str(k / 2), f"word {k}", LABELS[k % 2]) for k in range(40)]
    rows[9] = (cell, *rows[9][1:])
    written = Written(tuple(rows), ";", csv.QUOTE_ALL, False, "\n", False, False, "drop")
    (tmp_path / "t.csv").write_bytes(written.content())
    out = prepared(Table(written.recipe, tmp_path / "t.csv"), tmp_path, tmp_path / "s", most=0.05)
    (lost,) = verify_store(out).skipped
    assert lost.file == "row 11"
    assert lost.reason.startswith(f"`a` is not a number: `{cell}` is no number")
