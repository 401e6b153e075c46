"""Real small studies with a placebo: how often a verdict is wrong, whether tuning hurts, and what is found.

python -m benchmarks.real_studies [--design replicates] [--studies 20] [--first 0] [--out FILE]

Each study runs through the product's queue, early stopping, choice, sealed evaluation and leaderboard, on embedded
data, with a seed and splits of its own, one trial at a time in this process, which needs no Ray. Its rows are a JSON
line of `--out`; a run goes on where an earlier one was cut off. At the end the shares and their intervals are printed,
as Markdown for REAL_STUDIES.md. With `--design search` a study is one search and ten confirmation seeds on one split,
at about as many trainings an arm: how studies were made before they had replicates.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from balance_tune.datasets.store import build_store
from balance_tune.registry import datasets
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.early_stopping.pruning_log import PruningLog
from balance_tune.studies.execution.sealed import evaluate_sealed
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from balance_tune.studies.results import leaderboard
from balance_tune.studies.search.study_queue import StudyQueue
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from balance_tune.tasks import Objective
from benchmarks.in_process import train

DATASETS = ("multiple_features", "av_digits")
SHOWN = "mlb"  # whose difference to joint is known to be there
DESIGNS: dict[str, dict[str, Any]] = {
    "replicates": {
        "methods": ["joint", "ogm_ge", "opm", "mlb"], "replicates": 5, "search": {"trials": 4},
        "select": {"points": 1, "seeds": 1}, "confirm": {"seeds": 1, "default_seeds": 1},
    },
    "search": {
        "methods": ["joint", "mlb"], "replicates": 1, "search": {"trials": 20},
        "select": {"points": 3, "seeds": 2}, "confirm": {"seeds": 10, "default_seeds": 5},
    },
}  # fmt: skip
ALPHA = 0.05


def config_of(study: int, design: str) -> StudyConfig:
    """Return the configuration of a study; datasets take turns."""
    values = {
        "name": f"real-{study}", "datasets": [DATASETS[study % len(DATASETS)]], "training": {"epochs": 12},
        "splits": "redrawn", "placebo": True, "seed": 100 + study, "checkpoints": "confirmed", **DESIGNS[design],
    }  # fmt: skip
    values["search"] = {**values["search"], "early_stopping": {"reduction": 3, "grace": 3}}
    return read_config(values)


def run(config: StudyConfig, folder: Path, stores: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Run a study and return its leaderboard as plain data."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(config.as_yaml())
    place, arms = StudyFolder(folder), arms_of(config)

    def configure(
        arm: Arm, params: Mapping[str, Any], phase: Any, number: int, seed: int, replicate: int
    ) -> dict[str, Any]:
        return trial_config(
            config, arm, params, phase=phase, number=number, seed=seed, study_folder=folder,
            store=stores[arm.dataset], replicate=replicate,
        )  # fmt: skip

    log = PruningLog(folder / "ledger.jsonl")
    queue = StudyQueue(config, arms, open_storage(place), log, place, configure=configure)
    epochs = {cell: arm.epochs(arm.space.defaults()) for cell, arm in queue.cells.items()}
    pruner = Pruner(config.search.early_stopping, epochs, log, Objective(config.objective), config.search.parallel)
    while (given := queue.next()) is not None:
        train(given, queue, pruner)
    for key, record in queue.confirmed_trials():
        evaluate_sealed(StudyFolder(folder / record.attrs["folder"]), stores[queue.arms[key.arm].dataset])
    log.close()
    return [dict(row) for row in leaderboard.build(folder)]


def summary(studies: Sequence[Mapping[str, Any]]) -> str:
    """Return what the studies came to, as Markdown."""
    lines = ["| dataset | studies | placebo called different | tuned - default on test, points | arms below, p < 5 % |"]
    lines.append("|---|---|---|---|---|")
    for name in (*DATASETS, "all"):
        own = [s for s in studies if name in ("all", s["rows"][0]["dataset"])]
        if not own:
            continue
        placebo = [row["p_value"] for s in own for row in s["rows"] if row["placebo"]]
        wrong = sum(p is not None and p < ALPHA for p in placebo)
        low, high = stats.binomtest(wrong, len(placebo)).proportion_ci()
        gains = [[row["tuning_gain"] or 0.0 for row in s["rows"]] for s in own]
        means = 100 * np.array([np.mean(g) for g in gains])
        half = (
            stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
        )
        ends = [row["tuning_gain_ci"] for s in own for row in s["rows"] if row["tuning_gain_ci"]]
        below = sum(end[1] < 0 for end in ends)
        lines.append(
            f"| {name} | {len(own)} | {wrong} of {len(placebo)} ({100 * low:.0f} to {100 * high:.0f} %) | "
            f"{means.mean():+.2f} ({means.mean() - half:+.2f} to {means.mean() + half:+.2f}) | "
            f"{below} of {sum(map(len, gains))} |"
        )
    return "\n".join(lines)


def power(studies: Sequence[Mapping[str, Any]]) -> str:
    """Return what the studies say of a method that is better than joint, as Markdown."""
    lines = [f"| dataset | studies | trainings an arm | {SHOWN} - joint, points | sd over studies | found, p < 5 % |"]
    lines.append("|---|---|---|---|---|---|")
    for name in DATASETS:
        rows = [row for s in studies for row in s["rows"] if (row["dataset"], row["method"]) == (name, SHOWN)]
        if len(rows) > 1:
            differences = 100 * np.array([row["delta"] for row in rows])
            trainings = np.mean([row["trials"] + row["confirm_trials"] for row in rows])
            right = sum(row["p_value"] < ALPHA and row["delta"] > 0 for row in rows)
            lines.append(
                f"| {name} | {len(rows)} | {trainings:.0f} | {differences.mean():+.2f} | {differences.std(ddof=1):.2f} "
                f"| {right} of {len(rows)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="only every so many studies, for several processes")
    parser.add_argument("--design", choices=list(DESIGNS), default="replicates")
    parser.add_argument("--out", type=Path, help="default: real_studies_DESIGN.jsonl")
    args = parser.parse_args()
    out = args.out or Path(f"real_studies_{args.design}.jsonl")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as here:
        stores = {name: Path(here) / "data" / name for name in DATASETS}
        for name, store in stores.items():
            build_store(datasets().get(name)(), store)
        gc.freeze()
        known = [json.loads(line)["study"] for line in out.read_text().splitlines()] if out.exists() else []
        for study in range(args.first, args.studies, args.step):
            if study in known:
                continue
            rows = run(config_of(study, args.design), Path(here) / f"study-{study}", stores)
            with out.open("a") as file:
                file.write(json.dumps({"study": study, "rows": rows}) + "\n")
    studies = [json.loads(line) for line in out.read_text().splitlines()]
    print(f"{summary(studies)}\n\n{power(studies)}")


if __name__ == "__main__":
    main()
