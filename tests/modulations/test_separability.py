"""k-means and purity, against the official numbers and scikit-learn's definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from balance_tune.modulations.separability import kmeans, minmax, purity
from tests.golden import golden

OFFICIAL = golden("dr")
CASE = OFFICIAL["cases"][0]


@pytest.mark.parametrize("case", OFFICIAL["purity_cases"])
def test_purity_is_the_official_one(case: dict[str, Any]) -> None:
    found = purity(torch.tensor(case["y_true"]), torch.tensor(case["y_pred"]))
    assert found.item() == pytest.approx(case["purity"], abs=1e-7)


def test_purity_of_the_official_clusters_is_the_official_one() -> None:
    for name, clusters, expected in zip(
        CASE["kmeans_pred_order"].split(","), CASE["kmeans_pred"], CASE["purity"], strict=True
    ):
        labels = CASE["labels_train"] if name.startswith("train") else CASE["labels_val"]
        assert purity(torch.tensor(labels), torch.tensor(clusters)).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("part", ["train_audio", "val_audio", "train_visual", "val_visual"])
def test_several_starts_cluster_at_least_as_tightly_as_the_official_clusters(part: str) -> None:
    index = CASE["kmeans_pred_order"].split(",").index(part)
    features = minmax(torch.tensor(CASE[f"feat_{part}"], dtype=torch.float64))
    ours = kmeans(features, 4, n_init=10, generator=torch.Generator().manual_seed(0))
    official = torch.tensor(CASE["kmeans_pred"][index])

    def inertia(clusters: torch.Tensor) -> float:
        groups = [features[clusters == c] for c in clusters.unique()]
        return sum((g - g.mean(0)).square().sum().item() for g in groups)

    assert inertia(ours) <= inertia(official) * 1.01


def test_far_apart_clusters_are_found_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 5
    features = 50 * torch.eye(5)[labels] + torch.randn(60, 5, generator=generator)
    assert purity(labels, kmeans(features, 5, n_init=3, generator=generator)).item() == 1.0


def test_the_same_generator_gives_the_same_clusters() -> None:
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    a, b = (kmeans(features, 4, n_init=2, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)


def test_a_constant_dimension_does_not_become_nan() -> None:
    scaled = minmax(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert scaled.tolist() == [[-1.0, -1.0], [-1.0, 1.0]]


def test_labels_and_clusters_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two \(N,\) tensors"):
        purity(torch.zeros(3, dtype=torch.long), torch.zeros(2, dtype=torch.long))
