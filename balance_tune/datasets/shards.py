"""Arrow IPC files of a part of a dataset: written once, then memory-mapped into tensors without a copy."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.manifest import Shard
from balance_tune.datasets.modality import Modality
from balance_tune.datasets.sharded import Sharded
from balance_tune.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# torch and pyarrow are imported where they are used: listing datasets needs neither

PRESENT = "_present"
"""The column that says which modalities a sample has; no modality can be called so."""
ARROW = {"float32": "float", "float16": "halffloat"}
"""Arrow's own names of types, where they are others."""


@dataclass(frozen=True)
class Part:
    """One part of a dataset as tensors, in the order of the source.

    Attributes:
        inputs: modality -> (N, *stored), in the type of the store. On the CPU they lie in private memory maps:
            processes share the pages, and a write changes neither other processes' pages nor the file. A part in
            several files has `Sharded` inputs, which are read by row as tensors are.
        labels: (N,) int64; (N, classes) float32 of a multilabel task or a regression.
        rows: (N,) int64, the position of each sample in the source.
        groups: (N,) int64, or None.
        present: (N, M) bool, whether each sample has each modality, in the order of `inputs`; None where all have all.
            What a sample does not have is stored as zeros.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: Tensor
    groups: Tensor | None
    present: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs."""
        return sum(x.nbytes for x in self.inputs.values())

    def take(self, modality: str, rows: Tensor) -> Tensor:
        """Return a copy of the samples at `rows` (B,) as (B, *stored), in the type of the store."""
        stored = self.inputs[modality]
        return stored[rows] if isinstance(stored, Sharded) else stored.index_select(0, rows)


def write_shard(
    path: Path,
    inputs: Mapping[str, NDArray[Any]],
    labels: NDArray[Any],
    rows: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    present: NDArray[np.bool_] | None = None,
) -> Shard:
    """Write one record batch (uncompressed, fixed-shape tensors) to `path`, durably, and describe it.

    `present` (N, M) says which samples have which modalities; it is written where some lack one.

    Args:
        path: of the file.
        inputs: modality -> (N, *stored).
        labels: (N,) or (N, C).
        rows: (N,), positions in the dataset.
        groups: (N,) numbers of groups, or None.
        present: (N, M) bool, or None where no sample lacks a modality.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {name: _column(x) for name, x in inputs.items()}
    columns |= {"label": _column(labels), "row": _column(rows)}
    if groups is not None:
        columns["group"] = _column(groups)
    if present is not None:
        columns[PRESENT] = _column(present.astype(np.uint8))
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with path.open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    return Shard(path.name, len(labels), path.stat().st_size, sha256(path))


def _column(values: NDArray[Any]) -> Any:
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


def open_shards(
    folder: Path, shards: Sequence[Shard], modalities: Mapping[str, Modality], label: tuple[int, ...] = ()
) -> Part:
    """Map a part's files into memory and return it as tensors that share it; `label` is the shape of one label.

    Args:
        folder: of the store.
        shards: the part's files.
        modalities: types and shapes of the inputs.
        label: shape of one label; () for classes.

    Raises:
        UserError: a file is missing or is not what the manifest describes; a clause that says in what.
    """
    import torch

    parts = [open_shard(folder / shard.file, shard, modalities, label) for shard in shards]
    if not parts:
        raise UserError("a part has no rows")
    if len(parts) == 1:
        return parts[0]
    groups = [part.groups for part in parts if part.groups is not None]
    inputs: dict[str, Any] = {name: Sharded([part.inputs[name] for part in parts]) for name in modalities}
    present = None
    if any(part.present is not None for part in parts):
        everything = [torch.ones(len(part), len(modalities), dtype=torch.bool) for part in parts]
        present = torch.cat([e if p.present is None else p.present for p, e in zip(parts, everything, strict=True)])
    return Part(
        inputs=inputs,
        labels=torch.cat([part.labels for part in parts]),
        rows=torch.cat([part.rows for part in parts]),
        groups=torch.cat(groups) if len(groups) == len(parts) else None,
        present=present,
    )


def open_shard(path: Path, shard: Shard, modalities: Mapping[str, Modality], label: tuple[int, ...] = ()) -> Part:
    """Map one file into memory and return it as tensors that share it.

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
        batch = _record_batch(buffer)
        if batch is None or batch.num_rows != shard.rows:
            raise UserError(f"{shard.file} has other rows than its manifest says ({shard.rows})")
        names = batch.schema.names

        def column(name: str, dtype: str, shape: tuple[int, ...] = ()) -> Tensor:
            return _tensor(batch.column(name), memory, buffer.address, dtype, (shard.rows, *shape))

        return Part(
            inputs={name: column(name, modality.dtype, modality.stored) for name, modality in modalities.items()},
            labels=column("label", "float32" if label else "int64", label),
            rows=column("row", "int64"),
            groups=column("group", "int64") if "group" in names else None,
            present=column(PRESENT, "uint8", (len(modalities),)).bool() if PRESENT in names else None,
        )
    except UserError:
        raise
    except Exception as error:  # what readers raise over damaged bytes has no end
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{shard.file} cannot be read ({(reason.splitlines() or [''])[0]})") from error


def _record_batch(buffer: Any) -> Any:
    """Return the one record batch of an Arrow file as views of `buffer`; None where there is none, or another one.

    The messages are read in order, as in a stream: a footer may point anywhere. A compressed batch is refused before
    it is unpacked, because a small one may take any amount of memory.
    """
    import pyarrow as pa

    if buffer.slice(0, 8).to_pybytes() != b"ARROW1\0\0":
        raise ValueError("it does not begin as an Arrow file does")
    messages = pa.ipc.MessageReader.open_stream(pa.BufferReader(buffer.slice(8)))
    schema, message = pa.ipc.read_schema(messages.read_next_message()), messages.read_next_message()
    if message.type != "record batch":
        return None
    if _is_compressed(message.metadata.to_pybytes()):
        raise ValueError("its values are compressed")
    try:
        messages.read_next_message()
    except StopIteration:
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate()
        return batch
    return None


def _is_compressed(metadata: bytes) -> bool:
    """Whether the metadata of a record batch (a flatbuffer `Message` with a `RecordBatch`) names a compression."""

    def field(table: int, number: int) -> int:
        """Return where a table's field lies, 0 where it has none."""
        (back,) = struct.unpack_from("<i", metadata, table)
        (size,) = struct.unpack_from("<H", metadata, table - back)
        if 4 + 2 * number >= size:
            return 0
        (offset,) = struct.unpack_from("<H", metadata, table - back + 4 + 2 * number)
        return table + offset if offset else 0

    (message,) = struct.unpack_from("<I", metadata, 0)
    header = field(message, 2)
    (offset,) = struct.unpack_from("<I", metadata, header)
    return bool(field(header + offset, 3))


def _tensor(array: Any, memory: mmap.mmap, start: int, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return a column as a view of `memory`, which begins at address `start`."""
    import pyarrow as pa
    import torch

    values = array.storage.values if isinstance(array, pa.ExtensionArray) else array
    if str(values.type) != ARROW.get(dtype, dtype):
        raise ValueError(f"a column is {values.type} where {dtype} was expected")
    data, typed, count = values.buffers()[1], getattr(torch, dtype), len(values)
    offset = -1 if data is None else data.address - start
    if not 0 <= offset <= len(memory) - count * typed.itemsize:  # torch would raise a SystemError
        raise ValueError("a column lies outside of the file")
    return torch.frombuffer(memory, dtype=typed, count=count, offset=offset).view(shape)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
