"""The store: one folder per dataset and split, built once and atomically, then mapped by every trial.

<dataset>-<hash>/
    train.arrow  monitor.arrow  val.arrow   what training opens
    test.arrow                              sealed: only an evaluation that says so opens it
    manifest.json                           written last; a folder without one is no store
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import remains
from balance_tune.datasets.base import Dataset, Samples
from balance_tune.datasets.cache import cached, remote_manifest
from balance_tune.datasets.manifest import Identity, Manifest, Shard, data_hash, identity_of
from balance_tune.datasets.modality import Modality, Statistics
from balance_tune.datasets.moments import Moments
from balance_tune.datasets.place import is_remote
from balance_tune.datasets.sharded import Sharded
from balance_tune.datasets.shards import Part, open_shards, sha256, write_shard
from balance_tune.datasets.splits import PARTS, check_leaks, split_hash
from balance_tune.errors import UserError

if TYPE_CHECKING:
    import torch

LISTING = "listing.arrow"
"""The samples of a prepared store by name, with their parts and files."""
OPEN = ("train", "monitor", "val")
"""The parts that training may open."""

_TRAINING = "BALANCE_TUNE_TEST_PART_REFUSED"  # an environment variable, so that processes of this one refuse it too


@dataclass(frozen=True)
class Data:
    """An opened store: its manifest and the parts that were asked for."""

    manifest: Manifest
    parts: dict[str, Part]


@contextmanager
def sealed_test_part() -> Iterator[None]:
    """Refuse to open a test part in this process and those it starts, even with `unseal`, until the context ends.

    Trials run in it, so that neither a method nor a model can look at the test rows while it trains.
    """
    before = os.environ.get(_TRAINING)
    os.environ[_TRAINING] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TRAINING]
        else:
            os.environ[_TRAINING] = before


def store_name(dataset: Dataset) -> str:
    """Return the name of the folder for a store of `dataset`; it changes with all that the samples depend on."""
    return f"{dataset.name}-{identity_of(dataset).hash}"


def build_store(dataset: Dataset, folder: Path | str) -> Manifest:
    """Build the store of `dataset` in `folder`, or return the manifest of the one that is there.

    It is made beside `folder` and renamed: nothing half-written is ever found there, and of several builders at once
    the first one wins. The remains of builders that died on this host are removed.

    Raises:
        UserError: the dataset cannot be read or split, `folder` holds something else, or it cannot be written.
    """
    folder = Path(folder).absolute()
    identity = identity_of(dataset)
    if _occupied(folder):
        return _existing(folder, identity)
    samples = _read(dataset)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remains.remove(folder.parent, _prefix(folder))
        temporary = folder.with_name(_prefix(folder) + remains.signature())
        temporary.mkdir()
        try:
            _write(dataset, identity, samples, temporary)
            _move(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the store {folder} must be writable, but: {error.strerror or error}; free it or choose another root."
        ) from error
    return _existing(folder, identity)  # another builder may have been first


def open_store(
    folder: Path | str,
    parts: Sequence[str] = OPEN,
    device: str | torch.device = "cpu",
    unseal: bool = False,
) -> Data:
    """Open parts of a store as tensors on `device`; a process opens each combination once and keeps it.

    On the CPU nothing is copied: the tensors are views of the memory map. Of a store at a URI the parts that are asked
    for are fetched to this node, once.

    Args:
        folder: of the store, or its URI.
        parts: names of the parts.
        device: where the tensors are.
        unseal: whether `test` may be opened.

    Raises:
        UserError: the folder is no store or is damaged, a part does not exist, or `test` is asked for without `unseal`,
            or while a trial runs in this process.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"a part must be one of {', '.join(PARTS)}, but got `{part}`.")
    if "test" in parts and _TRAINING in os.environ:
        raise UserError(f"a trial must not open the test part, but asked for that of {Path(folder).name}.")
    if "test" in parts and not unseal:
        raise UserError(
            f"the test part of {Path(folder).name} is sealed; only the final evaluation opens it, with unseal=True."
        )
    return _open(str(folder) if is_remote(folder) else str(Path(folder).absolute()), tuple(parts), str(device))


def read_manifest(where: Path | str) -> Manifest:
    """Return the manifest of a store in a folder or at a URI; no shard is touched."""
    return remote_manifest(str(where))[0] if is_remote(where) else _load_manifest(Path(where).absolute())


