"""Pseudo-values of every metric: means, variances, groups, and the way they are stored."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from balance_tune.replicas import Replicas
from balance_tune.tasks import METRICS
from balance_tune.training.jackknife import MOST_UNITS, packed, unit_of_rows, unit_values
from balance_tune.training.metrics import MEASURES


def _sample(task: str, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, 4, generator=generator)
    if task == "classes":
        labels = torch.randint(4, (rows,), generator=generator)
        return noise + 2 * torch.nn.functional.one_hot(labels, 4), labels
    if task == "multilabel":
        labels = (torch.rand(rows, 4, generator=generator) < 0.4).float()
        return noise + 2 * labels - 1, labels
    return noise[:, :1] + noise[:, 1:2], noise[:, :1]


@pytest.mark.parametrize("task", list(METRICS))
def test_pseudo_values_have_the_metric_as_their_mean(task: str) -> None:
    answers, labels = _sample(task, 200)
    values = unit_values(task, answers, labels)
    metrics, _ = MEASURES[task](answers, answers.unsqueeze(0), labels, Replicas())
    assert set(values) == set(METRICS[task])
    for name, own in values.items():
        assert own.shape == (200,)
        assert float(own.mean()) == pytest.approx(float(metrics[name]), abs=0.01), name


def test_pseudo_values_of_accuracy_are_hits() -> None:
    answers, labels = _sample("classes", 100)
    hits = (answers.argmax(1) == labels).double()
    assert torch.allclose(unit_values("classes", answers, labels)["accuracy"], hits, atol=1e-9)


@pytest.mark.parametrize(("task", "name"), [("classes", "macro_f1"), ("multilabel", "map"), ("regression", "pearson")])
def test_the_standard_error_is_the_spread_over_test_parts(task: str, name: str) -> None:
    scores, errors = [], []
    for seed in range(60):
        answers, labels = _sample(task, 250, seed)
        values = unit_values(task, answers, labels)[name]
        scores.append(float(values.mean()))
        errors.append(float(values.std()) / len(values) ** 0.5)
    assert sum(errors) / len(errors) == pytest.approx(float(torch.tensor(scores).std()), rel=0.2)


def test_rows_of_a_group_are_one_unit_and_there_are_never_too_many() -> None:
    assert unit_of_rows(4, torch.tensor([7, 3, 7, 9])).tolist() == [1, 0, 1, 2]
    many = unit_of_rows(1000, None)
    assert int(many.max()) + 1 == MOST_UNITS
    assert int(many.bincount().min()) >= 3
    answers, labels = _sample("classes", 60)
    assert unit_values("classes", answers, labels, torch.arange(60) // 6)["accuracy"].shape == (10,)


def test_one_group_has_no_units() -> None:
    answers, labels = _sample("classes", 20)
    assert unit_values("classes", answers, labels, torch.zeros(20)) == {}


def test_values_are_stored_as_float32() -> None:
    stored = packed({"accuracy": torch.tensor([0.0, 1.0, 0.25])})
    assert np.frombuffer(base64.b64decode(stored["accuracy"]), "<f4").tolist() == [0.0, 1.0, 0.25]
