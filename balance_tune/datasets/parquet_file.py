"""Opens a user's Parquet file: what it unpacks to is limited, and a damaged one ends another process than this."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from balance_tune.datasets import parquet_process
from balance_tune.datasets.limits import exceeded, limit
from balance_tune.errors import UserError

CELL = 8  # bytes of the reference to a cell


class IsolatedReader:
    """A process that reads Parquet files to their end; one that a file has ended is replaced at the next file."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def try_reading(self, path: Path) -> None:
        """Read a file there, and forget what it holds.

        Args:
            path: the file.

        Raises:
            UserError: reading it ends the process; any other error comes again where the file is opened.
        """
        if self._process is None:
            command = [sys.executable, "-I", str(parquet_process.__file__)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its answer says
            process.stdin.write(json.dumps([str(path.absolute()), limit("BYTES")]) + "\n")
            process.stdin.flush()
        if not process.stdout.readline():
            status = self.close()
            if status < 0:
                name = signal.Signals(-status).name
                raise UserError(f"{path} must be a readable Parquet file, but its reader was ended by {name}.")

    def close(self) -> int:
        """End the process; return its exit status, 0 where there is none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
        return process.returncode


def try_reading(path: Path) -> None:
    """Raise a `UserError` where reading a Parquet file ends the process that reads it."""
    with IsolatedReader() as reader:
        reader.try_reading(path)


def opened(path: Path) -> tuple[Any, Any]:
    """Return a Parquet file that is small enough, and its schema; text and bytes are read as dictionaries.

    A file of a few KB may say a million times that a cell is the same text of 1 MB; in a dictionary it is there once.
    """
    from pyarrow import parquet

    plain = parquet.ParquetFile(path)
    _check_size(path, plain.metadata, plain.schema_arrow)
    leaves = [plain.schema.column(k) for k in range(len(plain.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return parquet.ParquetFile(path, metadata=plain.metadata, read_dictionary=texts), plain.schema_arrow


def _check_size(path: Path, metadata: Any, schema: Any) -> None:
    """Raise a `UserError` where a Parquet file says that it holds more than is kept at a time.

    Of embedded files and numbers that is a row group, of text and labels all of it.
    """
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
    embedded = {field.name for field in schema if is_embedded(field.type)}
    of_files = [c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] in embedded]
    others = sum(c.total_uncompressed_size for c in chunks) - sum(of_files)
    cells = max(metadata.num_rows * metadata.num_columns, sum(chunk.num_values for chunk in chunks))
    for what, count in (
        ("files in a row group take", max(of_files, default=0)),
        ("its text and numbers take", others),
        ("its cells take at least", cells * CELL),
    ):
        if (reason := exceeded(what, count, "BYTES", "bytes unpacked")) is not None:
            raise UserError(f"{path} must be small enough to be read, but {reason}.")


def is_embedded(kind: Any) -> bool:
    """Return whether a column of this Arrow type holds samples: bytes, {bytes, path}, or lists of numbers."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return not is_text(kind.value_type)
    if pa.types.is_struct(kind):
        return {kind.field(k).name for k in range(kind.num_fields)} == {"bytes", "path"}
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_text(kind: Any) -> bool:
    """Return whether a column of this Arrow type holds text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def values_of(column: Any) -> list[Any]:
    """Return a column's values; equal texts are one object."""
    import pyarrow as pa

    values: list[Any] = []
    same: dict[Any, Any] = {}
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            entries = chunk.dictionary.to_pylist()
            values += [None if k is None else entries[k] for k in chunk.indices.to_pylist()]
        elif pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            for scalar in chunk:
                texts = scalar.as_py()
                values.append(
                    None if texts is None else tuple("" if v is None else same.setdefault(v, str(v)) for v in texts)
                )
        else:
            values += chunk.to_pylist()
    return values
