"""Another split of a store: what is drawn anew, what stays, and by which rows values are standardised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balance_tune.datasets import redraw
from balance_tune.datasets.base import Dataset, Modality, Samples
from balance_tune.datasets.multiple_features import MultipleFeatures
from balance_tune.datasets.redraw import drawn_parts, open_redrawn, redrawn_split_hash, restandardised
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.datasets.store import OPEN, build_store, open_store
from balance_tune.errors import UserError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("redraw") / "store"
    build_store(MultipleFeatures(), folder)
    return str(folder)


def rows(data: Any, part: str) -> set[int]:
    return set(data.parts[part].rows.tolist())


def test_rows_are_drawn_among_the_open_parts_and_no_part_changes_its_size(store: str) -> None:
    base, one, again, two = open_store(store), open_redrawn(store, 1), open_redrawn(store, 1), open_redrawn(store, 2)
    assert {p: len(one.parts[p]) for p in OPEN} == {p: len(base.parts[p]) for p in OPEN}
    for other in (one, two):
        assert set.union(*(rows(other, p) for p in OPEN)) == set.union(*(rows(base, p) for p in OPEN))
        assert sum(len(other.parts[p]) for p in OPEN) == len(set.union(*(rows(other, p) for p in OPEN)))
    assert rows(one, "train") == rows(again, "train")
    assert len({frozenset(rows(d, "train")) for d in (base, one, two)}) == 3


def test_every_class_keeps_its_share(store: str) -> None:
    base, one = open_store(store), open_redrawn(store, 3)
    for part in OPEN:
        counts = [torch.bincount(d.parts[part].labels, minlength=10) for d in (base, one)]
        assert (counts[0] - counts[1]).abs().max() <= 1
    assert one.manifest.counts["train"] == {
        name: int(n) for name, n in zip(one.manifest.classes, torch.bincount(one.parts["train"].labels), strict=True)
    }


def test_values_are_those_of_raw_rows_standardised_by_the_new_training_rows(store: str) -> None:
    one, raw = open_redrawn(store, 1), MultipleFeatures().read()
    for m, x in raw.inputs.items():
        values = x.astype(np.float64)
        train = values[one.parts["train"].rows.numpy()]
        mean, std = train.mean(0), train.std(0)
        std = np.where(std > 1e-6 * np.maximum(1, abs(mean)), std, 1)
        for part in OPEN:
            own = values[one.parts[part].rows.numpy()]
            np.testing.assert_allclose(one.parts[part].inputs[m].numpy(), (own - mean) / std, atol=2e-6)
        np.testing.assert_allclose(one.manifest.statistics[m].mean, mean, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(one.manifest.statistics[m].std, std, rtol=1e-5)


def test_the_test_part_can_be_scaled_by_the_statistics_of_a_split(store: str) -> None:
    one, sealed = open_redrawn(store, 1), open_store(store, ("test",), unseal=True)
    test = restandardised(sealed.parts["test"], sealed.manifest, one.manifest.statistics)
    m = next(iter(test.inputs))
    raw = MultipleFeatures().read().inputs[m].astype(np.float64)[test.rows.numpy()]
    mean, std = (np.asarray(v) for v in (one.manifest.statistics[m].mean, one.manifest.statistics[m].std))
    np.testing.assert_allclose(test.inputs[m].numpy(), (raw - mean) / std, atol=2e-6)


def test_the_hash_of_a_split_is_known_without_its_data(store: str) -> None:
    base, one = open_store(store).manifest, open_redrawn(store, 1).manifest
    assert one.split_hash == redrawn_split_hash(base, 1) != redrawn_split_hash(base, 2) != base.split_hash
    assert one.data_hash == base.data_hash


class Spoken(Dataset):
    """Eight speakers of four sentences; two classes."""

    name = "redraw_spoken"
    version = 1
    classes = ("a", "b")
    modalities = {"x": Modality((2,), "mlp", {"features": 4})}  # noqa: RUF012
    split = SplitRecipe("group", train=0.25, monitor=0.25, val=0.25, test=0.25)
    licence = source = "made up"
    limits = ("made up",)
    recipe = {}  # noqa: RUF012

    def read(self) -> Samples:
        n = 32
        x = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
        return Samples({"x": x}, np.arange(n) % 2, groups=np.arange(n) // 4, parts=self.parts())

    def parts(self) -> Any:
        return None


class Official(Spoken):
    name = "redraw_official"
    split = SplitRecipe("official", monitor=0.2, val=0.2, carve="group")

    def parts(self) -> Any:
        return np.where(np.arange(32) < 24, 0, 3).astype(np.int8)


class Given(Spoken):
    name = "redraw_given"
    split = SplitRecipe("official")

    def parts(self) -> Any:
        return np.repeat([0, 1, 2, 3], 8).astype(np.int8)


@pytest.mark.parametrize("dataset", [Spoken, Official])
def test_groups_stay_whole_and_the_test_part_stays(dataset: type[Dataset], tmp_path: Path) -> None:
    build_store(dataset(), tmp_path / "s")
    base = open_store(tmp_path / "s")
    drawn = [open_redrawn(str(tmp_path / "s"), seed) for seed in range(1, 6)]
    for data in drawn:
        groups = [set(data.parts[p].groups.tolist()) for p in OPEN]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert set.union(*groups) == set.union(*(set(base.parts[p].groups.tolist()) for p in OPEN))
        assert all(len(data.parts[p]) for p in OPEN)
    assert len({frozenset(rows(data, "val")) for data in drawn}) > 1


def test_what_the_authors_gave_whole_is_not_drawn_anew(tmp_path: Path) -> None:
    build_store(Given(), tmp_path / "s")
    assert drawn_parts(Given.split) == ("train",)
    base, one = open_store(tmp_path / "s"), open_redrawn(str(tmp_path / "s"), 1)
    assert all(rows(base, p) == rows(one, p) for p in OPEN)
    assert redrawn_split_hash(base.manifest, 1) == base.manifest.split_hash


def test_a_draw_without_training_rows_of_a_class_is_drawn_again_and_in_the_end_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Alone(Official):
        name = "redraw_alone"

        def read(self) -> Samples:
            samples = super().read()
            labels = np.where(samples.groups == 0, 1, 0)
            labels[24:] = np.arange(8) % 2
            return Samples(samples.inputs, labels, groups=np.arange(32) // 4, parts=self.parts())

    build = Alone()
    seeds = 0
    for seed in range(20):  # a split whose training rows have the class
        Alone.split = SplitRecipe("official", monitor=0.2, val=0.2, carve="group", seed=seed)
        try:
            build_store(build, tmp_path / f"s{seed}")
        except UserError:
            continue
        data = open_redrawn(str(tmp_path / f"s{seed}"), 1)
        assert 1 in data.parts["train"].labels
        seeds += 1
    assert seeds
    monkeypatch.setattr(redraw, "ATTEMPTS", 0)
    with pytest.raises(UserError, match="must give each class a training row"):
        open_redrawn(str(next(tmp_path.glob("s*"))), 1)
