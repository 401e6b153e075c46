"""Measures how long an epoch of each arm takes here, once per dataset, method, model and machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.protocol.arms import Arm, trial_config
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.study_folder import StudyFolder

CACHE = "epoch_seconds.json"  # below <root>/data
ENOUGH = 0.75  # seconds of training, after which no further epoch of an arm is timed
SHORT = 2.0  # seconds: where joint training's epoch takes longer, all methods get its time


def epoch_seconds(
    config: StudyConfig, arms: Sequence[Arm], root: StudyFolder, *, measure: bool = True
) -> dict[str, float | None]:
    """Return arm -> seconds one epoch takes, evaluation included; None where it was never measured and may not be.

    Measuring builds the dataset's store below `root`, where the study will find it.
    """
    path = root.path / "data" / CACHE
    cache = _cached(path)
    result: dict[str, float | None] = {}
    joint: dict[str, float | None] = {}  # by dataset

    def seconds(arm: Arm) -> float | None:
        what = _what(config, arm, root)
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        if key not in cache and measure:
            cache[key] = {**what, "seconds": _measure(config, arm, root)}
            durable.write_json(path, cache)
        return cache[key]["seconds"] if key in cache else None

    for arm in sorted(arms, key=lambda arm: not arm.baseline):
        base = joint.get(arm.dataset)
        own = base if base is not None and base > SHORT else seconds(arm)
        result[arm.name] = base if own is None else own
        if arm.baseline:
            joint[arm.dataset] = own
    return {arm.name: result[arm.name] for arm in arms}


def _cached(path: Path) -> dict[str, Any]:
    try:
        cache = json.loads(path.read_text())
    except (OSError, ValueError):  # a cache: not there, or not usable, is measured again
        return {}
    return cache if isinstance(cache, dict) else {}


def _what(config: StudyConfig, arm: Arm, root: StudyFolder) -> dict[str, Any]:
    """Return all that the duration of an epoch depends on."""
    import torch

    from balance_tune.studies.data.stores import identity_of_store

    gpu = torch.cuda.is_available() and config.resources.of(arm.dataset).gpus_per_trial != 0
    device = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    default = arm.space.defaults()
    training = arm.settings(default, "training")
    return {
        "store": identity_of_store(arm.dataset, config.data.stores, root / "data"),
        "method": [arm.method, arm.variant, arm.settings(default, "modulation")],
        "model": config.model.model_dump(mode="json"),
        "training": {name: training[name] for name in ("epochs", "batch_size", "optimizer", "precision", "dtype")},
        "machine": [platform.node(), os.cpu_count(), device, torch.__version__, config.resources.cpus_per_trial],
    }


def _measure(config: StudyConfig, arm: Arm, root: StudyFolder) -> float:
    """Train the default for a few epochs and return the mean of all but the first, which also warms up.

    On a GPU where trials get one and this machine has it; else on the CPU, which the plan notes.
    """
    import torch

    from balance_tune.studies.data.stores import store_of
    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    store, _ = store_of(arm.dataset, config.data.stores, root / "data")
    trial = trial_config(
        config,
        arm,
        arm.space.defaults(),
        phase="search",
        number=0,
        seed=0,
        study_folder=root.path / "data",
        store=store,
    )
    trial["device"] = "cpu" if config.resources.of(arm.dataset).gpus_per_trial == 0 else "auto"
    threads = torch.get_num_threads()
    torch.set_num_threads(config.resources.cpus_per_trial)
    try:
        durations: list[float] = []
        for metrics in train(*prepare(trial)):
            durations.append(metrics["time/epoch_s"])
            if len(durations) > 1 and sum(durations[1:]) > ENOUGH:
                break
    finally:
        torch.set_num_threads(threads)
    counting = durations[1:] or durations
    return round(sum(counting) / len(counting), 6)
