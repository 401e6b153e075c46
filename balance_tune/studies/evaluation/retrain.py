"""Trains a trial of a study once more, in this process: the same configuration, seed and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.studies.config.reader import stored_config
from balance_tune.studies.data.stores import store_of
from balance_tune.studies.storage.study_folder import StudyFolder

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest
    from balance_tune.models.multimodal import MultimodalModel


def store_for(root: StudyFolder, dataset: str, study: str = "", data_hash: str | None = None) -> tuple[str, Manifest]:
    """Return the store of a dataset and its manifest: where `study` of this root says, else where it usually is.

    Raises:
        UserError: the dataset is not installed or not prepared, or is no longer the data of `data_hash`.
    """
    file = (root / study).download_file("study.yaml")
    stores = stored_config(file.parent).data.stores if study and file.is_file() else {}
    store, manifest = store_of(dataset, stores, root / "data")
    if data_hash is not None and manifest.data_hash != data_hash:
        raise UserError(
            f"a trial is trained again on the same data only, but `{dataset}` now has the hash "
            f"{manifest.data_hash[:12]}, and the trial had {data_hash[:12]}."
        )
    return store, manifest


def retrain(trial: Mapping[str, Any], store: str, epochs: int) -> tuple[list[dict[str, Any]], MultimodalModel]:
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
    gpus = trial.get("gpus", 0) if torch.cuda.is_available() else 0  # another device is reported to the user
    run, modulation = prepare({**trial, "store": store, "gpus": gpus})
    rows: list[dict[str, Any]] = []
    if epochs > 0:
        for row in train(run, modulation):
            rows.append(row)
            if len(rows) == epochs:
                break
    if run.best.weights:
        run.context.model.load_state_dict(run.best.weights)
    return rows, run.context.model
