"""Feeds a model from one part of a dataset: gathers rows where they lie, brings them to the device, transforms them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.models.multimodal import Inputs
from balance_tune.training.buffers import Buffers
from balance_tune.training.prefetch import ahead
from balance_tune.training.residency import device_memory
from balance_tune.training.rows import Rows, gather
from balance_tune.training.transform import Drawn, Transform

AT_ONCE = {"cpu": 2**26, "cuda": 2**29}  # bytes of inputs that an evaluation-mode pass takes at once, at most
OF_FREE = 1 / 64  # of a device's free memory, for these inputs: a ResNet-18's activations are 8 times as large
CACHED = 2**22  # of them, on a CPU: larger passes save nothing and leave the caches
LARGE = 2**28  # bytes of mapped data from which on rows are gathered ahead

Stored = Mapping[str, Tensor | Rows]
"""Samples as they are stored: modality -> (B, *stored); on the CPU large ones are not read before they are needed."""


class Feed:
    """One part of a dataset, row by row as the model takes it.

    Attributes:
        inputs: modality -> (N, *stored) in the type of the store, where they lie.
        labels: (N,) or (N, C), on the device.
        device: where the model is, with its index (`cuda` and `cuda:0` are the same device and compare unequal).
        rows, groups: as of the part.

    Args:
        share: of the device that the trial has.
        most: rows that an evaluation-mode pass takes at once, at most (default: what memory allows).
    """

    def __init__(
        self,
        part: Part,
        transforms: Mapping[str, Transform] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        share: float = 1.0,
        most: int | None = None,
    ) -> None:
        self.labels: Tensor = part.labels.to(device)
        self.device = self.labels.device
        self.transforms = dict(transforms or {})
        self.inputs: dict[str, Any] = {m: self._cast(m, x, dtype) for m, x in part.inputs.items()}
        self.rows, self.groups = part.rows, part.groups
        self._present: dict[str, Tensor] = {}  # of the modalities that some rows lack: (N,), on the device
        if part.present is not None:
            self._present = self._lacking(part.present)
        self.host = any(x.device != self.device for x in self.inputs.values())  # not where the model is
        size = sum(x.nbytes for x in self.inputs.values())
        self._ahead = self.host or (size >= LARGE and self.device.type == "cpu")
        self._buffers = Buffers()
        self._stream = torch.cuda.Stream(self.device) if self.host and self.device.type == "cuda" else None
        self._bytes_at_once = _bytes_at_once(self.device, share)
        self._most = most

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, modalities: Iterable[str]) -> Feed:
        """Return the same feed of some modalities, in their order; nothing is copied."""
        feed = copy.copy(self)
        feed.inputs = {m: self.inputs[m] for m in modalities}
        return feed

    def having(self, present: Tensor) -> Feed:
        """Return the same feed whose rows have the modalities that `present` says, (N, M) in the order of `inputs`."""
        feed = copy.copy(self)
        feed._present = self._lacking(present)
        return feed

    def availability(self) -> Tensor:
        """Return which rows have which modalities, (N, M) bool on the device, in the order of `inputs`."""
        whole = torch.ones(len(self), dtype=torch.bool, device=self.device)
        return torch.stack([self._present.get(m, whole) for m in self.inputs], dim=1)

    def _lacking(self, present: Tensor) -> dict[str, Tensor]:
        """Return of each modality that some rows lack which rows have it, (N,) on the device."""
        masks = zip(self.inputs, present.unbind(1), strict=True)
        return {m: mask.to(self.device) for m, mask in masks if not bool(mask.all())}

    @property
    def augments(self) -> bool:
        """Whether training batches differ from others."""
        return any(t.augments for t in self.transforms.values())

    @property
    def at_once(self) -> int:
        """How many samples an evaluation-mode pass may take at once."""
        sample = 4 * max(1, sum(self._shape(m).numel() for m in self.inputs))
        rows = max(1, self._bytes_at_once // sample)
        if self.device.type == "cpu":
            rows = min(rows, max(64, CACHED // sample))
        return rows if self._most is None else min(rows, self._most)

    def take_fewer(self, than: int) -> None:
        """Have evaluation-mode passes take at most half as many samples at once."""
        self._most = max(1, than // 2)

    def take(self, rows: Tensor | slice) -> Inputs:
        """Return rows (B,) as the model takes them outside training, {modality: (B, *shape)} on the device."""
        return self.silenced(self.prepared(self.stored(rows)), rows)

    def silenced(self, inputs: Inputs, rows: Tensor | slice) -> Inputs:
        """Return inputs of these rows (B,) in which a modality that a row does not have is zero."""
        rows = rows.to(self.device) if isinstance(rows, Tensor) and self._present else rows
        for m, present in self._present.items():
            if m in inputs:
                mask = present[rows].to(inputs[m].dtype)
                inputs[m] = inputs[m] * mask.view(-1, *[1] * (inputs[m].dim() - 1))
        return inputs

    def present(self, modality: str) -> Tensor | None:
        """Return which rows have a modality, (N,) on the device; None where all do."""
        return self._present.get(modality)

    def stored(self, rows: Tensor | slice) -> Stored:
        """Return rows (B,) as they are stored, on the device."""
        if isinstance(rows, Tensor):
            rows = rows.cpu() if self.host else rows.to(self.device)
        if self.host and self.device.type == "cuda" and isinstance(rows, Tensor):
            return {m: _pinned(x, rows).to(self.device, non_blocking=True) for m, x in self.inputs.items()}
        return {m: self._named(m, x, rows) for m, x in self.inputs.items()}

    def prepared(self, stored: Stored, draws: Mapping[str, Drawn] | None = None) -> Inputs:
        """Return stored samples as the model takes them; augmented where there are `draws` for each modality."""
        return {
            m: self.transforms[m](x, None if draws is None else draws[m]) if m in self.transforms else _read(x)
            for m, x in stored.items()
        }

    def stream(self, rows: Iterable[Tensor]) -> Iterator[Stored]:
        """Yield `stored` of one batch of rows after another; gathered and copied ahead where that takes time."""
        if not self._ahead:
            yield from map(self.stored, rows)
            return
        if self._stream is None:
            yield from ahead(self._gathered, rows)
            return
        for batch, ready in ahead(self._copied, rows):
            now = torch.cuda.current_stream(self.device)
            now.wait_event(ready)
            for x in batch.values():
                x.record_stream(now)
            yield batch

    def batches(self, rank: int = 0, world: int = 1, most: int | None = None) -> Iterator[tuple[Tensor, Inputs]]:
        """Yield (rows, inputs) of this worker's share of all rows, each once, `most` at a time (default: what fits)."""
        size, total = most or self.at_once, len(self)
        if world == 1 and not self.host:
            for start in range(0, total, size):
                rows = slice(start, min(start + size, total))
                yield torch.arange(rows.start, rows.stop, device=self.device), self.take(rows)
            return
        mine = torch.arange(rank, total, world, device="cpu" if self.host else self.device)
        chunks = list(mine.split(size)) if len(mine) else [mine]
        for chunk, x in zip(chunks, self.stream(chunks), strict=True):
            yield chunk.to(self.device), self.silenced(self.prepared(x), chunk)

    def _named(self, modality: str, x: Any, rows: Tensor | slice) -> Tensor | Rows:
        transform = self.transforms.get(modality)
        if transform is not None and transform.large and isinstance(rows, Tensor) and self.device.type == "cpu":
            return Rows(x, rows)
        return _rows(x, rows).to(self.device)

    def _gathered(self, rows: Tensor) -> Inputs:
        return {m: _read(x, self._buffers) for m, x in self.stored(rows).items()}

    def _copied(self, rows: Tensor) -> tuple[Inputs, torch.cuda.Event]:
        assert self._stream is not None
        with torch.cuda.stream(self._stream):
            batch = self._gathered(rows)
            ready = torch.cuda.Event()
            ready.record(self._stream)
        return batch, ready

    def _cast(self, modality: str, x: Any, dtype: torch.dtype | None) -> Any:
        transform = self.transforms.get(modality)
        baked = transform is None or transform.identity
        castable = dtype is not None and isinstance(x, Tensor) and x.is_floating_point()
        return x.to(dtype=dtype) if baked and castable else x

    def _shape(self, modality: str) -> torch.Size:
        transform = self.transforms.get(modality)
        return torch.Size(transform.modality.shape if transform else self.inputs[modality].shape[1:])


