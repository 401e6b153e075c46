"""What every dataset prepared from files must hold to: inherit `DistributionContract` and give it the dataset.

class TestMine(DistributionContract):
    @pytest.fixture(scope="class")
    def dataset(self):
        return MyDistribution()
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from balance_tune.datasets.distribution import Distribution
from balance_tune.datasets.place import Place
from balance_tune.datasets.preparation import begin, finish, finished, write_chunk
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.datasets.splits import PARTS
from balance_tune.datasets.store import Data, open_store, verify_store
from balance_tune.errors import UserError


def prepared(dataset: Distribution, source: Path, out: Path, most: float = 0.0, shard_bytes: int = 2**22) -> Path:
    """Prepare a distribution in this process, without any scheduler, and return the store's folder."""
    plan, place = plan_of(dataset, source, shard_bytes), Place.of(out)
    if begin(plan, place) is None:
        outcomes = [finished(chunk, place) or write_chunk(dataset, source, chunk, place) for chunk in plan.chunks]
        finish(plan, outcomes, place, most)
    return out


class DistributionContract:
    """Demands on one distribution, made on its miniature; `dataset` is the only fixture to override."""

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Distribution:
        raise NotImplementedError("override the fixture `dataset` of DistributionContract")

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, dataset: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("source")
        dataset.miniature(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, dataset: Distribution, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return prepared(dataset, source, tmp_path_factory.mktemp("store") / dataset.name)

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, folder: Path) -> Data:
        return open_store(folder, PARTS, unseal=True)

    def test_it_says_where_it_is_from_and_what_its_limits_are(self, dataset: Distribution) -> None:
        dataset.check()
        assert dataset.licence
        assert dataset.source
        assert dataset.limits
        assert dataset.layout

    def test_every_value_of_its_training_recipe_has_a_source(self, dataset: Distribution) -> None:
        assert dataset.recipe
        assert all(source for _, source in dataset.recipe.values())
        json.dumps({setting: value for setting, (value, _) in dataset.recipe.items()})

    def test_its_store_verifies(self, data: Data, folder: Path) -> None:
        assert verify_store(folder) == data.manifest

    def test_nothing_of_its_miniature_is_lost(self, data: Data, dataset: Distribution, source: Path) -> None:
        items = dataset.items(source)
        assert data.manifest.skipped == ()
        rows = torch.cat([part.rows for part in data.parts.values()])
        assert rows.sort().values.tolist() == list(range(len(items)))

    def test_labels_are_those_of_the_annotations(self, data: Data, dataset: Distribution, source: Path) -> None:
        items = dataset.items(source)
        for part in data.parts.values():
            expected = torch.tensor([items[row].label for row in part.rows.tolist()], dtype=part.labels.dtype)
            assert torch.equal(part.labels, expected)

    def test_official_parts_are_kept(self, data: Data, dataset: Distribution, source: Path) -> None:
        if dataset.split.kind != "official":
            pytest.skip("no official split")
        items = dataset.items(source)
        for name, part in data.parts.items():
            official = {items[row].part for row in part.rows.tolist()}
            assert official == ({name} if not getattr(dataset.split, name) else {"train"})

    def test_shapes_and_types_are_those_it_declares(self, data: Data, dataset: Distribution) -> None:
        for part in data.parts.values():
            for name, modality in dataset.modalities.items():
                assert part.inputs[name].shape[1:] == modality.stored
                assert part.inputs[name].dtype == getattr(torch, modality.dtype)

    def test_samples_of_different_classes_differ(self, data: Data, dataset: Distribution) -> None:
        part = data.parts["train"]
        for name in dataset.modalities:
            x = part.take(name, torch.arange(len(part))).double().flatten(1)
            assert x.std(0).max() > 0

    def test_preparing_again_gives_the_same_bytes(
        self, dataset: Distribution, folder: Path, source: Path, tmp_path: Path
    ) -> None:
        again = prepared(dataset, source, tmp_path / dataset.name)
        assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in folder.iterdir())
        for file in sorted(folder.iterdir()):
            assert (again / file.name).read_bytes() == file.read_bytes()

    def test_training_cannot_open_the_test_part(self, folder: Path) -> None:
        assert set(open_store(folder).parts) == {"train", "monitor", "val"}
        with pytest.raises(UserError, match="sealed"):
            open_store(folder, ("test",))

    def test_an_empty_folder_is_told_in_one_line(self, dataset: Distribution, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=f"source of `{dataset.name}` must") as caught:
            plan_of(dataset, tmp_path)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="must be a folder"):
            plan_of(dataset, tmp_path / "nowhere")

    @pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
    def test_a_list_that_is_empty_or_no_text_is_told_in_one_line_and_nothing_is_begun(
        self, dataset: Distribution, source: Path, tmp_path: Path, content: bytes
    ) -> None:
        for path in dataset.annotations(source):
            whole = path.read_bytes()
            try:
                path.write_bytes(content)
                with pytest.raises(UserError) as caught:
                    prepared(dataset, source, tmp_path / "store")
            finally:
                path.write_bytes(whole)
            assert path.name in str(caught.value) or str(source) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "store").exists()

    def test_a_broken_file_is_recorded_and_left_out(self, dataset: Distribution, source: Path, tmp_path: Path) -> None:
        item = dataset.items(source)[0]
        path = source / item.files[0]
        if path.is_dir() or len({i.files for i in dataset.items(source)}) == 1:
            pytest.skip("its samples have no files of their own")
        whole = path.read_bytes()
        try:
            for broken, reason in ((b"", "it has no bytes"), (whole[:40], "")):
                path.write_bytes(broken)
                folder = prepared(dataset, source, tmp_path / f"{len(broken)}", most=0.5)
                (entry,) = verify_store(folder).skipped
                assert (entry.sample, entry.file) == (item.sample, item.files[0])
                assert reason in entry.reason
        finally:
            path.write_bytes(whole)

    def test_its_miniature_is_the_same_every_time(self, dataset: Distribution, source: Path, tmp_path: Path) -> None:
        dataset.miniature(tmp_path)
        items = dataset.items(tmp_path)
        assert items == dataset.items(source)
        for name, x in dataset.load(tmp_path, items[0]).items():
            np.testing.assert_array_equal(x, dataset.load(source, items[0])[name])
