"""balance-tune data: prepares a dataset as a store, verifies a store, describes it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option, root_of, root_option, writable_root
from balance_tune.commands.output import columns, duration, print_json
from balance_tune.datasets.address import bare, expanded
from balance_tune.datasets.named_file import shortened
from balance_tune.errors import UserError

if TYPE_CHECKING:
    from balance_tune.datasets.distribution import Distribution
    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.data.prepare import Advance

TABLE = "table"


def add(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))

    def action(name: str, words: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example: balance-tune data {name} {example}"
        subparser: argparse.ArgumentParser = actions.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}.", epilog=epilog, allow_abbrev=False
        )
        root_option(subparser)
        return subparser

    command = action(
        "prepare", "turn a download or a table into a store; run again, it continues", "crema_d --source ~/CREMA-D"
    )
    command.add_argument("name", metavar="NAME", help="a dataset, or `table` for data of your own")
    command.add_argument("--source", metavar="DIR", required=True, help="folder of the download, or the table")
    command.add_argument("--out", metavar="URI", help="folder or URI of the store (default: <root>/data/NAME)")
    command.add_argument("--recipe", metavar="RECIPE", help="ogm, balance_benchmark or mlb; for a table, a YAML file")
    command.add_argument("--workers", metavar="N", type=int, help="number of processes (default: one per core)")
    command.add_argument(
        "--max-corrupt",
        metavar="SHARE",
        type=float,
        help="largest share of samples that may be unreadable (default: 0.05)",
    )
    format_option(command)
    command = action("verify", "check a store: hashes, shapes, ranges, counts, no leak between parts", "crema_d")
    command.add_argument("store", metavar="STORE", help="folder or URI of a store, or a dataset's name")
    command = action("info", "describe a store", "crema_d")
    command.add_argument("store", metavar="STORE", help="folder or URI of a store, or a dataset's name")
    format_option(command)
    command = action(
        "miniature",
        "generate a tiny download in the official layout of a dataset, to try things on",
        "crema_d --out tiny",
    )
    command.add_argument("name", metavar="NAME", help="a dataset")
    command.add_argument("--out", metavar="DIR", required=True, help="a folder that does not exist or is empty")


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    return {"prepare": _prepare, "verify": _verify, "info": _info, "miniature": _make_miniature}[args.action](args)


def _prepare(args: argparse.Namespace) -> int:
    from balance_tune.datasets.distribution import distribution
    from balance_tune.studies.data.prepare import MAX_CORRUPT, prepare

    source = expanded(args.source)
    if args.name == TABLE:
        dataset: Distribution = _table(args.recipe, source)
        if dataset.left_out:
            shown = "; ".join(f"{entry.file}: {entry.reason}" for entry in dataset.left_out[:5])
            more = f"; and {len(dataset.left_out) - 5} more" if len(dataset.left_out) > 5 else ""
            count = "1 row is" if len(dataset.left_out) == 1 else f"{len(dataset.left_out)} rows are"
            print(f"balance-tune: {count} left out: {shown}{more}", file=sys.stderr)
        source = source.parent
    else:
        dataset = distribution(args.name, args.recipe)
    out = (writable_root(args) / "data" / dataset.name).uri if args.out is None else args.out
    with _Progress(dataset.name) as progress:
        manifest = prepare(
            dataset,
            source,
            out,
            workers=args.workers or _cores(),
            max_corrupt=MAX_CORRUPT if args.max_corrupt is None else args.max_corrupt,
            advance=progress,
        )
    _show(args, manifest, bare(str(out)))
    return 0


def _table(recipe: str | None, table: Path) -> Distribution:
    """Return the dataset that a user's table and recipe describe."""
    from balance_tune.datasets.table import Table
    from balance_tune.registry import datasets
    from balance_tune.studies.config import strict_yaml

    if recipe is None:
        raise UserError("`data prepare table` must have --recipe, a YAML file that says what the columns are.")
    dataset = Table(strict_yaml.read(Path(recipe), "a recipe"), table.absolute())
    if dataset.name in datasets().names():
        raise UserError(f"`name` of a recipe must be new, but `{dataset.name}` is a dataset already.")
    return dataset


def _verify(args: argparse.Namespace) -> int:
    from balance_tune.datasets.store import verify_store

    where = _store(args)
    manifest = verify_store(where)
    rows = ", ".join(f"{part} {manifest.rows(part)}" for part in manifest.shards)
    print(f"{bare(where)}: {manifest.dataset}, every hash, shape, range and count as stated ({rows})")
    return 0


def _info(args: argparse.Namespace) -> int:
    from balance_tune.datasets.store import read_manifest

    where = _store(args)
    _show(args, read_manifest(where), bare(where))
    return 0


