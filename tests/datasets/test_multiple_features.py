import numpy as np

from balance_tune.datasets.multiple_features import MultipleFeatures
from balance_tune.datasets.splits import split_hash


def test_it_is_two_hundred_of_each_numeral_in_four_views() -> None:
    samples = MultipleFeatures().read()
    assert np.bincount(samples.labels).tolist() == [200] * 10
    assert {name: x.shape[1] for name, x in samples.inputs.items()} == {
        "fourier": 76,
        "zernike": 47,
        "karhunen": 64,
        "morphological": 6,
    }


def test_the_split_is_500_100_300_1100_and_stays_as_it_is() -> None:
    assignment = MultipleFeatures.split.assign(MultipleFeatures().read().labels)
    assert np.bincount(assignment).tolist() == [500, 100, 300, 1100]
    assert split_hash(MultipleFeatures.split, assignment) == "230800086523"


def test_six_numerals_occur_twice_as_its_limits_say() -> None:
    views = np.hstack(list(MultipleFeatures().read().inputs.values()))
    assert len(views) - len(np.unique(views, axis=0)) == 6
    assert any("six of the 2,000 numerals occur twice" in limit for limit in MultipleFeatures.limits)
