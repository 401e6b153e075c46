"""Records learning curves of uniformly random points of one arm, on which searches can be replayed without training.

    python -m benchmarks.record_curves multiple_features/mlb --points 400

Every point is trained to its end with a seed of its own, as a search trial of a study is. What is kept, in
benchmarks/curves/<dataset>-<method>.npz: the points, the right answers on the validation rows after every epoch, and
the space they were drawn from. With another --seed, points are added to those that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.registry import datasets
from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import Arm, arms_of, trial_config

CURVES = Path(__file__).parent / "curves"
FAILED = -1  # right answers of an epoch that was not reached
EPOCHS = 20


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One training: its point as numbers, its seed, and the right answers on `of` validation rows after each epoch."""

    point: list[float]
    seed: int
    correct: list[int]
    of: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", help="as multiple_features/mlb")
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the study whose search trials these are")
    parser.add_argument("--out", type=Path, default=CURVES)
    args = parser.parse_args()
    dataset, _, method = args.arm.partition("/")
    raw = {"name": "curves", "datasets": [dataset], "methods": [method], "training": {"epochs": EPOCHS}}
    config = load_config({**raw, "search": {"trials": args.points, "sampler": "random"}, "seed": args.seed})
    arm = next(arm for arm in arms_of(config) if arm.name == args.arm)
    args.out.mkdir(parents=True, exist_ok=True)
    record(config, arm, args.points, args.out / f"{dataset}-{arm.label}.npz")


def record(config: StudyConfig, arm: Arm, points: int, path: Path) -> None:
    """Train so many random points of `arm` and write, or add, what became of them to `path`."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found: list[Recorded] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for one in trained(config, arm, points, Path(folder), default=not path.exists()):
            found.append(one)
            if len(found) % 20 == 0:
                print(f"{arm.name}: {len(found)} of {points}, {time.perf_counter() - began:.0f} s", flush=True)
    made: dict[str, NDArray[Any]] = {
        "points": np.array([one.point for one in found]),
        "seeds": np.array([one.seed for one in found]),
        "correct": np.array([one.correct for one in found], dtype=np.int16),
    }
    if path.exists():
        with np.load(path) as stored:
            made = {name: np.concatenate([stored[name], new]) for name, new in made.items()}
    space = [dataclasses.asdict(p) for p in arm.space.parameters]
    about = json.dumps({"arm": arm.name, "validation_rows": found[0].of, "space": space})
    points_made, seeds, correct = (made[name] for name in ("points", "seeds", "correct"))
    np.savez_compressed(path, about=np.array(about), points=points_made, seeds=seeds, correct=correct)
    print(f"{path}: {len(made['points'])} points, {path.stat().st_size} bytes")


def trained(config: StudyConfig, arm: Arm, points: int, folder: Path, *, default: bool) -> Iterator[Recorded]:
    """Yield so many trainings at random points, the first of them at the `default` if that is wanted."""
    import optuna

    from balance_tune.datasets.store import build_store, store_name
    from balance_tune.studies.protocol.selection import seed_of
    from balance_tune.studies.search.samplers import sampler_for
    from balance_tune.training.errors import Diverged
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = datasets().get(arm.dataset)()
    store = folder / store_name(dataset)
    build_store(dataset, store)
    study = optuna.create_study(direction="maximize")
    for number in range(points) if default else range(1, points + 1):
        study.sampler = sampler_for("random", study_seed=config.seed, arm=arm.name, number=number, trials=points)
        params = study.ask(arm.space.distributions()).params if number else arm.space.defaults()
        seed = seed_of(config.seed, "search", number)
        trial = trial_config(
            config, arm, params, phase="search", number=number, seed=seed, study_folder=folder, store=store
        )
        run, modulation = prepare({**trial, "device": "cpu"})
        rows, correct = len(run.validation), [FAILED] * EPOCHS
        try:
            for epoch, metrics in enumerate(train(run, modulation)):
                correct[epoch] = round(metrics["val/accuracy"] * rows)
        except Diverged as failure:
            print(f"{arm.name} {params}: {failure}")
        yield Recorded(encoded(arm, params), seed, correct, rows)


def encoded(arm: Arm, params: Mapping[str, Any]) -> list[float]:
    """Return a point as numbers: the value, or the index of the choice."""
    return [
        float(p.choices.index(params[p.name])) if p.choices is not None else float(params[p.name])
        for p in arm.space.parameters
    ]


if __name__ == "__main__":
    main()
