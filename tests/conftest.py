"""What tests of several folders share."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.studies.tracking.digits import Digits


def pytest_configure() -> None:
    """Commands that tests end with Ctrl-C would ignore it, if the suite itself was started in a background job.

    Bits are compared on one thread, here as under `make`. No test asks how long an example takes: machines are shared.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings.register_profile("no deadlines", deadline=None)
    settings.load_profile("no deadlines")
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A champion of AV-Digits; nobody changes it."""
    from tests.studies.tracking.digits import train_digits

    return train_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of two methods that was really run, told to MLflow in the same root; nobody changes it."""
    from balance_tune.studies.loading import load_config
    from tests.studies import in_process

    config = load_config(
        {
            "name": "small", "datasets": ["multiple_features"], "methods": ["joint", "mlb"],
            "training": {"epochs": 4, "batch_size": 128}, "select": {"points": 1, "seeds": 1},
            "search": {"trials": 4, "sampler": "random", "early_stopping": {"grace": 1, "reduction": 2}},
            "confirm": {"seeds": 2, "default_seeds": 1},
        }
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("small") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        in_process.run(config, folder, tracked=True)
    return folder