def feed_of(
    data: Data,
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    share: float = 1.0,
    most: int | None = None,
) -> Feed:
    """Return the feed of part `name` of open data, with the transforms that its manifest declares (see `Feed`).

    Args:
        data: an open store.
        name: of the part.
        device: where the model is.
        dtype: of what the model takes.
        share: of the device that the trial has.
        most: rows that an evaluation-mode pass takes at once; None: what memory allows.
    """
    specs = getattr(data.manifest, "modalities", {})  # made-up data may know less than a store
    statistics = getattr(data.manifest, "statistics", {})
    transforms = {m: Transform(spec, statistics.get(m), dtype) for m, spec in specs.items()}
    return Feed(data.parts[name], transforms, device, dtype, share, most)


def draws_for(modalities: Iterable[str], key: tuple[Any, ...], position: Tensor, total: int) -> dict[str, Drawn]:
    """Return each modality's random numbers for one global batch; modalities are augmented independently."""
    return {m: Drawn((*key, m), position, total) for m in modalities}


def _bytes_at_once(device: torch.device, share: float) -> int:
    """Return the bytes of inputs that an evaluation-mode pass takes at once: what the device has free allows.

    A power of two, so that a resumed run most likely takes as many rows as before.
    """
    free = device_memory(device, share)
    most = AT_ONCE.get(device.type, AT_ONCE["cpu"])
    return (
        most if free is None else min(most, 2 ** (int(free * OF_FREE).bit_length() - 1) if free * OF_FREE >= 1 else 1)
    )


def _rows(x: Any, rows: Tensor | slice) -> Tensor:
    stored: Tensor = gather(x, rows) if isinstance(rows, Tensor) else x[rows]
    return stored


def _read(x: Tensor | Rows, buffers: Buffers | None = None) -> Tensor:
    return x.gathered(buffers) if isinstance(x, Rows) else x


def _pinned(x: Any, rows: Tensor) -> Tensor:
    """Return x[rows] in page-locked memory, from which a device can copy while it computes."""
    out = torch.empty((len(rows), *x.shape[1:]), dtype=x.dtype, pin_memory=True)
    return gather(x, rows, out)
