from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from balance_tune.datasets.base import Samples
from balance_tune.datasets.parquet import ParquetDataset, vectors
from balance_tune.datasets.store import build_store
from balance_tune.errors import UserError
from tests.datasets.tiny import Tiny


class Table(Tiny, ParquetDataset):
    """A user's own dataset in a Parquet file."""

    def read(self) -> Samples:
        columns = self.columns(["label", "a"])
        return Samples({"a": vectors(columns["a"])}, columns["label"].to_numpy())


def table(path: Path, **columns: pa.Array) -> Table:
    a = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(120, dtype=np.float32)), 3)
    parquet.write_table(pa.table({"label": np.arange(40) % 2, "a": a, **columns}), path, row_group_size=7)
    return Table(path=path, modalities={"a": Tiny.modalities["a"]})


def test_columns_of_lists_become_arrays(tmp_path: Path) -> None:
    samples = table(tmp_path / "t.parquet").read()
    assert samples.inputs["a"].tolist() == np.arange(120).reshape(40, 3).tolist()


def test_a_changed_file_makes_another_store(tmp_path: Path) -> None:
    first = build_store(table(tmp_path / "t.parquet"), tmp_path / "one")
    second = build_store(table(tmp_path / "t.parquet", more=pa.array(range(40))), tmp_path / "two")
    assert first.identity.hash != second.identity.hash
    assert first.identity.sources[0].file == "t.parquet"


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    dataset = table(tmp_path / "t.parquet")
    dataset.path.write_bytes(dataset.path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"readable Parquet file .*t\.parquet") as caught:
        build_store(dataset, tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    dataset = table(tmp_path / "t.parquet")
    dataset.path.unlink()
    with pytest.raises(UserError, match=r"needs its source file .* No such file"):
        build_store(dataset, tmp_path / "store")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    dataset = table(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="must have a column `b`, but has label, a"):
        dataset.columns(["b"])


def test_an_incomplete_column_is_named(tmp_path: Path) -> None:
    dataset = table(tmp_path / "t.parquet", label=pa.array([None, *range(39)]))
    with pytest.raises(UserError, match=r"`label` .* must be complete, but lacks 1"):
        dataset.read()
