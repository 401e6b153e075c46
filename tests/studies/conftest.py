"""One small Ray cluster for all tests that need one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from balance_tune.studies.storage import object_store
from tests.studies.bucket import Bucket, endpoint, made
from tests.studies.postgres import binaries, server


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local cluster with two CPUs; studies join it, because Ray is up already."""
    import ray

    from balance_tune.studies.cluster.ray_cluster import ray_for
    from balance_tune.studies.config.schema import Resources

    assert not ray.is_initialized()
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("RAY_ADDRESS", raising=False)
            patch.setenv("BALANCE_TUNE_SAVE_EVERY_S", "0")  # trials in the cluster save their state every epoch
            patch.setenv("BALANCE_TUNE_REPORT_EVERY_S", "0")  # and tests count their epochs
            running.enter_context(ray_for(Resources(), cpus=2))
        yield


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, and a process that has heard of no other and is patient with none."""
    monkeypatch.setenv("BALANCE_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(object_store, "PATIENCE", 0.0)
    with endpoint(monkeypatch) as running:
        yield made(running, f"tests-{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of PostgreSQL, where this machine has one."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's initdb is not on this machine")
    with server(programs) as running:
        yield running.url
