"""Who becomes champion, and when it passes to another: by mean confirmation validation, on one and the same split."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking.champions import Champions
from balance_tune.studies.tracking.runs import TAG
from tests.studies.tracking.written import MANIFEST


class Registry:
    """The part of MLflow's client that registers models, in memory."""

    def __init__(self) -> None:
        self.versions: list[Any] = []
        self.aliases: dict[str, Any] = {}

    def create_registered_model(self, name: str, tags: dict[str, str]) -> None: ...

    def search_model_versions(self, wanted: str) -> list[Any]:
        return self.versions

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = next(v for v in self.versions if v.version == version)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        if alias not in self.aliases:
            error = RuntimeError("none")
            error.error_code = "RESOURCE_DOES_NOT_EXIST"  # type: ignore[attr-defined]
            raise error
        return self.aliases[alias]


class Study:
    """A study whose arms are worth what is said; registering one writes down what it was worth."""

    def __init__(
        self, registry: Registry, folder: Path, study_id: str = "first", objective: str = "val/accuracy"
    ) -> None:
        self.folder, self.study_id, self.objective = folder / study_id, study_id, objective
        client: Any = SimpleNamespace(mlflow=registry, study="s", study_id=study_id)
        self.champions = Champions(client, StudyFolder(self.folder))
        self.registry = registry
        self.champions._register = self._register  # type: ignore[method-assign]

    def _register(self, name: str, contender: Any, manifest: Any) -> Any:
        from balance_tune.studies.tracking.champions import _identity

        version = SimpleNamespace(
            version=str(len(self.registry.versions) + 1),
            status="READY",
            tags={
                TAG + "identity": _identity(self.folder, contender),
                TAG + "study_id": self.study_id,
                **{TAG + key: str(contender[key]) for key in ("arm", "val", "split_hash")},
            },
        )
        self.registry.versions.append(version)
        return version

    def register(self, split: str = "one", **worth: float) -> tuple[str, str | None]:
        """Return the arms of champion and challenger after they were registered; candidates come best first."""
        ranked = sorted(worth.items(), key=lambda item: item[1], reverse=self.objective != "val/mae")[:2]
        contenders = []
        for arm, val in ranked:
            place = self.folder / arm
            place.mkdir(parents=True, exist_ok=True)
            for name in ("best.json", "best.safetensors"):
                (place / name).write_text(arm)
            told = {"arm": arm, "val": val, "trial": ["confirm", 0], "replicate": 0, "folder": arm}
            contenders.append({**told, "split_hash": split, "objective": self.objective})
        self.champions.register_champion(contenders, MANIFEST)
        held = self.registry.aliases
        return held["champion"].tags[TAG + "arm"], held["challenger"].tags[
            TAG + "arm"
        ] if "challenger" in held else None


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_the_best_by_validation_is_champion_and_the_next_challenger(registry: Registry, tmp_path: Path) -> None:
    assert Study(registry, tmp_path).register(joint=0.8, mlb=0.9, ogm=0.85) == ("mlb", "ogm")


def test_another_becomes_champion_when_an_extended_study_finds_another_best(registry: Registry, tmp_path: Path) -> None:
    study = Study(registry, tmp_path)
    study.register(joint=0.8, mlb=0.9)
    assert study.register(joint=0.8, mlb=0.9, opm=0.95) == ("opm", "mlb")
    assert len(registry.versions) == 3, "what did not change is registered once"


def test_another_study_of_the_same_split_becomes_champion_only_by_being_better(
    registry: Registry, tmp_path: Path
) -> None:
    Study(registry, tmp_path).register(joint=0.8, mlb=0.9)
    second = Study(registry, tmp_path, "second")
    assert second.register(ogm=0.85) == ("mlb", "ogm")
    assert second.register(ogm=0.85, opm=0.92)[0] == "opm"


def test_on_another_split_nothing_is_compared_and_the_champion_stays(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Study(registry, tmp_path).register(joint=0.8, mlb=0.9)
    assert Study(registry, tmp_path, "second").register(split="two", opm=0.99)[0] == "mlb"
    assert "no comparison is fair" in caplog.text


def test_where_less_is_better_the_least_is_champion(registry: Registry, tmp_path: Path) -> None:
    Study(registry, tmp_path, objective="val/mae").register(joint=0.8, mlb=0.6)
    assert Study(registry, tmp_path, "second", "val/mae").register(opm=0.7) == ("mlb", "opm")


def test_a_contender_whose_weights_are_gone_is_passed_over(registry: Registry, tmp_path: Path) -> None:
    study = Study(registry, tmp_path)
    contenders = []
    for arm, val in (("mlb", 0.9), ("joint", 0.8)):
        (study.folder / arm).mkdir(parents=True)
        (study.folder / arm / "best.json").write_text(arm)
        told = {"arm": arm, "val": val, "trial": ["confirm", 0], "replicate": 0, "folder": arm}
        contenders.append({**told, "split_hash": "one", "objective": "val/accuracy"})
    (study.folder / "joint" / "best.safetensors").write_text("weights")
    study.champions.register_champion(contenders, MANIFEST)
    assert registry.aliases["champion"].tags[TAG + "arm"] == "joint"
