import numpy as np
import pytest

from balance_tune.datasets.splits import split_hash
from balance_tune.datasets.watch import Watch, cut
from balance_tune.errors import UserError


def test_a_series_is_cut_into_windows_of_two_seconds() -> None:
    series = np.arange(3 * 250, dtype=np.float32)
    windows = cut(series)
    assert windows.shape == (2, 3, 100)
    assert windows[1, 2].tolist() == series.reshape(-1, 3)[100:200, 2].tolist()


@pytest.mark.parametrize("length", [0, 299, 301])
def test_a_series_too_short_or_not_of_three_axes_is_told(length: int) -> None:
    with pytest.raises(UserError, match="`gyroscope` of row 4 must be T x 3 values with T >= 100"):
        cut(np.zeros(length, dtype=np.float32), "gyroscope", 4)


def test_it_is_ten_people_each_doing_every_exercise() -> None:
    samples = Watch().read()
    assert len(samples) == 2369
    assert samples.groups is not None
    done = set(zip(samples.groups.tolist(), samples.labels.tolist(), strict=True))
    assert done == {(person, exercise) for person in range(1, 11) for exercise in range(7)}


def test_gravity_is_one_g() -> None:
    strength = np.sqrt((Watch().read().inputs["accelerometer"] ** 2).sum(axis=1))
    assert 0.9 < np.median(strength) < 1.1


def test_people_are_split_4_1_2_3_and_stay_where_they_are() -> None:
    samples = Watch().read()
    assignment = Watch.split.assign(samples.labels, samples.groups)
    assert samples.groups is not None
    assert [len(np.unique(samples.groups[assignment == part])) for part in range(4)] == [4, 1, 2, 3]
    assert split_hash(Watch.split, assignment) == "b6501649c1e0"
