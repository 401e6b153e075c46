"""The loss of each task against its formula, sample by sample."""

import math

import pytest
import torch

from balance_tune.models.losses import sample_losses, squared_errors

ANSWERS = torch.tensor([[1.0, -2.0], [0.5, 0.5], [-1.0, 3.0]], dtype=torch.float64)


def test_of_classes_it_is_the_cross_entropy() -> None:
    labels = [0, 1, 0]
    found = sample_losses("classes", ANSWERS, torch.tensor(labels))
    expected = [
        -math.log(math.exp(a[y]) / sum(map(math.exp, a))) for a, y in zip(ANSWERS.tolist(), labels, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected)


def test_of_labels_it_is_the_mean_binary_cross_entropy_over_labels() -> None:
    labels = torch.tensor([[1, 0], [1, 1], [0, 0]])
    found = sample_losses("multilabel", ANSWERS, labels)
    expected = [
        sum(-math.log(1 / (1 + math.exp(-f if y else f))) for f, y in zip(a, row, strict=True)) / 2
        for a, row in zip(ANSWERS.tolist(), labels.tolist(), strict=True)
    ]
    assert found.tolist() == pytest.approx(expected)


def test_of_numbers_it_is_the_mean_absolute_error_over_targets() -> None:
    labels = torch.tensor([[0.0, 0.0], [0.5, -0.5], [1.0, 1.0]])
    assert sample_losses("regression", ANSWERS, labels).tolist() == pytest.approx([1.5, 0.5, 2.0])
    assert squared_errors({"a": ANSWERS, "b": 0 * ANSWERS}, labels).tolist() == [
        pytest.approx([2.5, 0.5, 4.0]),
        pytest.approx([0.0, 0.25, 1.0]),
    ]
