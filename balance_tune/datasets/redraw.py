"""Another split of the same store: the rows that a replicate trains on, monitors and is judged by, drawn anew.

The test part is never touched. What is drawn anew is what the recipe drew when the store was built: train, monitor and
val of a stratified or group split; of an official one the parts that were carved out of its training rows. Groups and
copies of a file stay whole. Statistics are those of the new training rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.modality import Modality, Statistics
from balance_tune.datasets.moments import Moments
from balance_tune.datasets.place import Place
from balance_tune.datasets.sharded import Sharded
from balance_tune.datasets.shards import Part
from balance_tune.datasets.splits import PARTS, SplitRecipe, connected, redrawn_hash
from balance_tune.datasets.store import LISTING, OPEN, Data, counts_of, open_store
from balance_tune.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ATTEMPTS = 100  # draws of whole groups, of which each part and each class must get rows
SMALL = 2**28  # bytes of a part up to which its rows are copied, which reads faster than through an index


def drawn_parts(recipe: SplitRecipe) -> tuple[str, ...]:
    """Return the parts among which rows may be drawn anew; fewer than two where the data's authors gave them all."""
    if recipe.kind != "official":
        return OPEN
    return ("train", *(name for name in ("monitor", "val") if getattr(recipe, name)))


def open_redrawn(store: str, seed: int) -> Data:
    """Return train, monitor and val of a store as the split with this seed has them, on the CPU.

    The manifest is that of the new split: counts, groups, statistics and split hash. Large parts stay in their files
    and are read through an index.

    Args:
        store: folder or URI.
        seed: of the split.

    Raises:
        UserError: the store cannot be opened, or no draw gives each class a training row.
    """
    data = open_store(store)
    manifest, names = data.manifest, drawn_parts(data.manifest.split)
    if len(names) < 2:
        return data
    pool = [data.parts[name] for name in names]
    assignment = _assign(manifest, pool, seed, _together(store, manifest, pool))
    parts = dict(data.parts)
    for name in names:
        parts[name] = _selected(pool, np.flatnonzero(assignment == PARTS.index(name)))
    statistics = _statistics(manifest, parts["train"])
    redrawn = _manifest(manifest, parts, statistics, seed)
    return Data(redrawn, {name: restandardised(part, manifest, statistics) for name, part in parts.items()})


def redrawn_split_hash(manifest: Manifest, seed: int) -> str:
    """Return the split hash of the split with this seed, without opening the store."""
    return manifest.split_hash if len(drawn_parts(manifest.split)) < 2 else redrawn_hash(manifest.split_hash, seed)


def restandardised(part: Part, manifest: Manifest, statistics: Mapping[str, Statistics]) -> Part:
    """Return a part of a store with what is stored standardised scaled by other statistics.

    Args:
        part: of the store of `manifest`.
        manifest: whose statistics the stored values were standardised with.
        statistics: modality -> the ones to be used instead, in real values.
    """
    import torch

    inputs: dict[str, Any] = {}
    for m, x in part.inputs.items():
        modality, theirs = manifest.modalities[m], statistics.get(m)
        ours = manifest.statistics.get(m)
        if modality.normalise != "baked" or theirs is None or ours is None or theirs == ours:
            inputs[m] = x
            continue
        mean, std, to_mean, to_std = (
            torch.tensor(np.asarray(v, dtype=np.float64)).reshape(_shape(modality))
            for v in (ours.mean, ours.std, theirs.mean, theirs.std)
        )
        whole: Tensor = x.to("cpu") if isinstance(x, Sharded) else x
        inputs[m] = whole.double().mul(std / to_std).add_((mean - to_mean) / to_std).to(whole.dtype)
    return dataclasses.replace(part, inputs=inputs)


def _shape(modality: Modality) -> list[int]:
    return [n if axis in modality.standardise else 1 for axis, n in enumerate(modality.stored)]


def _assign(manifest: Manifest, pool: list[Part], seed: int, together: NDArray[np.int64] | None) -> NDArray[np.int8]:
    """Return the part of each row of the pool (N,), an index into `PARTS`."""
    recipe = manifest.split
    labels = np.concatenate([part.labels.numpy() for part in pool])
    numbers = [part.groups.numpy() for part in pool if part.groups is not None]
    groups = np.concatenate(numbers) if len(numbers) == len(pool) else None
    if recipe.kind == "official":
        carved = recipe
    else:
        shares = np.array(recipe.fractions[:3]) / sum(recipe.fractions[:3])
        by: Literal["class", "group"] = "group" if recipe.kind == "group" else "class"
        carved = SplitRecipe("official", monitor=float(shares[1]), val=float(shares[2]), carve=by)
    if together is not None and groups is not None and recipe.by_group:
        groups = connected(groups, together)
    for attempt in range(ATTEMPTS):
        draw = dataclasses.replace(carved, seed=seed * ATTEMPTS + attempt)
        assignment = draw.carve_rows(labels, groups, together)
        trained = np.unique(labels[assignment == 0]) if labels.ndim == 1 else None
        filled = all((assignment == PARTS.index(name)).any() for name in drawn_parts(recipe))
        if filled and (trained is None or len(trained) == len(np.unique(labels))):
            return assignment
    raise UserError(
        f"another split of `{manifest.dataset}` must give each class a training row, but none of {ATTEMPTS} draws of "
        "whole groups did; give more groups, or set `splits: fixed`."
    )


