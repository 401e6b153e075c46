"""Reads a Parquet file to its end, in a process that a damaged file may end: `python parquet_process.py FILE BYTES`.

pyarrow ends the process by SIGABRT or SIGSEGV at some damaged files. What this program reads it forgets; it reads
nothing of a file that says that it unpacks to more than BYTES in a column of a row group, or has as many cells.
"""

from __future__ import annotations

import sys


def main(path: str, most: int) -> None:
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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
