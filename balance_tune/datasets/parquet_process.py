"""Reads Parquet files to their end, in a process that a damaged file may end: `python parquet_process.py`.

pyarrow ends the process by SIGABRT or SIGSEGV at some damaged files. Each line of standard input is a request as JSON,
[FILE, BYTES], and gets a line as answer. What this program reads it forgets, and its errors come again where the file
is opened; it reads nothing of a file that says that it unpacks to more than BYTES in a column of a row group, or has as
many cells.
"""

from __future__ import annotations

import json
import sys


def read(path: str, most: int) -> None:
    """Read all columns of all row groups."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
    leaves = [file.schema.column(k) for k in range(len(file.schema))]
    if max((max(c.total_uncompressed_size, 8 * c.num_values) for c in chunks), default=0) > most:
        return
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    file = parquet.ParquetFile(path, read_dictionary=texts)
    for k in range(len(groups)):
        for name in file.schema_arrow.names:
            file.read_row_group(k, columns=[name])


def main() -> None:
    """Answer every request."""
    for line in sys.stdin:
        path, most = json.loads(line)
        try:
            read(path, most)
        except (
            Exception
        ) as error:  # pyarrow raises many kinds; the caller meets it again, and names it, when it opens the file
            print(type(error).__name__, flush=True)
        else:
            print("read", flush=True)


if __name__ == "__main__":
    main()
