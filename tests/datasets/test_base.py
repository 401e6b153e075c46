from typing import Any

import numpy as np
import pytest

from balance_tune.datasets.base import Modality, Samples
from balance_tune.errors import UserError
from tests.datasets.tiny import Tiny


def test_samples_become_float32_and_int64() -> None:
    samples = Tiny().read()
    assert {x.dtype for x in samples.inputs.values()} == {np.dtype("float32")}
    assert samples.labels.dtype == np.int64
    assert len(samples) == 40


def test_infinite_and_missing_values_are_told_with_their_row() -> None:
    x = np.zeros((4, 3))
    x[2, 1], x[3, 0] = np.nan, 1e300  # beyond float32
    with pytest.raises(UserError, match="`a` must be finite, but 2 of 4 samples are not; the first is row 2"):
        Samples({"a": x}, np.zeros(4, dtype=int))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": {}}, "needs samples and modalities"),
        ({"inputs": {"a": np.zeros((3, 2))}}, "with 40 samples"),
        ({"inputs": {"a": np.zeros(40)}}, "must have shape"),
        ({"inputs": {"a": np.array([["x"]] * 40)}}, "array of numbers"),
        ({"labels": np.zeros(40)}, "`labels` must be 40 whole numbers"),
        ({"groups": np.zeros(39, dtype=int)}, "`groups` must be 40 whole numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Tiny(given).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"inputs": {"a": np.zeros((40, 3))}}, "modalities it declares, in their order: a, b; but got a"),
        ({"inputs": {"a": np.zeros((40, 4)), "b": np.zeros((40, 2, 4))}}, r"`a` .* shape \(3,\), but got \(4,\)"),
        ({"labels": np.full(40, 2)}, "from 0 to 1 .* but got 2 to 2"),
        ({"labels": np.full(40, -1)}, "got -1 to -1"),
    ],
)
def test_samples_that_break_the_declaration_are_one_line(samples: dict[str, Any], message: str) -> None:
    tiny = Tiny(samples)
    with pytest.raises(UserError, match=message):
        tiny.check_samples(tiny.read())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../up"}, "lower-case letters"),
        ({"classes": ("yes", "yes")}, "all different"),
        ({"modalities": {}}, "must have a modality"),
        ({"modalities": {"label": Modality((3,), "mlp")}}, "none of label, row, group"),
        ({"recipe": {"lr": 0.1}}, r"\(value, source\)"),
    ],
)
def test_a_declaration_that_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tiny(**changes).check()


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        ({"shape": (), "encoder": "mlp"}, "positive whole numbers"),
        ({"shape": (3, 0), "encoder": "mlp"}, "positive whole numbers"),
        ({"shape": (3,), "encoder": ""}, "name its encoder"),
        ({"shape": (3,), "encoder": "mlp", "standardise": (1,)}, "axes of the shape"),
        ({"shape": (3,), "encoder": "mlp", "settings": {"norm": object()}}, "plain JSON"),
    ],
)
def test_a_modality_that_cannot_be_is_one_line(modality: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Modality(**modality)


def test_a_sample_may_come_as_nested_lists() -> None:
    assert Tiny().decode("b", [[1, 2, 3, 4], [5, 6, 7, 8]]).dtype == np.float32


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"12", "decodes no files, but got a bytes of length 2"),
        ([1.0, 2.0], r"must have shape \(3,\), but got \(2,\)"),
        ([1.0, "two", 3.0], r"must be numbers of shape \(3,\)"),
        ([1.0, None, 3.0], "must be"),
    ],
)
def test_a_sample_that_cannot_be_one_is_told(raw: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Tiny().decode("a", raw)
