"""One part of a dataset as an Arrow IPC file: written once, then memory-mapped into tensors without a copy."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.base import Modality
from balance_tune.datasets.manifest import Shard
from balance_tune.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# torch and pyarrow are imported where they are used: listing datasets needs neither


@dataclass(frozen=True)
class Part:
    """One part of a dataset as tensors, in the order of the source.

    Attributes:
        inputs: modality -> (N, *shape) float32, standardised. On the CPU they lie in a private memory map: processes
            share the pages, and a write changes nobody else's and not the file.
        labels: (N,) int64.
        rows: (N,) int64, the position of each sample in the source.
        groups: (N,) int64, or None.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: Tensor
    groups: Tensor | None

    def __len__(self) -> int:
        return len(self.labels)


def write_shard(
    path: Path,
    inputs: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
) -> Shard:
    """Write one record batch (uncompressed, fixed-shape tensors) to `path`, durably, and describe it."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(x)) for name, x in inputs.items()
    }
    columns |= {"label": pa.array(labels), "row": pa.array(rows)}
    if groups is not None:
        columns["group"] = pa.array(groups)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with path.open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return Shard(path.name, len(labels), path.stat().st_size, sha256(path))


def open_shard(path: Path, shard: Shard, modalities: Mapping[str, Modality]) -> Part:
    """Map `path` into memory and return it as tensors that share it.

    Raises:
        UserError: the file is missing or is not what the manifest describes; a clause that says in what.
    """
    import pyarrow as pa

    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise UserError(f"{shard.file} has {size} bytes where its manifest says {shard.bytes}")
        with path.open("rb") as file:
            # private and writable: torch warns of read-only memory, and no write may reach the file
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        buffer = pa.py_buffer(memory)
        reader = pa.ipc.open_file(buffer)
        batch = reader.get_batch(0)
        if reader.num_record_batches != 1 or batch.num_rows != shard.rows:
            raise UserError(f"{shard.file} has other rows than its manifest says ({shard.rows})")
        names = batch.schema.names

        def column(name: str, shape: tuple[int, ...] = ()) -> Tensor:
            return _tensor(batch.column(name), memory, buffer.address, (shard.rows, *shape))

        return Part(
            inputs={name: column(name, modality.shape) for name, modality in modalities.items()},
            labels=column("label"),
            rows=column("row"),
            groups=column("group") if "group" in names else None,
        )
    except (OSError, pa.ArrowException, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
        raise UserError(f"{shard.file} cannot be read ({reason})") from error


def _tensor(array: Any, memory: mmap.mmap, start: int, shape: tuple[int, ...]) -> Tensor:
    """Return a column as a view of `memory`, which begins at address `start`."""
    import pyarrow as pa
    import torch

    values = array.storage.values if isinstance(array, pa.ExtensionArray) else array
    dtype = {pa.float32(): torch.float32, pa.int64(): torch.int64}[values.type]
    data = values.buffers()[1]
    return torch.frombuffer(memory, dtype=dtype, count=len(values), offset=data.address - start).view(shape)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
