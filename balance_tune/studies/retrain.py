"""Trains a trial of a study once more, in this process: the same configuration, seed and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.registry import datasets

if TYPE_CHECKING:
    from balance_tune.models.multimodal import MultimodalModel


def store_for(root: Path, dataset_name: str, data_hash: str | None = None) -> Path:
    """Return the dataset's store below `root`, built where it is missing.

    Raises:
        UserError: the dataset is not installed, or is no longer the data of `data_hash`.
    """
    from balance_tune.datasets.store import build_store, store_name

    dataset = datasets().get(dataset_name)()
    store = root / "data" / store_name(dataset)
    found = build_store(dataset, store).data_hash
    if data_hash is not None and found != data_hash:
        raise UserError(
            f"a trial is trained again on the same data only, but `{dataset_name}` now has the hash {found[:12]}, and "
            f"the trial had {data_hash[:12]}."
        )
    return store


def retrain(trial: Mapping[str, Any], store: Path, epochs: int) -> tuple[list[dict[str, Any]], MultimodalModel]:
    """Return the metrics of the first `epochs` epochs of a trial, and the model of the best of them.

    `trial` is a trial's configuration as `trial_config` or a run's trial.json has it. Several workers are trained as
    one, which comes to the same up to rounding.

    Raises:
        Diverged: the loss is not finite.
    """
    import torch

    from balance_tune.training.loop import train
    from balance_tune.training.setup import prepare

    torch.set_num_threads(max(1, int(trial.get("cpus", 1))))
    device = ("cuda" if trial["gpus"] else "cpu") if "gpus" in trial else trial["device"]
    run, modulation = prepare({**trial, "store": str(store), "device": device})
    rows: list[dict[str, Any]] = []
    if epochs > 0:
        for row in train(run, modulation):
            rows.append(row)
            if len(rows) == epochs:
                break
    if run.best.weights:
        run.context.model.load_state_dict(run.best.weights)
    return rows, run.context.model
