"""What every dataset must hold to: inherit `DatasetContract` and give it the dataset.

class TestMine(DatasetContract):
    @pytest.fixture(scope="class")
    def dataset(self):
        return MyDataset()
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from balance_tune.datasets.base import Dataset, Samples
from balance_tune.datasets.shards import Part
from balance_tune.datasets.splits import PARTS
from balance_tune.datasets.store import Data, build_store, open_store, store_name, verify_store
from balance_tune.errors import UserError
from balance_tune.registry import encoders


class DatasetContract:
    """Demands on one dataset; `dataset` is the only fixture to override."""

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Dataset:
        raise NotImplementedError("override the fixture `dataset` of DatasetContract")

    @pytest.fixture(scope="class")
    @classmethod
    def samples(cls, dataset: Dataset) -> Samples:
        return dataset.read()

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("store") / store_name(dataset)
        build_store(dataset, folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, folder: Path) -> Data:
        return open_store(folder, PARTS, unseal=True)

    def test_it_says_where_it_is_from_and_what_its_limits_are(self, dataset: Dataset) -> None:
        dataset.check()
        assert dataset.licence
        assert dataset.source
        assert dataset.limits

    def test_every_value_of_its_training_recipe_has_a_source(self, dataset: Dataset) -> None:
        assert all(source for _, source in dataset.recipe.values())
        json.dumps({setting: value for setting, (value, _) in dataset.recipe.items()})

    def test_it_reads_what_it_declares(self, dataset: Dataset, samples: Samples) -> None:
        dataset.check_samples(samples)
        assert set(np.unique(samples.labels)) == set(range(len(dataset.classes)))

    def test_a_sample_it_has_read_is_one_that_it_decodes(self, dataset: Dataset, samples: Samples) -> None:
        for name, values in samples.inputs.items():
            np.testing.assert_array_equal(dataset.decode(name, values[0]), values[0])
            np.testing.assert_array_equal(dataset.decode(name, values[0].tolist()), values[0])

    def test_it_decodes_nothing_of_another_shape(self, dataset: Dataset) -> None:
        for name, modality in dataset.modalities.items():
            with pytest.raises(UserError):
                dataset.decode(name, np.zeros((*modality.shape, 1), dtype=np.float32))

    def test_its_default_encoders_take_its_shapes(self, dataset: Dataset) -> None:
        for modality in dataset.modalities.values():
            encoder = encoders().get(modality.encoder)(modality.shape, **modality.settings)
            assert encoder(torch.zeros(2, *modality.shape)).shape == (2, encoder.features)

    def test_every_row_is_in_exactly_one_part(self, data: Data, samples: Samples) -> None:
        rows = torch.cat([part.rows for part in data.parts.values()])
        assert rows.sort().values.tolist() == list(range(len(samples)))

    def test_parts_hold_the_rows_they_say(self, data: Data, samples: Samples) -> None:
        for part in data.parts.values():
            assert part.labels.tolist() == samples.labels[part.rows.numpy()].tolist()

    def test_no_group_is_in_two_parts_of_a_split_by_group(self, data: Data, dataset: Dataset) -> None:
        if dataset.split.kind != "group":
            pytest.skip("not split by group")
        groups = [set(_groups(part)) for part in data.parts.values()]
        assert sum(len(part_groups) for part_groups in groups) == len(set().union(*groups))

    def test_a_stratified_split_gives_every_class_its_share(self, data: Data, dataset: Dataset) -> None:
        if dataset.split.kind != "stratified":
            pytest.skip("not stratified")
        for label, name in enumerate(dataset.classes):
            total = sum(int((part.labels == label).sum()) for part in data.parts.values())
            for part, share in zip(PARTS, dataset.split.fractions, strict=True):
                assert abs(data.manifest.counts[part][name] - share * total) < 1

    def test_every_class_is_trained_on(self, data: Data, dataset: Dataset) -> None:
        assert data.parts["train"].labels.unique().tolist() == list(range(len(dataset.classes)))

    def test_training_inputs_are_standardised(self, data: Data, dataset: Dataset) -> None:
        for name, modality in dataset.modalities.items():
            x = data.parts["train"].inputs[name].double()
            over = [axis for axis in range(x.dim()) if axis - 1 not in modality.standardise]
            mean, std = x.mean(over), x.std(over, correction=0)
            constant = std < 1e-3
            assert mean.abs().max() < 1e-4
            assert (std[~constant] - 1).abs().max() < 1e-3

    def test_standardisation_knows_training_rows_only(self, data: Data, dataset: Dataset, samples: Samples) -> None:
        rows = data.parts["train"].rows.numpy()
        for name, modality in dataset.modalities.items():
            x = samples.inputs[name][rows].astype(np.float64)
            over = tuple(axis for axis in range(x.ndim) if axis - 1 not in modality.standardise)
            np.testing.assert_allclose(data.manifest.statistics[name].mean, x.mean(over), rtol=1e-6, atol=1e-9)

    def test_every_part_is_scaled_alike(self, data: Data, dataset: Dataset, samples: Samples) -> None:
        for name, modality in dataset.modalities.items():
            shape = [n if axis in modality.standardise else 1 for axis, n in enumerate(modality.shape)]
            mean = np.reshape(data.manifest.statistics[name].mean, shape)
            std = np.reshape(data.manifest.statistics[name].std, shape)
            for part in data.parts.values():
                expected = (samples.inputs[name][part.rows.numpy()] - mean) / std
                np.testing.assert_allclose(part.inputs[name].numpy(), expected, rtol=1e-5, atol=1e-5)

    def test_training_cannot_open_the_test_part(self, folder: Path) -> None:
        assert set(open_store(folder).parts) == {"train", "monitor", "val"}
        with pytest.raises(UserError, match="sealed"):
            open_store(folder, ("test",))

    def test_tensors_are_views_of_one_memory_map(self, data: Data) -> None:
        for name, part in data.parts.items():
            columns = [*part.inputs.values(), part.labels, part.rows]
            first = min(column.data_ptr() for column in columns)
            last = max(column.data_ptr() + column.nbytes for column in columns)
            assert last - first <= data.manifest.shards[name][0].bytes

    def test_a_process_opens_a_store_once(self, folder: Path) -> None:
        assert open_store(folder) is open_store(str(folder))

    def test_building_again_gives_the_same_bytes(self, dataset: Dataset, folder: Path, tmp_path: Path) -> None:
        again = tmp_path / folder.name
        build_store(dataset, again)
        for file in sorted(folder.iterdir()):
            assert (again / file.name).read_bytes() == file.read_bytes()

    def test_its_store_verifies(self, data: Data, folder: Path) -> None:
        assert verify_store(folder) == data.manifest


def _groups(part: Part) -> list[int]:
    assert part.groups is not None
    groups: list[int] = part.groups.tolist()
    return groups
