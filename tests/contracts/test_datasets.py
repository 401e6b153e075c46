"""Every dataset that ships is held to the same demands."""

import pytest

from balance_tune.datasets.base import Dataset
from balance_tune.datasets.distribution import Distribution
from balance_tune.datasets.stored import Stored
from balance_tune.registry import datasets
from balance_tune.testing import DatasetContract


class TestEveryDataset(DatasetContract):
    @pytest.fixture(scope="class", params=["av_digits", "multiple_features", "watch"])
    @classmethod
    def dataset(cls, request: pytest.FixtureRequest) -> Dataset:
        found: Dataset = datasets().get(request.param)()
        return found


def test_no_dataset_escapes_the_contract() -> None:
    ours = [
        name
        for name, cls in datasets().classes().items()
        if cls.__module__.startswith("balance_tune.") and not issubclass(cls, Distribution | Stored)
    ]
    assert ours == ["av_digits", "multiple_features", "watch"]
