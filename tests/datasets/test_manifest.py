import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets.base import Modality
from balance_tune.datasets.manifest import Manifest, identity_of
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.datasets.store import build_store
from balance_tune.errors import UserError
from tests.datasets.tiny import Tiny


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return build_store(Tiny(), tmp_path / "store")


def test_a_manifest_reads_back_as_it_was_written(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_it_counts_rows_by_part_and_class(manifest: Manifest) -> None:
    assert manifest.counts["train"] == {"no": 10, "yes": 10}
    rows = {part: manifest.rows(part) for part in manifest.shards}
    assert rows == {"train": 20, "monitor": 4, "val": 8, "test": 8}


def test_modalities_keep_their_order(manifest: Manifest) -> None:
    swapped = {"b": Tiny.modalities["b"], "a": Tiny.modalities["a"]}
    assert list(Manifest.from_json(manifest.to_json()).modalities) == ["a", "b"]
    assert identity_of(Tiny(modalities=swapped)).hash != identity_of(Tiny()).hash


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"classes": ("yes", "no")},
        {"split": dataclasses.replace(Tiny.split, seed=1)},
        {"split": SplitRecipe("group", 0.5, 0.1, 0.2, 0.2)},
        {"modalities": {**Tiny.modalities, "a": Modality((3,), "mlp", {"hidden": 8})}},
    ],
)
def test_whatever_is_declared_otherwise_makes_another_store(changes: dict[str, object]) -> None:
    assert identity_of(Tiny(**changes)).hash != identity_of(Tiny()).hash


def test_words_about_the_data_do_not_make_another_store() -> None:
    assert identity_of(Tiny(limits=("other words",))).hash == identity_of(Tiny()).hash


def test_a_manifest_of_another_format_is_told(manifest: Manifest) -> None:
    raw = json.loads(manifest.to_json())
    raw["identity"]["format"] = 99
    with pytest.raises(UserError, match="format is 99"):
        Manifest.from_json(json.dumps(raw))


def test_a_manifest_that_contradicts_itself_is_told(manifest: Manifest) -> None:
    raw = json.loads(manifest.to_json())
    raw["shards"]["val"][0]["sha256"] = "0" * 64
    with pytest.raises(UserError, match="contradicts itself"):
        Manifest.from_json(json.dumps(raw))


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/passwd", "a/b", "..", "", "a/", "a\0b", 3, None])
def test_a_manifest_cannot_name_what_is_outside_of_its_folder(manifest: Manifest, name: Any) -> None:
    for change in ("dataset", "shard"):
        raw = json.loads(manifest.to_json())
        if change == "shard":
            raw["shards"]["test"][0]["file"] = name
        else:
            raw["identity"]["dataset"] = name
        with pytest.raises(UserError, match="files of its own folder alone") as caught:
            Manifest.from_json(json.dumps(raw))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"identity": 3}', '{"identity": {"format": 2}}'])
def test_what_is_no_manifest_is_told(text: str) -> None:
    with pytest.raises(UserError, match="manifest cannot be read"):
        Manifest.from_json(text)


def test_whatever_in_a_manifest_is_of_another_kind_is_one_line(manifest: Manifest) -> None:
    raw, tried, told = json.loads(manifest.to_json()), 0, []
    for path in places(raw):
        for wrong in (None, "x", -1, [], {}, [[]], {"a": {}}):
            made = json.loads(manifest.to_json())
            at = made
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = wrong
            tried += 1
            try:
                Manifest.from_json(json.dumps(made))
            except UserError as error:
                told.append(str(error))
    assert len(told) > tried / 2 > 250
    assert not any("\n" in words for words in told)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something is in JSON, at most three entries of each list or mapping."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in entries[:3] if len(path) > 1 else entries:
        yield (*path, key)
        yield from places(inner, (*path, key))
