"""Every real dataset from made-up files to two trained epochs, by the way of studies but without their scheduler."""

from pathlib import Path

import pytest
import torch

from balance_tune.datasets.distribution import Distribution
from balance_tune.registry import datasets
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.data.stores import store_of
from balance_tune.studies.miniature import miniature
from balance_tune.studies.protocol.arms import arms_of, trial_config
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.training.loop import train
from balance_tune.training.setup import prepare

FAMILIES = {name: cls for name, cls in datasets().classes().items() if issubclass(cls, Distribution)}
NAMES = [name if name == cls.family else pytest.param(name, marks=pytest.mark.full) for name, cls in FAMILIES.items()]


@pytest.mark.parametrize("name", NAMES)
def test_two_epochs_on_the_miniature(name: str, tmp_path: Path) -> None:
    objective = "val/mae" if datasets().get(name).task == "regression" else "val/accuracy"
    study = {"name": "a", "datasets": [name], "methods": ["joint"], "objective": objective}
    plain, _ = miniature(read_config(study))
    config = read_config(plain)
    (arm,) = arms_of(config)
    store, _ = store_of(name, config.data.stores, StudyFolder(tmp_path))
    given = {"phase": "search", "number": 0, "seed": 0, "study_folder": tmp_path, "store": store}
    trial = trial_config(config, arm, arm.space.defaults(), **given)  # type: ignore[arg-type]
    rows = list(train(*prepare(trial)))
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["train/loss"] < rows[0]["train/loss"]
    again = list(train(*prepare(trial)))
    assert [row["train/loss"] for row in again] == [row["train/loss"] for row in rows]


@pytest.mark.parametrize("name", ["crema_d", "ucf101", "kinetics_sounds"])
def test_its_own_encoders_take_what_the_loader_gives(name: str) -> None:
    from balance_tune.registry import encoders

    for modality in datasets().get(name).modalities.values():
        encoder = encoders().get(modality.encoder)(modality.shape, **modality.settings)
        with torch.no_grad():
            assert encoder.eval()(torch.zeros(1, *modality.shape)).shape == (1, encoder.features)