def _together(store: str, manifest: Manifest, pool: list[Part]) -> NDArray[np.int64] | None:
    """Return for each row of the pool (N,) the number of the set that must share a part; None where none must.

    The list of samples names the sets.
    """
    if manifest.table.get("duplicates", "ignore") == "ignore":
        return None
    import pyarrow as pa

    try:
        content = Place.of(store).read(LISTING)
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"another split of `{manifest.dataset}` needs the list of its samples, but {LISTING} of its store cannot "
            "be read; prepare it again, or set `splits: fixed`."
        ) from error
    if "together" not in table.column_names:
        raise UserError(
            f"another split of `{manifest.dataset}` needs to know which rows are copies, but its store is of an older "
            "version, which did not write that down; prepare it again, or set `splits: fixed`."
        )
    numbers: dict[str, int] = {}
    of_row = {
        row: numbers.setdefault(name or f"-{row}", len(numbers))
        for row, name in zip(table["row"].to_pylist(), table["together"].to_pylist(), strict=True)
    }
    return np.array([of_row[row] for part in pool for row in part.rows.tolist()], dtype=np.int64)


def _selected(pool: list[Part], rows: NDArray[np.int64]) -> Part:
    """Return the rows (n,) of the pool, which count through its parts, as a part."""
    import torch

    index = torch.from_numpy(rows)
    inputs: dict[str, Any] = {}
    for m in pool[0].inputs:
        pieces = [x for part in pool for x in _tensors(part.inputs[m])]
        view = Sharded(pieces, index)
        inputs[m] = view.to("cpu") if view.nbytes <= SMALL else view
    groups = [part.groups for part in pool if part.groups is not None]
    present = None
    if any(part.present is not None for part in pool):
        everything = [torch.ones(len(part), len(part.inputs), dtype=torch.bool) for part in pool]
        present = torch.cat([e if p.present is None else p.present for p, e in zip(pool, everything, strict=True)])
        present = present[index]
    return Part(
        inputs=inputs,
        labels=torch.cat([part.labels for part in pool])[index],
        rows=torch.cat([part.rows for part in pool])[index],
        groups=torch.cat(groups)[index] if len(groups) == len(pool) else None,
        present=present,
    )


def _tensors(x: Any) -> tuple[Any, ...]:
    return x.tensors if isinstance(x, Sharded) else (x,)


def _statistics(manifest: Manifest, train: Part) -> dict[str, Statistics]:
    """Return the statistics of the training rows in real values, of the modalities that are standardised by them."""
    results: dict[str, Statistics] = {}
    for m, modality in manifest.modalities.items():
        if modality.normalise not in ("baked", "train"):
            if m in manifest.statistics:
                results[m] = manifest.statistics[m]
            continue
        x, present = train.inputs[m], None
        if train.present is not None:
            present = train.present[:, list(train.inputs).index(m)].nonzero().squeeze(1)
        stored = _moments(x, present, modality).statistics(modality)
        results[m] = stored if modality.normalise == "train" else _real(stored, manifest.statistics[m], modality)
    return results


def _moments(x: Any, rows: Tensor | None, modality: Modality) -> Moments:
    """Return the moments of samples, of those at `rows` alone where some are absent; read in pieces."""
    import torch

    rows = torch.arange(len(x)) if rows is None else rows
    return Moments.sum(Moments.of(x[piece].numpy(), modality) for piece in rows.split(1024))


def _real(stored: Statistics, base: Statistics, modality: Modality) -> Statistics:
    """Return in real values what was measured on values that are standardised by `base`."""
    mean, std = np.asarray(base.mean), np.asarray(base.std)
    return Statistics((mean + std * np.asarray(stored.mean)).tolist(), (std * np.asarray(stored.std)).tolist())


def _manifest(manifest: Manifest, parts: Mapping[str, Part], statistics: dict[str, Statistics], seed: int) -> Manifest:
    """Return the manifest of the new split; shards and data hash remain those of the store."""
    labels = np.concatenate([parts[name].labels.numpy() for name in OPEN])
    assignment = np.repeat([PARTS.index(name) for name in OPEN], [len(parts[name]) for name in OPEN]).astype(np.int8)
    counts = {
        **manifest.counts,
        **{k: v for k, v in counts_of(labels, assignment, manifest.classes).items() if k in OPEN},
    }
    groups = dict(manifest.groups)
    absent = dict(manifest.absent)
    for name in OPEN:
        rows = parts[name]
        if rows.groups is not None and manifest.groups:
            groups[name] = np.unique(rows.groups.numpy()).tolist()
        if rows.present is not None:
            lacking = (~rows.present).sum(0).tolist()
            absent[name] = {m: n for m, n in zip(rows.inputs, lacking, strict=True) if n}
    return dataclasses.replace(
        manifest,
        counts=counts,
        groups=groups,
        absent={name: of for name, of in absent.items() if of},
        statistics=statistics,
        split_hash=redrawn_split_hash(manifest, seed),
    )
