"""Every dataset that is prepared from files is held to the same demands, on its miniature."""

import pytest

from balance_tune.datasets.distribution import Distribution
from balance_tune.registry import datasets
from balance_tune.testing import DistributionContract

OURS = [
    name
    for name, cls in datasets().classes().items()
    if issubclass(cls, Distribution) and cls.__module__.startswith("balance_tune.")
]


class TestEveryDistribution(DistributionContract):
    @pytest.fixture(scope="class", params=OURS)
    @classmethod
    def dataset(cls, request: pytest.FixtureRequest) -> Distribution:
        found: Distribution = datasets().get(request.param)()
        return found


for slow in (
    DistributionContract.test_preparing_again_gives_the_same_bytes,
    DistributionContract.test_its_miniature_is_the_same_every_time,
    DistributionContract.test_a_broken_file_is_recorded_and_left_out,  # CREMA-D shows it in every way
):
    pytest.mark.full(slow)
