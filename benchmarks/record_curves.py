"""Records learning curves of random points of one arm under several seeds, for replaying searches without training.

    python -m benchmarks.record_curves multiple_features/opm --points 200 --searched momentum weight_decay batch_size

Every point is trained with the first few seeds. The better third gets some more, and with the default the seeds that no
replayed search sees: their mean is the truth about a point, which has to be exact only there. Written to
benchmarks/curves/<dataset>-<method>-<parameters>.npz; the README there says what a file holds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.registry import datasets
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config
from benchmarks.recorded import CURVES

EPOCHS = 20
BETTER = 3  # one in so many points gets all seeds
RANGES = {  # of training settings that a study may search beside the learning rate
    "momentum": {"low": 0.0, "high": 0.99},
    "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
    "batch_size": {"low": 16, "high": 256, "log": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", help="as multiple_features/mlb")
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs=2, default=(4, 6), help="of every point, and of the better third")
    parser.add_argument("--truth", type=int, default=20, help="further seeds of the better third, for the truth")
    parser.add_argument("--searched", nargs="*", default=(), choices=RANGES, help="beside what the study searches")
    parser.add_argument("--seed", type=int, default=0, help="of the study whose search trials these points are")
    parser.add_argument("--out", type=Path, default=CURVES)
    args = parser.parse_args()
    dataset, _, method = args.arm.partition("/")
    space = {"training": {name: RANGES[name] for name in args.searched}}
    search = {"trials": args.points, "sampler": "random", "space": space}
    raw = {"name": "curves", "datasets": [dataset], "methods": [method], "training": {"epochs": EPOCHS}}
    config = load_config({**raw, "search": search, "seed": args.seed})
    arm = next(arm for arm in arms_of(config) if arm.name == args.arm)
    path = args.out / f"{dataset}-{arm.label}-{len(arm.space.parameters)}.npz"
    first, most = args.seeds
    save(path, arm, *record(config, arm, args.points, first, most, args.truth))


def record(
    config: StudyConfig, arm: Arm, points: int, first: int, most: int, truth: int
) -> tuple[list[Mapping[str, Any]], NDArray[np.float32], NDArray[np.float32]]:
    """Return so many points, the default first, with their curves and their scores under the seeds for the truth.

    Returns:
        The points; (points, most, epochs) curves, NaN where training had broken off or there was none; (points, truth)
        validation accuracies of the best epoch, 0 where training broke off, NaN where there was none.
    """
    import torch

    from balance_tune.datasets.store import build_store, store_name

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    drawn = random_points(config, arm, points)
    val = np.full((points, most + truth, EPOCHS), np.nan, dtype=np.float32)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        dataset = datasets().get(arm.dataset)()
        store = Path(name) / store_name(dataset)
        build_store(dataset, store)
        chosen: Sequence[int] = range(points)
        for seed in range(most + truth):
            if seed == first:
                chosen = better(val[:, :first])
            if seed == most:
                chosen = sorted({0, *chosen})
            for index in chosen:
                val[index, seed] = trained(config, arm, drawn[index], seed, Path(name), store)
            print(f"{arm.name}: seed {seed + 1} of {most + truth}, {time.process_time() - began:.0f} s", flush=True)
    last = val[:, most:]
    best = np.where(np.isnan(last).any(-1), 0.0, last.max(-1)).astype(np.float32)
    best[[index for index in range(points) if index not in chosen]] = np.nan
    return drawn, val[:, :most], best


def random_points(config: StudyConfig, arm: Arm, points: int) -> list[Mapping[str, Any]]:
    """Return the default and random points, as a study's random search proposes them."""
    import optuna

    from balance_tune.studies.search.samplers import sampler_for

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    drawn: list[Mapping[str, Any]] = [arm.space.defaults()]
    for number in range(1, points):
        study.sampler = sampler_for(
            "random", study_seed=config.seed, arm=arm.name, number=number, trials=points, searched=arm.space
        )
        drawn.append(study.ask(arm.space.distributions()).params)
    return drawn


def better(val: NDArray[np.float32]) -> Sequence[int]:
    """Return the indices of the better third by the mean over seeds of the best epoch; a broken training counts 0."""
    means = np.nan_to_num(val).max(-1).mean(-1)
    return sorted(np.argsort(-means, kind="stable")[: len(means) // BETTER].tolist())


def trained(
    config: StudyConfig, arm: Arm, params: Mapping[str, Any], seed: int, folder: Path, store: Path
) -> NDArray[np.float32]:
    """Return the validation accuracies of one training, NaN from the epoch on in which it broke off."""
    from balance_tune.studies.protocol.selection import seed_of
    from balance_tune.training.errors import Diverged
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    number = seed_of(config.seed, "search", seed)
    trial = trial_config(
        config, arm, params, phase="search", number=seed, seed=number, study_folder=folder, store=store
    )
    run, modulation = prepare({**trial, "device": "cpu"})
    curve = np.full(EPOCHS, np.nan, dtype=np.float32)
    try:
        for epoch, metrics in enumerate(train(run, modulation)):
            curve[epoch] = metrics["val/accuracy"]
    except Diverged as failure:
        print(f"{arm.name} {params}: {failure}")
    return curve


def save(
    path: Path, arm: Arm, points: Sequence[Mapping[str, Any]], val: NDArray[np.float32], truth: NDArray[np.float32]
) -> None:
    """Write a recording of `points`, their curves, and their scores under the seeds for the truth."""
    space = json.dumps([dataclasses.asdict(p) for p in arm.space.parameters])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, points=np.array(json.dumps(points)), space=np.array(space), val=val, truth=truth)
    print(f"{path}: {len(points)} points, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
