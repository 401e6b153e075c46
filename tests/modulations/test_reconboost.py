"""ReconBoost against plain loops over samples and classes, and what it promises."""

from __future__ import annotations

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.reconboost import ReconBoost
from balance_tune.testing.tiny import tiny_run
from tests.modulations.by_hand import (
    assert_changes,
    copy_of,
    cross_entropy,
    descent,
    mean,
    probabilities,
    row,
    rows_of,
    whole_batch_run,
)
from tests.modulations.one_step import update

SETTINGS = {"w1": 3.0, "w2": 0.7, "alpha": 2.0, "rate": 0.6}


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("epoch", [0, 2])
def test_in_its_turn_a_modality_learns_what_the_others_have_left_over(modalities: int, epoch: int) -> None:
    run = whole_batch_run("reconboost", SETTINGS, modalities=modalities)
    run.context.epoch = epoch
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    turn = epoch // 2
    losses = []
    for i, y in enumerate(labels):
        alone = [f[0] for f in model.fusion.unimodal_logits(model.encode(row(inputs, i))).values()]
        others = 0.6 * sum(f.detach() for j, f in enumerate(alone) if j != turn)
        own, before = probabilities(alone[turn]), probabilities(alone[(turn - 1) % modalities].detach())
        left_over = 0.0
        for c in range(3):
            target = 1.0 if c == y else 0.0
            left_over += -3.0 * target * own[c].log() + 0.7 * target * probabilities(others)[c] * own[c].log()
        losses.append(left_over / 3 + 2.0 * mean([(p - q) ** 2 for p, q in zip(own, before, strict=True)]))
    expected = descent(model, mean(losses))
    mine = model.modalities[turn]
    changed = {n for n, d in expected.items() if d.any()}
    assert all(mine in n.split(".") for n in changed)
    assert_changes(update(run), expected)


def test_in_the_phase_after_it_all_learn_together_and_the_rate_too() -> None:
    run = whole_batch_run("reconboost", SETTINGS)
    run.context.epoch = 1
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    rate, losses = model.fusion.rate, []
    for i, y in enumerate(labels):
        h = model.encode(row(inputs, i))
        losses.append(cross_entropy(rate * sum(model.fusion.heads[m](h[m])[0] for m in h), y))
    expected = descent(model, mean(losses))
    assert expected["fusion.rate"].abs() > 1e-3
    assert_changes(update(run), expected)


def test_turns_go_round_with_all_between_them() -> None:
    method = ReconBoost(phase=0.1)
    assert [method.turn(e, 20, 3) for e in range(0, 20, 2)] == [0, None, 1, None, 2, None, 0, None, 1, None]
    assert method.turn(1, 20, 3) == 0  # a phase is two of twenty epochs long
    assert method.min_epochs(20) == 8


def test_whoever_has_no_turn_does_not_move_not_even_by_momentum_or_weight_decay() -> None:
    run, _ = tiny_run("reconboost", batch_size=22, momentum=0.9, weight_decay=0.1)
    update(run)  # audio
    run.context.epoch = 1
    update(run)  # all: everyone has momentum now
    run.context.epoch = 2
    changes = update(run)  # image
    assert all((d != 0).any() == ("image" in n.split(".")) for n, d in changes.items())


def test_answers_that_others_already_give_are_learnt_less() -> None:
    from balance_tune.modulations.reconboost import boosting_loss

    own, labels = torch.zeros(1, 3), torch.tensor([0])
    known, unknown = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[-9.0, 0.0, 0.0]])
    assert boosting_loss(own, known, labels, 5.0, 1.0) < boosting_loss(own, unknown, labels, 5.0, 1.0)


def test_a_phase_of_nothing_and_a_negative_weight_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="0 < phase <= 1"):
        ReconBoost(phase=0.0)
    with pytest.raises(UserError, match="w2 >= 0"):
        ReconBoost(w2=-1.0)
