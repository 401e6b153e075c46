"""One sqlite store for all tests of a session (making one takes MLflow two seconds), and small studies to put in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets.base import Modality
from balance_tune.datasets.manifest import Identity, Manifest, Shard, data_hash
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.protocol.arms import Arm
from balance_tune.studies.protocol.space import Fixed, Parameter, Space
from balance_tune.studies.tracking.backend import connect, store_of
from balance_tune.studies.tracking.tracker import Tracker
from tests.studies.tracking.in_thread import InThread

SPACE = Space(
    (Parameter("training.lr", "float", 0.001, 1.0, True, None, 0.05, "recipe"),),
    {"training.epochs": Fixed(20, "study file"), "modulation.start": Fixed(0.0, "method")},
)
SHARDS: dict[str, tuple[Shard, ...]] = dict.fromkeys(PARTS, ())
MANIFEST = Manifest(
    Identity(
        "av_digits", 1, "classes", ("no", "yes"), {"audio": Modality((3,), "mlp")},
        SplitRecipe("stratified", train=0.4, monitor=0.2, val=0.2, test=0.2), (),
    ),
    counts={"train": {"no": 2, "yes": 3}}, groups={}, statistics={}, ranges={}, shards=SHARDS, split_hash="5p1it",
    data_hash=data_hash(SHARDS), licence="", source="", limits=(), recipe={},
)  # fmt: skip


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose MLflow store exists."""
    made = tmp_path_factory.mktemp("root")
    connect(store_of(made)).search_experiments()
    return made


@pytest.fixture(scope="session")
def client(root: Path) -> Any:
    return connect(store_of(root))


@pytest.fixture(autouse=True)
def _no_store_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _writers_in_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare tests the two seconds that a writer's process needs; those of whole studies have one."""
    if request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr("balance_tune.studies.tracking.tracker.Courier", InThread.of)


@pytest.fixture
def arms() -> list[Arm]:
    return [Arm("av_digits", method, None, SPACE) for method in ("joint", "mlb")]


@pytest.fixture
def tracker(root: Path, request: pytest.FixtureRequest, arms: list[Arm]) -> Callable[..., Tracker]:
    """Make trackers of one study that is named after the test; a second one is what a resumed study makes."""
    name = request.node.name.replace("[", "-").replace("]", "")[:90]
    folder = root / name

    def make(**given: Any) -> Tracker:
        config = read_config(
            {"name": name, "datasets": ["av_digits"], "methods": ["joint", "mlb"], **given.pop("config", {})},
        )
        folder.mkdir(exist_ok=True)
        (folder / "study.yaml").write_text(config.as_yaml())
        return Tracker(config, folder, given.pop("arms", arms), {"av_digits": MANIFEST}, **given)

    return make
