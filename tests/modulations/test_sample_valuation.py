"""Sample-level valuation against plain loops over samples, and what it promises."""

from __future__ import annotations

import copy

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.sample_valuation import SampleValuation, extra_visits
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
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


@pytest.mark.parametrize("most", [2, 3])
def test_a_step_visits_a_sample_again_with_the_modality_that_contributed_little(most: int) -> None:
    run = whole_batch_run("sample_valuation", {"start": 0.0, "most": most}, batch_size=1000)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    judge, losses, added = copy.deepcopy(model).eval(), [], {"audio": 0, "image": 0}
    for i, y in enumerate(labels):
        losses.append(cross_entropy(model(row(inputs, i))[0], y))
        subsets = {"both": ("audio", "image"), "audio": ("audio",), "image": ("image",)}
        right = {s: int(judge(row(inputs, i, present))[0].argmax()) == y for s, present in subsets.items()}
        for m, other in (("audio", "image"), ("image", "audio")):
            phi = (right[m] + 2 * right["both"] - right[other]) / 2
            again = {-0.5: 3, 0.0: 2, 0.5: 1}.get(phi, 0)
            for _ in range(min(again, most)):
                losses.append(cross_entropy(model(row(inputs, i, (m,)))[0], y))
                added[m] += 1
    assert min(added.values()) > 0
    assert_changes(update(run), descent(model, mean(losses)))
    logged = run.context.logged()
    assert {m: logged[f"modulation/extra_visits/{m}"] * 22 for m in added} == pytest.approx(added)


def test_lower_contributions_are_visited_more_often_up_to_the_most_allowed() -> None:
    phi = torch.tensor([1.5, 1.0, 0.5, 0.0, -0.5])
    assert extra_visits(phi, 3).tolist() == [0, 0, 1, 2, 3]
    assert extra_visits(phi, 1).tolist() == [0, 0, 1, 1, 1]


def test_epochs_before_the_warm_up_ends_are_plain_and_later_ones_have_more_steps() -> None:
    run, modulation = tiny_run("sample_valuation", {"start": 0.16}, epochs=8)
    steps, epochs = [], train(run, modulation)
    for _ in range(3):
        before = run.context.step
        next(epochs)
        steps.append(run.context.step - before)
    assert steps[:2] == [3, 3]
    assert steps[2] > 3
    assert SampleValuation(start=0.16).min_epochs(8) == 3


def test_a_negative_most_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="most >= 0"):
        SampleValuation(most=-1)
