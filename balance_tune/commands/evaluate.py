"""balance-tune evaluate: evaluates a stored model on a part of a dataset, or on a table of files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option, root_of, root_option
from balance_tune.commands.output import columns, print_json
from balance_tune.errors import UserError
from balance_tune.studies.wording import shown
from balance_tune.tasks import METRICS, Objective

if TYPE_CHECKING:
    from balance_tune.studies.storage.study_folder import StudyFolder
    from balance_tune.studies.tracking.served import Served

SPLITS = ("train", "monitor", "val", "test")
MOST_CLASSES = 40  # shown in the table; JSON has them all


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="models:/STUDY-DATASET@champion, runs:/ID/PATH, or a folder")
    parser.add_argument(
        "--data",
        metavar="D",
        required=True,
        help="a dataset, the folder or URI of its store, or a CSV or Parquet table of files with a column `label`",
    )
    parser.add_argument("--split", choices=SPLITS, help="part of the dataset (default: val)")
    parser.add_argument("--unseal", action="store_true", help="open the sealed test part; this is recorded")
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.datasets.place import Place
    from balance_tune.registry import datasets
    from balance_tune.studies.data.stores import MANIFEST, announce
    from balance_tune.studies.evaluation.stored_model import stored_model

    root, table = root_of(args), Path(args.data)
    is_store = "/" in args.data and not table.is_file() and Place.of(args.data).holds(MANIFEST)
    if not is_store and not table.is_file() and announce([args.data], {}, root / "data"):
        names = ", ".join(datasets().names())
        raise UserError(
            f"--data must be a dataset ({names}), one of your own in {root.display_uri('data')}, or a table's file, "
            f"but got {shown(args.data)}."
        )
    with stored_model(args.model, root) as served:
        if is_store or args.data in datasets().names():
            result = _on_dataset(args, served, root, is_store)
        elif args.split or args.unseal:
            raise UserError("a table of files has no parts; leave --split and --unseal out.")
        else:
            from balance_tune.studies.data.file_table import FileTable
            from balance_tune.studies.evaluation.assessment import assess_table

            opened = FileTable(
                table,
                served.modalities,
                served.classes,
                served.task,
                served.words,
                raw=served.known.get("raw"),
                notation=served.known.get("table"),
            )
            if opened.by_index:
                first = ", ".join(f"{k}: {name}" for k, name in enumerate(served.classes[:4]))
                print(
                    f"balance-tune: the labels of {table} are read as indices of the classes ({first}).",
                    file=sys.stderr,
                )
            result = {"data": str(table)} | assess_table(served, opened)
    result = {"model": args.model, **result}
    print_json(result) if args.format == "json" else print(_as_text(result))
    return 0


def _on_dataset(args: argparse.Namespace, served: Served, root: StudyFolder, is_store: bool) -> dict[str, Any]:
    from balance_tune.datasets.store import read_manifest
    from balance_tune.studies.data.stores import store_of
    from balance_tune.studies.evaluation.assessment import assess_part
    from balance_tune.studies.storage import unsealed
    from balance_tune.studies.tracking.origin import code_version

    split = args.split or "val"
    if split == "test" and not args.unseal:
        raise UserError(
            "the test part is sealed, so that nothing is chosen by it; say --unseal to open it, which is recorded in "
            f"{root.display_uri(unsealed.FILE)}."
        )
    store, manifest = (args.data, read_manifest(args.data)) if is_store else store_of(args.data, {}, root / "data")
    result = {"data": args.data, "split": split} | assess_part(served, store, split, unseal=args.unseal)
    if manifest.split_hash != served.known["split_hash"]:
        print(
            f"balance-tune: the model was trained on another split ({served.known['split_hash']}) than this one "
            f"({manifest.split_hash}): it may have been trained on rows that it is now asked for.",
            file=sys.stderr,
        )
    if split == "test":
        metric = METRICS[served.task][0]
        entry = {"model": args.model, "dataset": manifest.dataset, "rows": result["rows"]}
        entry |= {"split_hash": manifest.split_hash}
        unsealed.record(root, {"code_version": code_version(), **entry, metric: result[metric]})
    return result


def _as_text(result: dict[str, Any]) -> str:
    place = f"{result['data']} {result['split']}" if "split" in result else result["data"]
    metrics = [name for name, value in result.items() if isinstance(value, float)]
    inputs = {"all": result, **result["modalities"]}
    summary = columns(
        ("input", "rows", *metrics),
        [
            (name, str(row["rows"]), *(Objective(metric).text(row[metric]) for metric in metrics))
            for name, row in inputs.items()
        ],
        right=range(1, len(metrics) + 2),
    )
    some = result["classes"][:MOST_CLASSES]
    measured = [name for name in some[0] if name not in ("class", "rows")]
    classes = columns(
        ("class", "rows", *measured),
        [(row["class"], str(row["rows"]), *(Objective(name).text(row[name]) for name in measured)) for row in some],
        right=range(1, len(measured) + 2),
    )
    rest = len(result["classes"]) - len(some)
    more = f"\n... and {rest} more; -f json tells all." if rest else ""
    ece = "; ece is the expected calibration error" if "ece" in result else ""
    return f"{result['model']} on {place}; shares in %{ece}\n\n{summary}\n\n{classes}{more}"
