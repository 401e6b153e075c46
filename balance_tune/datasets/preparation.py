"""From a plan to a store: what is written into which file, one file of samples, and the manifest of all.

A store under preparation holds `preparing.json` (what it is going to be), finished shards, and beside each an outcome
(`<shard>.json`) that says what is in it. The manifest comes last; only with it is the folder a store. Which rows lie in
which shard follows from the list of samples alone, so that neither the number of workers nor an interruption shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import remains
from balance_tune.datasets.distribution import Distribution, Item, Unreadable
from balance_tune.datasets.manifest import Manifest, Shard, Skipped, data_hash
from balance_tune.datasets.moments import Moments
from balance_tune.datasets.named_file import shortened, size_of, unusable
from balance_tune.datasets.place import Place
from balance_tune.datasets.pointers import is_pointer
from balance_tune.datasets.preparation_plan import Chunk, Plan
from balance_tune.datasets.shards import write_shard
from balance_tune.datasets.splits import PARTS, check_leaks, split_hash
from balance_tune.datasets.store import LISTING, counts_of, range_of
from balance_tune.errors import UserError

PREPARING, MANIFEST = "preparing.json", "manifest.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a chunk; `shard` is None where not one of its samples could be read."""

    shard: Shard | None
    rows: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    moments: Mapping[str, Moments]
    ranges: Mapping[str, tuple[float, float]]
    absent: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the outcome as JSON bytes."""
        moments = {
            name: {"count": m.count, "total": m.total.tolist(), "squares": m.squares.tolist(), "pivot": m.pivot}
            for name, m in self.moments.items()
        }
        return json.dumps({**asdict(self), "moments": moments}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Outcome:
        """Return the outcome that `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            shard=None if raw["shard"] is None else Shard(**raw["shard"]),
            rows=tuple(raw["rows"]),
            skipped=tuple(Skipped(**entry) for entry in raw["skipped"]),
            moments={
                name: Moments(m["count"], np.asarray(m["total"]), np.asarray(m["squares"]), m["pivot"])
                for name, m in raw["moments"].items()
            },
            ranges={name: (low, high) for name, (low, high) in raw["ranges"].items()},
            absent=raw.get("absent", {}),
        )


def begin(plan: Plan, place: Place) -> Manifest | None:
    """Make `place` ready for this preparation, or go on with it there; return the manifest if it is finished.

    Raises:
        UserError: something else lies there.
    """
    if place.local is not None and place.local.is_dir():
        remains.remove(place.local)
    elif place.local is not None and (place.local.exists() or place.local.is_symlink()):
        raise UserError(f"a store must be a folder, but {place} is none; choose another --out.")
    other = f"{place} must be empty or of this preparation, but holds"
    names = place.names()
    if MANIFEST in names:
        manifest = Manifest.from_json(place.read(MANIFEST).decode())
        if manifest.identity.hash != plan.identity.hash:
            raise UserError(
                f"{other} another store, of {manifest.dataset}-{manifest.identity.hash}; delete it or choose another "
                "--out."
            )
        return manifest
    if PREPARING in names:
        was = _begun(place)
        if was != f"{plan.identity.dataset}-{plan.identity.hash}":
            raise UserError(
                f"{other} an unfinished one of another source, recipe or version ({was}); "
                "delete it or choose another --out."
            )
        return None
    if [name for name in names if not name.startswith(".")]:
        raise UserError(f"{other} other files ({names[0]}); choose another --out.")
    begun = {"dataset": plan.identity.dataset, "identity": plan.identity.hash}
    if place.local is not None:
        place.local.mkdir(parents=True, exist_ok=True)
    place.write(PREPARING, json.dumps(begun).encode())
    return None


def _begun(place: Place) -> str:
    try:
        was = json.loads(place.read(PREPARING))
        return f"{was['dataset']}-{was['identity']}"
    except (ValueError, KeyError, TypeError):
        return f"its {PREPARING} is damaged"


def finished(chunk: Chunk, place: Place) -> Outcome | None:
    """Return the outcome of a chunk that was written before, or None."""
    if place.size(chunk.outcome) is None:
        return None
    try:
        outcome = Outcome.from_json(place.read(chunk.outcome))
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged: the chunk is written again
        return None
    return outcome if outcome.shard is None or place.size(chunk.file) == outcome.shard.bytes else None


def write_chunk(dataset: Distribution, source: Path, chunk: Chunk, place: Place) -> Outcome:
    """Read a chunk's samples and write its shard, then its outcome; runs anywhere the source can be read.

    Args:
        dataset: reads the samples.
        source: the distribution's folder, or the table.
        chunk: the samples and the shard's name.
        place: of the store.

    Raises:
        UserError: a reader failed for a reason that lies in no file, or the place cannot be written.
    """
    positions: list[int] = []
    read: dict[str, list[NDArray[Any]]] = {name: [] for name in dataset.modalities}
    present: dict[str, list[bool]] = {name: [] for name in dataset.modalities}
    skipped = []
    for position, item in enumerate(chunk.items):
        try:
            sample = _loaded(dataset, source, item)
        except Unreadable as error:
            file = Path(error.file)
            name = str(file.relative_to(source)) if file.is_relative_to(source) else str(file)
            skipped.append(Skipped(item.sample, name, error.reason + dataset.where(item, source / name)))
            continue
        positions.append(position)
        for name, x in sample.items():
            read[name].append(x)
            present[name].append(name not in item.absent)
    there = {name: np.array(flags, dtype=np.bool_) for name, flags in present.items()}
    try:
        inputs = {name: np.stack(x) for name, x in read.items() if x}
        outcome = _written(dataset, chunk, positions, inputs, there, tuple(skipped), place)
        place.write(chunk.outcome, outcome.to_json())
    except OSError as error:
        raise UserError(f"the store {place} must be writable, but: {error.strerror or error}.") from error
    return outcome


def _loaded(dataset: Distribution, source: Path, item: Item) -> dict[str, NDArray[Any]]:
    for file in item.files:
        path = source / file
        if reason := unusable(path):
            raise Unreadable(path, reason)
        if size_of(path) == 0:
            raise Unreadable(path, "it has no bytes")
    try:
        sample = dataset.load(source, item)
    except (Unreadable, UserError):
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"reading sample `{item.sample}` of `{dataset.name}` raised {type(error).__name__}: {reason}"
        ) from error
    for name, modality in dataset.modalities.items():
        if name in item.absent:
            sample[name] = np.zeros(modality.stored, dtype=modality.dtype)
            continue
        x = sample[name]
        if x.shape != modality.stored or x.dtype != modality.dtype:
            raise UserError(
                f"modality `{name}` of `{dataset.name}` must be {modality.dtype} of shape {modality.stored}, but "
                f"`{item.sample}` was read as {x.dtype} of shape {x.shape}."
            )
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise Unreadable(source / (item.files or (item.sample,))[0], f"its {name} has values that are not finite")
    return {name: sample[name] for name in dataset.modalities}


def _written(
    dataset: Distribution,
    chunk: Chunk,
    positions: list[int],
    inputs: dict[str, NDArray[Any]],
    present: dict[str, NDArray[np.bool_]],
    skipped: tuple[Skipped, ...],
    place: Place,
) -> Outcome:
    import tempfile

    rows = np.array([chunk.rows[k] for k in positions], dtype=np.int64)
    if not positions:
        return Outcome(None, (), skipped, {}, {})
    of = None if chunk.groups is None else np.array([chunk.groups[k] for k in positions], dtype=np.int64)
    kind = np.int64 if dataset.task == "classes" else np.float32
    labels = np.array([chunk.items[k].label for k in positions], dtype=kind)
    with tempfile.TemporaryDirectory() as folder:
        path = place.temporary(chunk.file) if place.local is not None else Path(folder) / chunk.file
        try:
            mask = np.stack(list(present.values()), axis=1)
            shard = write_shard(path, inputs, labels, rows, of, None if mask.all() else mask)
            place.adopt(chunk.file, path)
        finally:
            path.unlink(missing_ok=True)
    moments = {}
    there = {name: x if present[name].all() else x[present[name]] for name, x in inputs.items()}
    if chunk.part == "train":
        moments = {n: Moments.of(there[n], m) for n, m in dataset.modalities.items() if not m.ids}
    return Outcome(
        Shard(chunk.file, shard.rows, shard.bytes, shard.sha256),
        tuple(rows.tolist()),
        skipped,
        moments,
        {name: range_of([x]) for name, x in there.items() if len(x)},
        {name: int((~flags).sum()) for name, flags in present.items() if not flags.all()},
    )


def check_losses(plan: Plan, outcomes: Iterable[Outcome], most: float) -> None:
    """Raise a `UserError` where more than the share `most` of all samples could not be read.

    Args:
        plan: as of `plan_of`.
        outcomes: of all chunks.
        most: the share, from 0 to 1.
    """
    unreadable = [entry for outcome in outcomes for entry in outcome.skipped]
    if len(unreadable) > most * len(plan.items):
        share = len(unreadable) / len(plan.items)
        wrong = [entry for entry in unreadable if is_pointer(entry.reason)]
        first = (wrong or unreadable)[0]
        advice = "get the files" if wrong else "fix the source, or run again with a higher --max-corrupt"
        raise UserError(
            f"at most {most:.1%} of the samples may be unreadable, but {len(unreadable)} of {len(plan.items)} are "
            f"({share:.1%}), the first {shortened(first.file)}: {first.reason}; {advice}."
        )


def _check_classes(plan: Plan, before: NDArray[Any], after: NDArray[Any]) -> None:
    """Raise a `UserError` where a class has lost all its training rows.

    Args:
        plan: as of `plan_of`.
        before: labels of the training rows of the plan.
        after: those of the ones that could be read.
    """
    if plan.dataset.task != "classes":
        return
    missing = np.setdiff1d(before, after).tolist()
    if missing:
        names = ", ".join(f"`{plan.identity.classes[k]}`" for k in missing[:8])
        raise UserError(
            f"every class needs a training row that can be read, but {names}{' ...' if missing[8:] else ''} "
            f"{'has' if len(missing) == 1 else 'have'} none left; fix the source, or leave its rows out."
        )


def finish(plan: Plan, outcomes: Sequence[Outcome], place: Place, most: float) -> Manifest:
    """Write the list of samples and the manifest, remove what only the preparation needed, return the manifest.

    Args:
        plan: as of `plan_of`.
        outcomes: of all chunks, in their order.
        place: of the store.
        most: share of samples that may be unreadable.

    Raises:
        UserError: too many samples could not be read, or a part or a class has lost all of its own.
    """
    check_losses(plan, outcomes, most)
    rows = np.array(sorted(row for outcome in outcomes for row in outcome.rows), dtype=np.int64)
    kind = np.int64 if plan.dataset.task == "classes" else np.float32
    labels = np.array([plan.items[row].label for row in rows], dtype=kind)
    assignment = plan.assignment[rows]
    planned = np.array([item.label for item in plan.items], dtype=kind)
    _check_classes(plan, planned[plan.assignment == 0], labels[assignment == 0])
    counts = counts_of(labels, assignment, plan.identity.classes)
    shards: dict[str, tuple[Shard, ...]] = {}
    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    groups: dict[str, list[int]] = {}
    absent: dict[str, dict[str, int]] = {}
    for index, part in enumerate(PARTS):
        results = [
            o for chunk, o in zip(plan.chunks, outcomes, strict=True) if chunk.part == part and o.shard is not None
        ]
        if not results:
            raise UserError(f"every part needs a sample that can be read, but {part} has none left.")
        shards[part] = tuple(outcome.shard for outcome in results if outcome.shard is not None)
        for name in plan.dataset.modalities:
            bounds = [o.ranges[name] for o in results if name in o.ranges]
            if not bounds:
                raise UserError(f"every modality must be in a row of every part, but `{name}` is in none of {part}.")
            ranges.setdefault(part, {})[name] = (min(low for low, _ in bounds), max(high for _, high in bounds))
            lacking = sum(o.absent.get(name, 0) for o in results)
            if lacking:
                absent.setdefault(part, {})[name] = lacking
        if plan.groups is not None:
            groups[part] = np.unique(plan.groups[rows[assignment == index]]).tolist()
    if plan.dataset.split.by_group and plan.groups is not None:
        check_leaks(assignment, plan.groups[rows])
    train = [o for chunk, o in zip(plan.chunks, outcomes, strict=True) if chunk.part == "train" and o.shard is not None]
    statistics = {
        name: Moments.sum([o.moments[name] for o in train]).statistics(modality)
        for name, modality in plan.dataset.modalities.items()
        if not modality.ids
    }
    manifest = Manifest(
        identity=plan.identity,
        counts=counts,
        groups=groups,
        statistics=statistics,
        ranges=ranges,
        shards=shards,
        split_hash=split_hash(plan.identity.split, assignment),
        data_hash=data_hash(shards),
        licence=plan.dataset.licence,
        source=plan.dataset.source,
        limits=(*plan.dataset.limits, *plan.dataset.remarks(plan.items)),
        recipe=dict(plan.dataset.recipe),
        raw=dict(plan.dataset.raw),
        skipped=(*plan.dataset.left_out, *(entry for outcome in outcomes for entry in outcome.skipped)),
        table=dict(plan.dataset.written),
        absent=absent,
    )
    place.write(LISTING, _listing(plan))
    place.write(MANIFEST, manifest.to_json().encode())
    for chunk in plan.chunks:
        place.delete(chunk.outcome)
    place.delete(PREPARING)
    return manifest


def _listing(plan: Plan) -> bytes:
    """Return the names, parts, groups, sets of copies and files of all rows, labels left out, as an Arrow file."""
    import pyarrow as pa

    table = pa.table(
        {
            "row": pa.array(range(len(plan.items)), pa.int64()),
            "sample": [item.sample for item in plan.items],
            "part": [PARTS[index] for index in plan.assignment],
            "group": [item.group for item in plan.items],
            "together": [item.together for item in plan.items],
            "files": pa.array([list(item.files) for item in plan.items], pa.list_(pa.string())),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
