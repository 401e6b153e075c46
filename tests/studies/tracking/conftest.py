"""One sqlite store for all tests of a session (making one takes MLflow two seconds), and small studies to put in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance_tune.studies.tracking.backend import Store, connect, store_of
from tests.studies.tracking.written import WrittenStudy


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose MLflow store exists."""
    made = tmp_path_factory.mktemp("root")
    connect(store_of(made)).search_experiments()
    return made


@pytest.fixture(scope="session")
def client(root: Path) -> Any:
    return connect(store_of(root))


@pytest.fixture
def store(root: Path) -> Store:
    return store_of(root)


@pytest.fixture(autouse=True)
def _no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def written(root: Path, request: pytest.FixtureRequest) -> Callable[..., WrittenStudy]:
    """Write a study that is named after the test; called again, it is the same one as a later driver opens it."""
    name = request.node.name.replace("[", "-").replace("]", "")[:90]
    return lambda **config: WrittenStudy(root, name, **config)
