from pathlib import Path

import pytest

from balance_tune.datasets.crema_d import CremaD
from balance_tune.datasets.store import read_manifest
from balance_tune.errors import UserError
from balance_tune.studies.data.stores import MINIATURE, VARIABLE, identity_of_store, store_of
from balance_tune.studies.loading import load_config
from balance_tune.studies.miniature import miniature
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.testing.distributions import prepared


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    CremaD().miniature(folder / "source")
    return prepared(CremaD(), folder / "source", folder / "crema_d")


def test_data_that_was_not_prepared_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"balance-tune data prepare crema_d --recipe ogm --source DIR --out "
    ) as caught:
        store_of("crema_d", {}, StudyFolder(tmp_path))
    assert str(tmp_path / "crema_d") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_found_where_the_study_says_then_the_environment_then_below_the_root(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_of("crema_d", {}, StudyFolder(store.parent))[0] == str(store)
    monkeypatch.setenv(VARIABLE, str(store.parent))
    assert store_of("crema_d", {}, StudyFolder(tmp_path))[0] == str(store)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    where, manifest = store_of("crema_d", {"crema_d": str(store)}, StudyFolder(tmp_path))
    assert (where, manifest) == (str(store), read_manifest(store))


def test_a_store_of_another_recipe_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be of `crema_d_mlb` as this version declares it, but is of `crema_d`"):
        store_of("crema_d_mlb", {"crema_d_mlb": str(store)}, StudyFolder(tmp_path))


@pytest.mark.parametrize("place", [".", "file", "gone", "x" * 300])
def test_a_place_without_a_store_is_told_and_not_to_be_deleted(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"data\.stores\.crema_d|must be a place that can be read") as caught:
        store_of("crema_d", {"crema_d": str(tmp_path / place)}, StudyFolder(tmp_path))
    assert "delete" not in str(caught.value)


def test_a_miniature_is_made_once(tmp_path: Path) -> None:
    told: list[str] = []
    first = store_of("crema_d", {"crema_d": MINIATURE}, StudyFolder(tmp_path), told.append)
    assert store_of("crema_d", {"crema_d": MINIATURE}, StudyFolder(tmp_path), told.append) == first
    assert told == ["making the miniature of crema_d"]


def test_an_epoch_is_timed_per_store(store: Path, tmp_path: Path) -> None:
    assert identity_of_store("crema_d", {}, StudyFolder(tmp_path)) is None
    assert (
        identity_of_store("crema_d", {}, StudyFolder(store.parent)) == f"crema_d-{read_manifest(store).data_hash[:12]}"
    )
    assert (identity_of_store("watch", {}, StudyFolder(tmp_path)) or "").startswith("watch-")


def test_a_study_in_miniature_keeps_its_datasets_and_the_methods_that_can_act() -> None:
    config = load_config(
        {
            "name": "mine",
            "datasets": ["watch", "crema_d"],
            "methods": ["joint", "ogm", {"name": "ogm_late", "method": "ogm", "set": {"start": 0.2}}],
            "model": {"encoders": {"visual": "resnet18"}},
            "search": {
                "trials": 30,
                "space": {"training": {"lr": {"low": 0.0001, "high": 0.2}}, "ogm_late": {"alpha": 1.0}},
            },
        }
    )
    plain, left_out = miniature(config)
    small = load_config(plain)
    assert (small.name, small.datasets, small.methods) == ("mine-miniature", config.datasets, config.methods)
    assert (small.search.trials, small.confirm.seeds, small.training["epochs"]) == (1, 2, 2)
    assert small.data.stores == {"crema_d": MINIATURE}
    assert left_out == ()


def test_where_data_lies_is_no_change_of_a_study() -> None:
    config = load_config({"name": "mine", "datasets": ["watch"], "methods": ["joint"]})
    moved = load_config(config, ["data.stores.watch=/elsewhere"])
    assert not moved.changes(config)
