"""balance-tune best: the winning configuration of each dataset, ready to paste, and its model as files."""

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
    parser.add_argument("--dataset", metavar="D", help="only this dataset")
    parser.add_argument(
        "--export", metavar="DIR", type=Path, help="also write model, card and study file to DIR/<dataset>"
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
    found = [configuration(config, folder.path, row) for row in rows]
    failed = next((row for row in every if row.failure), None)
    if not found and failed is not None:
        raise UserError(
            f"a study must have selected a point, but {failed.arm} of {shown(config.name)} has failed "
            f"({failed.failure}); mend the cause and run it with --retry-failed."
        )
    if not found:
        raise UserError(f"a study must have selected a point, but {shown(config.name)} has not yet; run it on.")
    if args.export is not None:
        from balance_tune.studies.evaluation.export import export_best

        for row, made in zip(rows, found, strict=True):
            made["exported"] = str(export_best(folder, row, made["study"], args.export))
    if args.format == "json":
        print_json(found)
        return 0
    for made in found:
        print(f"# {made['arm']}: {made['why']}")
        print(strict_yaml.dump(made["study"]))
        if "exported" in made:
            print(f"# its model is in {made['exported']}")
    return 0


def configuration(config: StudyConfig, folder: Path, row: LeaderboardRow) -> dict[str, Any]:
    """Return a row's winning point as a study file that runs it alone, and as a trial's own settings."""
    from balance_tune.studies.protocol.arms import arms_of, trial_config

    arm = next(a for a in arms_of(config) if a.name == row.arm)
    trial = trial_config(
        config, arm, row.params or {}, phase="confirm", number=0, seed=config.seed, study_folder=folder, store=folder
    )
    stores = {name: place for name, place in config.data.stores.items() if name == arm.dataset}
    kept = ("dataset", "method", "variant", "training", "model", "modulation")
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
    score = row.search_val if row.val is None else row.val  # without selection seeds
    test = "" if row.test_mean is None else f", sealed test {row.test_mean:.4f} over {len(row.seeds)} seeds"
    delta = "" if row.delta is None else f" ({row.delta:+.4f} over tuned joint)"
    plain = config.as_dict()
    study |= {name: plain[name] for name in ("augment", "missing") if name in plain}
    return {
        "arm": arm.name,
        "why": f"{config.objective} {score:.4f}{test}{delta}",
        "study": study,
        "trial": {name: trial[name] for name in kept},
    }
