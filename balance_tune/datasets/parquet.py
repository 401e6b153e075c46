"""A dataset in one Parquet file, such as those that ship with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.base import Dataset
from balance_tune.errors import UserError

EMBEDDED = Path(__file__).parent / "embedded"


class ParquetDataset(Dataset):
    """A dataset whose source is the one Parquet file `path`."""

    path: ClassVar[Path]

    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def columns(self, names: Sequence[str]) -> dict[str, Any]:
        """Return columns of the file as pyarrow arrays, by name.

        Args:
            names: of columns.

        Raises:
            UserError: the file lacks one of them, or cannot be read.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(self.path).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"dataset `{self.name}` needs a readable Parquet file {self.path}, but: {reason}"
            ) from error
        for name in names:
            if name not in table.column_names:
                raise UserError(f"{self.path} must have a column `{name}`, but has {', '.join(table.column_names)}.")
            if table[name].null_count:
                raise UserError(f"column `{name}` of {self.path} must be complete, but lacks {table[name].null_count}.")
        return {name: table[name].combine_chunks() for name in names}


def vectors(column: Any) -> NDArray[np.float32]:
    """Return a pyarrow column of fixed-size lists as an array (N, size)."""
    values: NDArray[np.float32] = column.flatten().to_numpy()
    return values.reshape(len(column), -1)
