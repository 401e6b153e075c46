"""Modality-level valuation against plain loops over samples, and what it promises."""

from __future__ import annotations

import copy

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.modality_valuation import ModalityValuation, resampling_ratios
from balance_tune.seeds import generator
from balance_tune.testing.tiny import tiny_run
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    mean,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update


@pytest.mark.parametrize("seed", [2, 3, 7])
def test_a_step_adds_samples_with_the_weaker_modality_alone_in_proportion_to_the_gap(seed: int) -> None:
    settings = {"start": 0.0, "part": 0.5, "alpha": 2.0}
    run = whole_batch_run("modality_valuation", settings, batch_size=1000, seed=seed)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    judge = copy.deepcopy(model).eval()
    draw = generator("cpu", run.context.seed, "modality_valuation", "part", 0)
    valued = torch.randperm(22, generator=draw).tolist()[:11]
    phi: dict[str, list[float]] = {"audio": [], "image": []}
    for i in valued:
        subsets = {"both": ("audio", "image"), "audio": ("audio",), "image": ("image",)}
        right = {s: int(judge(row(inputs, i, p))[0].argmax()) == labels[i] for s, p in subsets.items()}
        phi["audio"].append((right["audio"] + 2 * right["both"] - right["image"]) / 2)
        phi["image"].append((right["image"] + 2 * right["both"] - right["audio"]) / 2)
    gap = mean(phi["audio"]) - mean(phi["image"])
    assert gap != 0
    weaker, count = ("image" if gap > 0 else "audio"), int(abs(gap) / 3 * 2 * 2.0 * 22 + 1e-9)
    # The first modality draws its rows before the second does; whoever is stronger draws none.
    extra = torch.randint(22, (count,), generator=draw).tolist()
    assert extra
    losses = [cross_entropy(model(row(inputs, i))[0], y) for i, y in enumerate(labels)]
    losses += [cross_entropy(model(row(inputs, i, (weaker,)))[0], labels[i]) for i in extra]
    assert_changes(update(run), descent(model, mean(losses)))
    logged = run.context.logged()
    assert {m: logged[f"modulation/contribution/{m}"] for m in phi} == pytest.approx(
        {m: mean(v) for m, v in phi.items()}
    )


def test_only_modalities_below_the_mean_of_the_others_are_trained_alone() -> None:
    c = torch.tensor([1.2, 0.6, 0.3], dtype=torch.float64)
    assert resampling_ratios(c, 1.0).tolist() == pytest.approx([0.0, 2 / 3 * 0.15, 2 / 3 * 0.6])
    assert resampling_ratios(c[:2], 0.5).tolist() == pytest.approx([0.0, 0.2])
    assert not resampling_ratios(torch.ones(4), 1.0).any()


def test_only_the_part_is_passed_through_for_valuation() -> None:
    run, modulation = tiny_run("modality_valuation", {"part": 0.5})
    passed: list[int] = []
    run.context.model.encoders["image"].register_forward_hook(lambda module, args, out: passed.append(len(out)))
    modulation.plan_epoch(run.context.plan(), run.context)
    assert sum(passed) == 11 + 1  # and one silent sample


def test_a_negative_alpha_and_a_part_of_nothing_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="alpha >= 0"):
        ModalityValuation(alpha=-1.0)
    with pytest.raises(UserError, match="0 < part <= 1"):
        ModalityValuation(part=0.0)
