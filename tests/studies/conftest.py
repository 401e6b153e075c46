"""One small Ray cluster, and one registered model, for all tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.studies.tracking.digits import Digits, train_digits


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local cluster with two CPUs; studies join it, because Ray is up already."""
    import ray

    from balance_tune.studies.cluster import ray_for
    from balance_tune.studies.config import Resources

    assert not ray.is_initialized()
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("RAY_ADDRESS", raising=False)
            patch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")  # trials in the cluster save their state every epoch
            running.enter_context(ray_for(Resources(), cpus=2))
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A champion of AV-Digits; nobody changes it."""
    return train_digits(tmp_path_factory.mktemp("digits"))