def verify_store(folder: Path | str) -> Manifest:
    """Recompute what the manifest claims (hashes, counts, split, no leak, finite values), and return it.

    Raises:
        UserError: the first claim that does not hold.
    """
    folder = cached(str(folder), PARTS) if is_remote(folder) else Path(folder).absolute()
    manifest = _load_manifest(folder)
    for shard in files(manifest):
        if (folder / shard.file).is_file() and sha256(folder / shard.file) != shard.sha256:
            raise _damaged(folder, f"the SHA-256 of {shard.file} is not the one its manifest says")
    parts = _load(str(folder), PARTS, "cpu").parts
    order = np.concatenate([part.rows.numpy() for part in parts.values()])
    gaps = len(manifest.skipped)
    if len(np.unique(order)) < len(order) or (not gaps and not np.array_equal(np.sort(order), np.arange(len(order)))):
        raise _damaged(folder, "a row is in two parts, or in none")
    assignment = np.repeat(np.arange(len(PARTS), dtype=np.int8), [len(part) for part in parts.values()])
    if split_hash(manifest.split, assignment[np.argsort(order)]) != manifest.split_hash:
        raise _damaged(folder, "its rows are not split as its manifest says")
    labels = np.concatenate([part.labels.numpy() for part in parts.values()])
    if counts_of(labels, assignment, manifest.classes) != manifest.counts:
        raise _damaged(folder, "its classes are not counted as its manifest says")
    if manifest.split.by_group:
        groups = [part.groups.numpy() for part in parts.values() if part.groups is not None]
        try:
            check_leaks(assignment, np.concatenate(groups))
        except ValueError as error:  # a leak, or parts without groups
            raise _damaged(folder, str(error).rstrip(".")) from error
    if manifest.table.get("duplicates", "ignore") != "ignore":
        _check_files(folder)
    for k, name in enumerate(manifest.modalities):
        for part, opened in parts.items():
            present = None if opened.present is None else opened.present[:, k].numpy()
            lacking = 0 if present is None else int((~present).sum())
            if lacking != manifest.absent.get(part, {}).get(name, 0):
                raise _damaged(folder, f"modality `{name}` of {part} is absent from other rows than its manifest says")
            range_read = _range(_tensors(opened.inputs[name]), present)
            if not np.isfinite(range_read).all():
                raise _damaged(folder, f"modality `{name}` has values that are not finite")
            if range_read != manifest.ranges[part][name]:
                raise _damaged(folder, f"modality `{name}` of {part} has another range than its manifest says")
    return manifest


def _check_files(folder: Path) -> None:
    """Raise a `UserError` where the list of samples, if it is there, has a file in two parts."""
    import pyarrow as pa

    if not (folder / LISTING).is_file():  # a copy of a remote store is without it
        return
    try:
        with pa.memory_map(str(folder / LISTING)) as source:
            listing = pa.ipc.open_file(source).read_all().select(["part", "files"]).to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _damaged(folder, f"its {LISTING} cannot be read") from error
    part_of: dict[str, str] = {}
    for row in listing:
        for file in row["files"]:
            if part_of.setdefault(file, row["part"]) != row["part"]:
                raise _damaged(folder, f"{file} is in {part_of[file]} and {row['part']}")


