"""balance-tune best: the winning configuration of each dataset, as a study file, and its model as files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.commands.arguments import format_option, root_option, study_argument, study_folder
from balance_tune.commands.output import print_json
from balance_tune.errors import UserError
from balance_tune.studies.wording import did_you_mean, shown

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.results.leaderboard import LeaderboardRow


def add(parser: argparse.ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument("--dataset", metavar="D", help="this dataset only")
    parser.add_argument(
        "--export", metavar="DIR", type=Path, help="also write the model, its card and the study file to DIR/<dataset>"
    )
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    from balance_tune.studies.config import strict_yaml
    from balance_tune.studies.config.reader import stored_config
    from balance_tune.studies.data.stores import check_known
    from balance_tune.studies.results.leaderboard import build

    folder = study_folder(args)
    config = stored_config(folder.path)
    check_known(config.datasets, config.data.stores, folder.parent / "data")
    if args.dataset is not None and args.dataset not in config.datasets:
        raise UserError(f"{shown(args.dataset)} is not in this study.{did_you_mean(args.dataset, config.datasets)}")
    every = build(folder)
    rows = [row for row in every if row.chosen and args.dataset in (None, row.dataset)]
    rows = [row for row in rows if row.params is not None]
    points = [configuration(config, folder.path, row) for row in rows]
    failed = next((row for row in every if row.failure), None)
    if not points and failed is not None:
        raise UserError(
            f"a study must have selected a point, but {failed.arm} of {shown(config.name)} has failed "
            f"({failed.failure}); fix the cause and run it with --retry-failed."
        )
    if not points:
        raise UserError(f"a study must have selected a point, but {shown(config.name)} has not yet; run it again.")
    if args.export is not None:
        from balance_tune.studies.evaluation.export import export_best

        for row, point in zip(rows, points, strict=True):
            point["exported"] = str(export_best(folder, row, point["study"], args.export))
    if args.format == "json":
        print_json(points)
        return 0
    for point in points:
        print(f"# {point['arm']}: {point['why']}")
        print(strict_yaml.dump(point["study"]))
        if "exported" in point:
            print(f"# its model is in {point['exported']}")
    return 0


def configuration(config: StudyConfig, folder: Path, row: LeaderboardRow) -> dict[str, Any]:
    """Return a row's winning point as a study file that runs it alone, and as a trial's own settings."""
    from balance_tune.studies.protocol.arms import arms_of, trial_config

    arm = next(a for a in arms_of(config) if a.name == row.arm)
    trial = trial_config(
        config, arm, row.params or {}, phase="confirm", number=0, seed=config.seed, study_folder=folder, store=folder
    )
    stores = {name: place for name, place in config.data.stores.items() if name == arm.dataset}
    fields = ("dataset", "method", "variant", "training", "model", "modulation")
    settings = trial["modulation"]
    study: dict[str, Any] = {
        "name": f"{config.name}-best-{arm.dataset}"[:100],
        "datasets": [arm.dataset],
        "methods": [arm.method if arm.alias is None else {"name": arm.alias, "method": arm.method, "set": settings}],
        "model": trial["model"],
        "training": trial["training"],
        **({"data": {"stores": stores}} if stores else {}),
        "search": {"trials": 1, "space": {} if arm.alias else {arm.method: settings}},
    }
    values = (row.val_confirm, row.val, row.search_val)  # without selection seeds there is no `row.val`
    val = next((f"{value:.4f}" for value in values if value is not None), "unknown")
    test = "" if row.test_mean is None else f", sealed test {row.test_mean:.4f} over {len(row.seeds)} seeds"
    delta = "" if row.delta is None else f" ({row.delta:+.4f} over tuned joint)"
    plain = config.as_dict()
    study |= {name: plain[name] for name in ("augment", "missing") if name in plain}
    return {
        "arm": arm.name,
        "why": f"{config.objective} {val}{test}{delta}",
        "study": study,
        "trial": {name: trial[name] for name in fields},
    }