def _make_miniature(args: argparse.Namespace) -> int:
    from balance_tune.datasets.distribution import distribution

    folder = expanded(args.out)
    dataset = distribution(args.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--out must be a folder that does not exist or is empty, but {folder} is not.")
    folder.mkdir(parents=True, exist_ok=True)
    dataset.miniature(folder)
    print(f"{folder}: {dataset.layout}")
    return 0


def _store(args: argparse.Namespace) -> str:
    """Return the store that was named, as a place or as a dataset."""
    from balance_tune.datasets.place import Place
    from balance_tune.registry import datasets
    from balance_tune.studies.data.stores import announce, store_of

    text: str = args.store
    if "/" not in text and not Path(text).exists():
        announce([text], {}, root_of(args) / "data")
    if "/" not in text and text in datasets().names():
        return store_of(text, {}, root_of(args) / "data")[0]
    if not Place.of(text).holds("manifest.json"):
        raise UserError(f"a store must be a folder or URI with a manifest.json, or a dataset's name, but got {text}.")
    return text


def _show(args: argparse.Namespace, manifest: Manifest, where: str) -> None:
    info = describe(manifest, where)
    print_json(info) if args.format == "json" else print(_card(info))


def describe(manifest: Manifest, where: str) -> dict[str, Any]:
    """Return the description of a store as plain data."""
    from balance_tune.datasets.augmentation import described

    return {
        "store": where,
        "dataset": manifest.dataset,
        "version": manifest.version,
        "task": manifest.task,
        "classes": list(manifest.classes),
        "rows": {part: manifest.rows(part) for part in manifest.shards},
        "counts": manifest.counts,
        "transforms": {name: described(m) for name, m in manifest.modalities.items()},
        "absent": manifest.absent,
        "groups": {part: len(groups) for part, groups in manifest.groups.items()},
        "modalities": {
            name: {
                "stored": list(m.stored),
                "dtype": m.dtype,
                "model_sees": list(m.shape),
                "encoder": m.encoder,
                "range": [bound * m.unit for bound in manifest.ranges["train"][name]],
            }
            for name, m in manifest.modalities.items()
        },
        "bytes": sum(shard.bytes for shards in manifest.shards.values() for shard in shards),
        "shards": sum(len(shards) for shards in manifest.shards.values()),
        "skipped": [{"sample": s.sample, "file": s.file, "reason": s.reason} for s in manifest.skipped],
        "split_hash": manifest.split_hash,
        "data_hash": manifest.data_hash,
        "licence": manifest.licence,
        "source": manifest.source,
        "limits": list(manifest.limits),
    }


def _card(info: dict[str, Any]) -> str:
    groups = info["groups"]
    absent = info["absent"]
    without = [m for m in info["modalities"] if any(m in lacking for lacking in absent.values())]
    parts = [
        (
            part,
            f"{n:,}",
            f"{groups[part]:,}" if part in groups else "",
            *(f"{absent.get(part, {}).get(m, 0):,}" for m in without),
        )
        for part, n in info["rows"].items()
    ]
    modalities = [
        (
            name,
            " x ".join(map(str, m["stored"])),
            m["dtype"],
            " x ".join(map(str, m["model_sees"])),
            f"{m['range'][0]:.4g} to {m['range'][1]:.4g}",
        )
        for name, m in info["modalities"].items()
    ]
    classes = ", ".join(info["classes"][:12]) + (", ..." if len(info["classes"]) > 12 else "")
    skipped = info["skipped"]
    sections = [
        f"{info['dataset']} (version {info['version']}), {info['store']}: {info['bytes'] / 2**20:,.1f} MiB in "
        f"{info['shards']} shards",
        columns(
            ("part", "samples", "groups", *(f"without {m}" for m in without)), parts, right=range(1, 3 + len(without))
        ),
        columns(("modality", "stored", "type", "the model sees", "training values"), modalities),
        columns(
            ("modality", "in training", "in evaluation"),
            [(name, m["training"], m["evaluation"]) for name, m in info["transforms"].items()],
        ),
        f"{len(info['classes'])} {'classes' if info['task'] == 'classes' else info['task']}: {classes}",
        f"{len(skipped)} {'sample was' if len(skipped) == 1 else 'samples were'} left out:\n"
        + "\n".join(f"- {shortened(entry['file'])}: {entry['reason']}" for entry in skipped[:10])
        + ("\n- ..." if len(skipped) > 10 else "")
        if skipped
        else "",
        f"Split {info['split_hash']}, data {info['data_hash'][:12]}",
        f"Licence: {info['licence']}\nSource: {info['source']}",
        "Known limits:\n" + "\n".join(f"- {limit}" for limit in info["limits"]) if info["limits"] else "",
    ]
    return "\n\n".join(section for section in sections if section)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Progress:
    """A bar with the time left in a terminal, a line every tenth elsewhere; on standard error."""

    def __init__(self, name: str) -> None:
        import time

        self._name, self._clock, self._began, self._tenth = name, time.monotonic, time.monotonic(), -1
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Advance:
        return self._advance

    def __exit__(self, *_: object) -> None:
        if self._live and self._tenth >= 0:
            print(file=sys.stderr)

    def _advance(self, done: int, total: int, before: int) -> None:
        tenth = 10 * done // total
        if tenth == self._tenth and not self._live:
            return
        self._tenth = tenth
        remaining = ""
        if before < done < total:
            seconds = (self._clock() - self._began) / (done - before) * (total - done)
            remaining = f", {duration(seconds)} left"
        line = f"preparing {self._name}: {done:,} of {total:,} samples{remaining}"
        print(f"\r{line:<79}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)