def _range(tensors: Sequence[Any], present: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Return the range of the samples that are present, of tensors (n_k, *stored) one after the other."""
    arrays, start = [], 0
    for x in tensors:
        values = x.numpy()
        mask = None if present is None else present[start : start + len(values)]
        start += len(values)
        arrays.append(values if mask is None or mask.all() else values[mask])
    return range_of([x for x in arrays if len(x)])


def _tensors(x: Any) -> Sequence[Any]:
    return x.tensors if isinstance(x, Sharded) else (x,)


def range_of(arrays: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the lowest and the highest value; NaN where there is one."""
    return float(min(x.min() for x in arrays)), float(max(x.max() for x in arrays))


def files(manifest: Manifest) -> Sequence[Shard]:
    """Return the store's shards in order."""
    return [shard for part in manifest.shards.values() for shard in part]


def _load(where: str, parts: tuple[str, ...], device: str) -> Data:
    folder = cached(where, parts) if is_remote(where) else Path(where)
    manifest = _load_manifest(folder)
    opened = {}
    for name in parts:
        try:
            part = open_shards(folder, manifest.shards[name], manifest.modalities, label_shape(manifest))
        except UserError as error:
            raise _damaged(folder, str(error)) from error
        opened[name] = _on(part, device)
    return Data(manifest, opened)


_open = lru_cache(maxsize=16)(_load)


def label_shape(manifest: Manifest) -> tuple[int, ...]:
    """Return the shape of one label."""
    return () if manifest.task == "classes" else (len(manifest.classes),)


def _on(part: Part, device: str) -> Part:
    if device == "cpu":
        return part
    return Part(
        inputs={name: x.to(device) for name, x in part.inputs.items()},
        labels=part.labels.to(device),
        rows=part.rows.to(device),
        groups=None if part.groups is None else part.groups.to(device),
        present=None if part.present is None else part.present.to(device),
    )


def _load_manifest(folder: Path) -> Manifest:
    try:
        return Manifest.from_json((folder / "manifest.json").read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _damaged(folder, f"its manifest.json cannot be read ({reason})") from error
    except UserError as error:
        raise _damaged(folder, str(error)) from error


def _damaged(folder: Path, what: str) -> UserError:
    return UserError(f"the store {folder} must be complete, but {what}; delete that folder and run again.")


def _occupied(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{folder} must be a folder that can be read, but: {error.strerror}.") from error


def _existing(folder: Path, identity: Identity) -> Manifest:
    """Return the manifest of the store in `folder` if it is the one wanted and its files have their sizes."""
    manifest = _load_manifest(folder)
    if manifest.identity.hash != identity.hash:
        raise UserError(
            f"the store {folder} must be of {identity.dataset}-{identity.hash}, but is of "
            f"{manifest.dataset}-{manifest.identity.hash}; delete that folder and run again."
        )
    for shard in files(manifest):
        path = folder / shard.file
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise _damaged(folder, f"{shard.file} is missing or has another size than its manifest says")
    return manifest


def _read(dataset: Dataset) -> Samples:
    """Return the checked samples; whatever a user's `read` raises becomes one line."""
    try:
        samples = dataset.read()
        dataset.check_samples(samples)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"dataset `{dataset.name}` must be readable, but {type(dataset).__qualname__}.read() raised "
            f"{type(error).__name__}: {reason}"
        ) from error
    return samples


def _write(dataset: Dataset, identity: Identity, samples: Samples, folder: Path) -> None:
    assignment = dataset.split.assign(samples.labels, samples.groups, samples.parts)
    statistics: dict[str, Statistics] = {}
    inputs: dict[str, NDArray[Any]] = {}
    for name, modality in dataset.modalities.items():
        x = samples.inputs[name].astype(modality.dtype, copy=False)
        if modality.normalise == "baked":
            statistics[name], x = _standardise(x, assignment == 0, modality)
        elif not modality.ids:
            statistics[name] = Moments.of(x[assignment == 0], modality).statistics(modality)
        inputs[name] = x
    shards: dict[str, tuple[Shard, ...]] = {}
    groups: dict[str, list[int]] = {}
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    for index, part in enumerate(PARTS):
        rows = np.flatnonzero(assignment == index)
        group = None if samples.groups is None else samples.groups[rows]
        if group is not None:
            groups[part] = np.unique(group).tolist()
        part_inputs = {name: x[rows] for name, x in inputs.items()}
        ranges[part] = {name: range_of([x]) for name, x in part_inputs.items()}
        shards[part] = (write_shard(folder / f"{part}.arrow", part_inputs, samples.labels[rows], rows, group),)
    manifest = Manifest(
        identity=identity,
        counts=counts_of(samples.labels, assignment, identity.classes),
        groups=groups,
        statistics=statistics,
        ranges=ranges,
        shards=shards,
        split_hash=split_hash(dataset.split, assignment),
        data_hash=data_hash(shards),
        licence=dataset.licence,
        source=dataset.source,
        limits=tuple(dataset.limits),
        recipe=dict(dataset.recipe),
    )
    with (folder / "manifest.json").open("w", encoding="utf-8") as file:
        file.write(manifest.to_json())
        file.flush()
        os.fsync(file.fileno())


def counts_of(labels: NDArray[Any], assignment: NDArray[np.int8], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return part -> class -> rows of it; of several labels the rows that have them, of quantities all rows."""
    counts = {}
    for index, part in enumerate(PARTS):
        part_labels = labels[assignment == index]
        if part_labels.ndim == 1:
            rows_of_class = np.bincount(part_labels, minlength=len(classes)).tolist()
        elif np.isin(labels, (0, 1)).all():
            rows_of_class = part_labels.sum(0).astype(int).tolist()
        else:
            rows_of_class = [len(part_labels)] * len(classes)
        counts[part] = dict(zip(classes, rows_of_class, strict=True))
    return counts


def _standardise(
    x: NDArray[np.float32], train: NDArray[np.bool_], modality: Modality
) -> tuple[Statistics, NDArray[np.float32]]:
    """Return the training rows' mean and standard deviation, and all rows scaled by them."""
    axes = tuple(axis for axis in range(x.ndim) if axis - 1 not in modality.standardise)
    mean = x[train].mean(axes, keepdims=True, dtype=np.float64)
    std = x[train].std(axes, keepdims=True, dtype=np.float64)
    # a constant (a dead pixel row, an unused feature) has rounding for a spread: it is centred, not blown up
    std = np.where(std > 1e-6 * np.maximum(1.0, np.abs(mean)), std, 1.0)
    scaled = ((x - mean) / std).astype(np.float32)
    return Statistics(mean.squeeze(axes).tolist(), std.squeeze(axes).tolist()), scaled


def _move(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`, durably, unless another builder's is there already."""
    remains.sync(temporary)
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "manifest.json").is_file():
            raise
        return
    remains.sync(folder.parent)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.building."
