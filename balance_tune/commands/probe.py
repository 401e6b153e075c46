"""balance-tune probe: fits linear heads on the frozen features of a finished trial, scored on validation rows."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option, root_option, study_argument, study_folder
from balance_tune.commands.output import columns, print_json
from balance_tune.errors import UserError
from balance_tune.studies.wording import did_you_mean, shown

if TYPE_CHECKING:
    from balance_tune.models.multimodal import MultimodalModel
    from balance_tune.studies.storage.records import TrialRecord
    from balance_tune.studies.storage.study_folder import StudyFolder

PHASES = ("search", "select", "confirm")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a trial's number, but got `{text[:20]}`")
    return int(text)


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument("arm", metavar="ARM", help="dataset/method, such as av_digits/mlb")
    parser.add_argument("number", metavar="NUMBER", type=_number, help="number of the trial within its phase")
    parser.add_argument("--phase", choices=PHASES, default="search", help="phase of the trial (default: search)")
    parser.add_argument(
        "--replicate", metavar="K", type=_number, default=1, help="replicate of the trial, counted from 1 (default: 1)"
    )
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    folder = study_folder(args)
    record = _record(folder, args)
    from balance_tune.datasets.redraw import open_redrawn
    from balance_tune.datasets.store import open_store
    from balance_tune.studies.evaluation.retrain import store_for
    from balance_tune.studies.storage import trial_file
    from balance_tune.training.probe import linear_probe

    store, _ = store_for(folder.parent, record.dataset, folder.name)
    seed = (trial_file.read((folder / str(record.attrs.get("folder", ""))).path) or {}).get("split_seed")
    data = open_store(store) if seed is None else open_redrawn(store, seed)
    if data.manifest.task != "classes":
        raise UserError(f"a probe needs classes, but {record.dataset} is a {data.manifest.task} task.")
    model, trained = _model(folder, record, store)
    accuracies = linear_probe(model, data)
    best = record.attrs.get("metrics") or {}
    result = {"arm": record.arm, "phase": record.phase, "number": record.number, **accuracies}
    result |= {name: best[name] for name in best if name.startswith("val/accuracy")}
    if args.format == "json":
        print_json(result)
        return 0
    if trained:
        print("balance-tune: its checkpoint is not kept; the trial was trained again.", file=sys.stderr)
    print(
        f"{record.arm} {record.phase} {record.number}: accuracy on validation in %, linear heads on frozen features\n"
    )
    print(_table(result, list(model.modalities)))
    return 0


def _record(folder: StudyFolder, args: argparse.Namespace) -> TrialRecord:
    from balance_tune.studies.storage.records import read_records

    records = read_records(folder.path)
    arms = sorted({r.arm for r in records})
    if args.arm not in arms:
        raise UserError(f"an arm must be one of the study, but got {shown(args.arm)}.{did_you_mean(args.arm, arms)}")
    candidates = [r for r in records if (r.arm, r.phase, r.replicate + 1) == (args.arm, args.phase, args.replicate)]
    match = next((r for r in candidates if r.number == args.number), None)
    if match is None:
        numbers = ", ".join(str(r.number) for r in candidates[:20]) or "none"
        raise UserError(f"{args.arm} has no {args.phase} trial {args.number}; there are: {numbers}.")
    if not match.finished or match.epochs < 1:
        raise UserError(f"a trial must have finished an epoch to be probed, but {args.arm} {args.number} has not.")
    return match


def _model(folder: StudyFolder, record: TrialRecord, store: str) -> tuple[MultimodalModel, bool]:
    """Return the model of the trial's best epoch, and whether it had to be trained again for that."""
    from balance_tune.studies.config.reader import stored_config
    from balance_tune.studies.evaluation.retrain import retrain
    from balance_tune.studies.protocol.arms import arms_of, trial_config
    from balance_tune.studies.tracking.artifacts import bring_weights
    from balance_tune.training.checkpoint import load_best

    place = folder / str(record.attrs.get("folder", ""))
    if bring_weights(place):
        return load_best(place.path), False
    config = stored_config(folder.path)
    arm = next(a for a in arms_of(config) if a.name == record.arm)
    trial: dict[str, Any] = trial_config(
        config, arm, record.params, phase=record.phase, number=record.number, seed=record.seed or 0,
        study_folder=folder.path, store=store, replicate=record.replicate,
    )  # fmt: skip
    _, model = retrain(trial, store, record.epochs)
    return model.eval(), True


def _table(result: dict[str, Any], modalities: list[str]) -> str:
    rows = [("all", result["probe/accuracy"], None, result.get("val/accuracy"))]
    rows += [
        (m, result[f"probe/accuracy/{m}"], result[f"probe/slice_accuracy/{m}"], result.get(f"val/accuracy/{m}"))
        for m in modalities
    ]
    percents = [(name, *("-" if v is None else f"{100 * v:.1f}" for v in values)) for name, *values in rows]
    return columns(("input", "own head", "share of joint head", "as trained"), percents, right=range(1, 4))
