"""One small Ray cluster for all tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.studies.postgres import binaries, server


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
            patch.setenv("BALANCE_TUNE_REPORT_EVERY_S", "0")  # and tests count their epochs
            running.enter_context(ray_for(Resources(), cpus=2))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of PostgreSQL, where this machine has one."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with server(programs) as running:
        yield running.url
