"""Who becomes champion, and when it passes to another: by mean confirmation validation, on one and the same split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from balance_tune.registry import datasets
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.tracking import champions as crowning
from balance_tune.studies.tracking.champions import Champions
from balance_tune.studies.tracking.runs import TAG
from tests.datasets.tiny import Tiny
from tests.studies.tracking.conftest import MANIFEST


class Registry:
    """The part of MLflow's client that a coronation uses, in memory."""

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
        self.delivery: Any = SimpleNamespace(client=registry, study="s", study_id=study_id)
        self.champions = Champions(self.delivery, StudyFolder(self.folder))
        self.registry = registry
        self.champions._register = self._register  # type: ignore[method-assign]

    def _register(self, name: str, contender: Any) -> Any:
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

    def crown(self, split: str = "one", **worth: float) -> tuple[str, str | None]:
        """Return the arms of champion and challenger after a coronation; candidates come best first."""
        ranked = sorted(worth.items(), key=lambda item: item[1], reverse=self.objective != "val/mae")[:2]
        contenders = []
        for arm, val in ranked:
            place = self.folder / arm
            place.mkdir(parents=True, exist_ok=True)
            for name in ("best.json", "best.safetensors"):
                (place / name).write_text(arm)
            told = {"arm": arm, "val": val, "trial": ["confirm", 0], "folder": arm}
            contenders.append({**told, "split_hash": split, "objective": self.objective})
        self.champions.crown({"dataset": "d", "candidates": contenders})
        held = self.registry.aliases
        return held["champion"].tags[TAG + "arm"], held["challenger"].tags[
            TAG + "arm"
        ] if "challenger" in held else None


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_the_best_by_validation_is_champion_and_the_next_challenger(registry: Registry, tmp_path: Path) -> None:
    assert Study(registry, tmp_path).crown(joint=0.8, mlb=0.9, ogm=0.85) == ("mlb", "ogm")


def test_the_crown_passes_when_an_extended_study_finds_another_best(registry: Registry, tmp_path: Path) -> None:
    study = Study(registry, tmp_path)
    study.crown(joint=0.8, mlb=0.9)
    assert study.crown(joint=0.8, mlb=0.9, opm=0.95) == ("opm", "mlb")
    assert len(registry.versions) == 3, "what did not change is registered once"


def test_another_study_of_the_same_split_takes_the_crown_only_by_being_better(
    registry: Registry, tmp_path: Path
) -> None:
    Study(registry, tmp_path).crown(joint=0.8, mlb=0.9)
    second = Study(registry, tmp_path, "second")
    assert second.crown(ogm=0.85) == ("mlb", "ogm")
    assert second.crown(ogm=0.85, opm=0.92)[0] == "opm"


def test_on_another_split_nothing_is_compared_and_the_champion_stays(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Study(registry, tmp_path).crown(joint=0.8, mlb=0.9)
    assert Study(registry, tmp_path, "second").crown(split="two", opm=0.99)[0] == "mlb"
    assert "no comparison is fair" in caplog.text


def test_where_less_is_better_the_least_is_champion(registry: Registry, tmp_path: Path) -> None:
    Study(registry, tmp_path, objective="val/mae").crown(joint=0.8, mlb=0.6)
    assert Study(registry, tmp_path, "second", "val/mae").crown(opm=0.7) == ("mlb", "opm")


def test_a_contender_whose_weights_are_gone_is_passed_over(registry: Registry, tmp_path: Path) -> None:
    study = Study(registry, tmp_path)
    contenders = []
    for arm, val in (("mlb", 0.9), ("joint", 0.8)):
        (study.folder / arm).mkdir(parents=True)
        (study.folder / arm / "best.json").write_text(arm)
        told = {"arm": arm, "val": val, "trial": ["confirm", 0], "folder": arm, "split_hash": "one"}
        contenders.append({**told, "objective": "val/accuracy"})
    (study.folder / "joint" / "best.safetensors").write_text("weights")
    study.champions.crown({"dataset": "d", "candidates": contenders})
    assert registry.aliases["champion"].tags[TAG + "arm"] == "joint"


def test_a_data_set_that_only_the_drivers_program_has_imported_is_imported_by_the_writer_too(tmp_path: Path) -> None:
    manifest = dataclasses.replace(MANIFEST, identity=dataclasses.replace(MANIFEST.identity, dataset="elsewhere"))
    with pytest.MonkeyPatch.context() as patch:
        found: dict[str, Any] = {"elsewhere": Tiny, "av_digits": datasets().get("av_digits")}
        patch.setattr(crowning, "datasets", lambda: SimpleNamespace(classes=lambda: found))
        assert crowning._imports(manifest) == ["tests.datasets.tiny"]
        assert crowning._imports(MANIFEST) == []
    delivery: Any = SimpleNamespace(run_id=lambda key: "r", study_id="s")
    contender = {"arm": "d/m", "trial": ["confirm", 0], "manifest": manifest.to_json(), "imports": ["no_such_module"]}
    with pytest.raises(ImportError, match="no_such_module"):
        Champions(delivery, StudyFolder(tmp_path))._register("name", contender)
