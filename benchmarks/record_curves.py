"""Records learning curves of uniformly random points of one arm, on which searches can be replayed without training.

    python -m benchmarks.record_curves multiple_features/mlb --points 400

Every point is trained to its end with a seed of its own, as a search trial of a study is. What is kept, in
benchmarks/curves/<dataset>-<method>.npz: the points, the right answers on the validation rows after every epoch, and
the space they were drawn from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.registry import datasets
from balance_tune.studies.arms import Arm, arms_of, trial_config
from balance_tune.studies.config import StudyConfig, load_config

CURVES = Path(__file__).parent / "curves"
FAILED = -1  # right answers of an epoch that was not reached
EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", help="as multiple_features/mlb")
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=CURVES)
    args = parser.parse_args()
    dataset, _, method = args.arm.partition("/")
    raw = {"name": "curves", "datasets": [dataset], "methods": [method], "training": {"epochs": EPOCHS}}
    config = load_config({**raw, "search": {"trials": args.points, "sampler": "random"}, "seed": args.seed})
    arm = next(arm for arm in arms_of(config) if arm.name == args.arm)
    args.out.mkdir(parents=True, exist_ok=True)
    record(config, arm, args.points, args.out / f"{dataset}-{arm.label}.npz")


def record(config: StudyConfig, arm: Arm, points: int, path: Path) -> None:
    """Train so many random points of `arm` and write what became of them to `path`."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    began = time.perf_counter()
    rows: list[tuple[list[float], int, list[int]]] = []
    of = 0
    with tempfile.TemporaryDirectory() as folder:
        for params, seed, correct, total in trained(config, arm, points, Path(folder)):
            of = total
            rows.append((encoded(arm, params), seed, correct))
            if len(rows) % 20 == 0:
                print(f"{arm.name}: {len(rows)} of {points}, {time.perf_counter() - began:.0f} s", flush=True)
    about = {
        "arm": arm.name,
        "validation_rows": of,
        "study_seed": config.seed,
        "space": [dataclasses.asdict(p) for p in arm.space.parameters],
    }
    np.savez_compressed(
        path,
        about=np.array(json.dumps(about)),
        points=np.array([row[0] for row in rows]),
        seeds=np.array([row[1] for row in rows]),
        correct=np.array([row[2] for row in rows], dtype=np.int16),
    )
    print(f"{path}: {len(rows)} points, {path.stat().st_size} bytes")


def trained(
    config: StudyConfig, arm: Arm, points: int, folder: Path
) -> Iterator[tuple[dict[str, Any], int, list[int], int]]:
    """Yield (params, seed, right answers after each epoch, validation rows) of each point, the default first."""
    import optuna

    from balance_tune.datasets.store import build_store, store_name
    from balance_tune.studies.confirm import seed_of
    from balance_tune.studies.samplers import sampler_for
    from balance_tune.training.errors import Diverged
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = datasets().get(arm.dataset)()
    store = folder / store_name(dataset)
    build_store(dataset, store)
    study = optuna.create_study(direction="maximize")
    for number in range(points):
        study.sampler = sampler_for("random", study_seed=config.seed, arm=arm.name, number=number, trials=points)
        params = study.ask(arm.space.distributions()).params if number else arm.space.defaults()
        seed = seed_of(config.seed, "search", number)
        trial = trial_config(
            config, arm, params, phase="search", number=number, seed=seed, study_folder=folder, store=store
        )
        run, modulation = prepare({**trial, "device": "cpu"})
        of, correct = len(run.validation), [FAILED] * EPOCHS
        try:
            for epoch, metrics in enumerate(train(run, modulation)):
                correct[epoch] = round(metrics["val/accuracy"] * of)
        except Diverged as failure:
            print(f"{arm.name} {params}: {failure}")
        yield params, seed, correct, of


def encoded(arm: Arm, params: dict[str, Any]) -> list[float]:
    """Return a point as numbers: the value, or the index of the choice."""
    return [
        float(p.choices.index(params[p.name])) if p.choices is not None else float(params[p.name])
        for p in arm.space.parameters
    ]


if __name__ == "__main__":
    main()
