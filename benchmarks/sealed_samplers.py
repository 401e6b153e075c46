"""What `gp` and TPE find, by the sealed part: python -m benchmarks.sealed_samplers [--root FOLDER]

Two studies are run with each sampler, whole, as a user runs them: the quickstart, and one of eight hyperparameters.
Splits, training seeds and defaults are the same under both, so a replicate's difference is that of the tuned points
alone. A study that was cut off goes on under the same root. Some forty minutes on two cores; writes
benchmarks/SEALED_SAMPLERS.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import yaml
from scipy import stats

from benchmarks.table import Table, machine

RESULTS = Path(__file__).parent / "SEALED_SAMPLERS.md"
QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
EIGHT = {
    "name": "eight",
    "datasets": ["av_digits"],
    "methods": ["joint", "opm_ogm"],  # two hyperparameters, and eight
    "training": {"epochs": 20, "batch_size": 64, "optimizer": "sgd"},
    "replicates": 20,
    "search": {
        "trials": 12,
        "space": {
            "training": {
                "lr": {"low": 0.01, "high": 0.2, "log": True},
                "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            }
        },
        "early_stopping": {"reduction": 3, "grace": 5},
    },
    "select": {"points": 1, "seeds": 1},
    "confirm": {"seeds": 1, "default_seeds": 1},
}
SAMPLERS = ("gp", "tpe")
Unit = tuple[str, str]  # an arm and its replicate


def run(study: Path, name: str, sampler: str, root: Path) -> Path:
    """Run a study with a sampler and return the folder of its report."""
    name = f"{name}_{sampler}"
    command = [sys.executable, "-m", "balance_tune", "run", str(study), f"name={name}", f"search.sampler={sampler}"]
    subprocess.run([*command, "--root", str(root), "--quiet"], check=True)
    return root / name / "report"


def scores(report: Path) -> dict[Unit, float]:
    """Return the mean test accuracy, in points, of the chosen point of each arm and replicate."""
    values: dict[Unit, list[float]] = defaultdict(list)
    with (report / "seeds.csv").open() as file:
        for row in csv.DictReader(file):
            if row["state"] == "complete" and row["tuned"] == "True":
                values[row["arm"], row["replicate"]].append(100 * float(row["test/accuracy"]))
    return {unit: fmean(own) for unit, own in values.items()}


def difference(ours: dict[Unit, float], theirs: dict[Unit, float]) -> tuple[float, float]:
    """Return the mean difference over the arms, and half of its 95 % interval over replicates of a dataset."""
    by_replicate: dict[Unit, list[float]] = defaultdict(list)
    for arm, replicate in ours:
        unit = (arm, replicate)
        by_replicate[arm.partition("/")[0], replicate].append(ours[unit] - theirs[unit])
    means = np.array([fmean(own) for own in by_replicate.values()])
    return float(means.mean()), float(stats.t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))


def measure(root: Path) -> Table:
    """Return the table of both studies."""
    root.mkdir(parents=True, exist_ok=True)
    eight = root / "eight.yaml"
    eight.write_text(yaml.safe_dump(EIGHT))
    rows = []
    for name, study in (("quickstart", QUICKSTART), ("eight", eight)):
        reports = {sampler: run(study, name, sampler, root) for sampler in SAMPLERS}
        scores_of = {sampler: scores(report) for sampler, report in reports.items()}
        epochs = {s: sum(row["epochs"] for row in leaderboard(report)) for s, report in reports.items()}
        units = scores_of["gp"].keys() & scores_of["tpe"].keys()  # a confirmation that failed under one is in neither
        arms = sorted({arm for arm, _ in units})
        for arm in ["all", *arms] if name == "eight" else ["all"]:
            ours, theirs = ({u: scores_of[s][u] for u in units if arm in ("all", u[0])} for s in SAMPLERS)
            mean, half = difference(ours, theirs)
            rows.append(
                [
                    name if arm == "all" else f"{name}, {arm.partition('/')[2]}",
                    f"{fmean(theirs.values()):.2f}",
                    f"{fmean(ours.values()):.2f}",
                    f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})",
                    f"{sum(ours[u] == theirs[u] for u in ours)} of {len(ours)}",
                    f"{epochs['gp'] / epochs['tpe']:.2f}" if arm == "all" else "",
                ]
            )
    return Table(
        "Tuned points on the sealed part",
        "Mean test accuracy in points over arms (a placebo included) and replicates; the interval is over replicates.",
        ("study", "TPE", "gp", "gp - TPE", "arms and replicates with equal scores", "epochs of all searches, gp / TPE"),
        rows,
    )


def leaderboard(report: Path) -> list[dict[str, int]]:
    """Return the rows of a report's leaderboard."""
    rows: list[dict[str, int]] = json.loads((report / "leaderboard.json").read_text())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/sealed_samplers"))
    table = measure(parser.parse_args().root).markdown()
    text = f"# The sampler on the sealed part\n\nMade by `python -m benchmarks.sealed_samplers`.\n\n{table}"
    print(text)
    RESULTS.write_text(f"{text}\n({machine()})\n")


if __name__ == "__main__":
    main()
