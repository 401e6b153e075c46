"""Scores: the true class's probability, summed, and how modalities compare."""

from __future__ import annotations

import torch

from balance_tune.modulations.scores import ratios, score_sums, true_class_probability


def test_the_probability_is_softmax_at_the_label() -> None:
    logits, labels = torch.randn(7, 4, dtype=torch.float64), torch.arange(7) % 4
    expected = torch.stack([logits[i].softmax(0)[labels[i]] for i in range(7)])
    assert torch.allclose(true_class_probability(logits, labels), expected)


def test_half_precision_logits_are_scored_in_single_precision() -> None:
    logits = torch.full((3, 2), 60000.0, dtype=torch.float16)
    assert true_class_probability(logits, torch.zeros(3, dtype=torch.long)).dtype == torch.float32


def test_sums_are_one_per_modality_and_carry_no_gradient() -> None:
    logits = {m: torch.randn(5, 3, requires_grad=True) for m in "abc"}
    sums = score_sums(logits, torch.zeros(5, dtype=torch.long))
    assert sums.shape == (3,)
    assert not sums.requires_grad


def test_of_two_the_ratio_is_plain_and_of_more_it_is_the_mean_over_the_others() -> None:
    assert ratios(torch.tensor([4.0, 2.0])).tolist() == [2.0, 0.5]
    assert ratios(torch.tensor([4.0, 2.0, 1.0])).tolist() == [3.0, 1.25, 0.375]
