"""Methods on several labels and on regression; that each trains or refuses is a demand of the contract."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from balance_tune.errors import UserError
from balance_tune.models.losses import squared_errors
from balance_tune.modulations.chain import Chain
from balance_tune.modulations.scores import true_class_probability
from balance_tune.registry import modulations
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train


def test_a_chain_works_for_what_all_its_links_work_for() -> None:
    chain = Chain([modulations().get("mlb")(), modulations().get("ogm")()])
    chain.check_task("multilabel")
    with pytest.raises(UserError, match=r"^ogm needs class probabilities"):
        chain.check_task("regression")


def test_scores_of_a_regression_are_asked_for_in_vain() -> None:
    run, _ = tiny_run("joint", data=tiny_data(task="regression"))
    run.context.forward(next(run.context.batches("train", 8)))
    with pytest.raises(UserError, match="regression has not; method joint must say so"):
        _ = run.context.scores


def test_of_several_labels_the_score_is_the_mean_probability_of_what_is_true() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    p = [1 / (1 + math.exp(-f)) for f in logits[0].tolist()]
    found = true_class_probability(logits, torch.tensor([[1.0, 0.0, 1.0]]))
    assert found.tolist() == pytest.approx([(p[0] + 1 - p[1] + p[2]) / 3])


def _own_answers(run, heads) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    features, _ = run.context.encode("train")
    return {m: heads[m](h) for m, h in features.items()}


def test_mlb_of_a_regression_speeds_up_the_modality_with_the_larger_error() -> None:
    data = tiny_data(3, task="regression", train=8)
    run, modulation = tiny_run("mlb", {"alpha": 0.7, "beta_max": 4.0}, data=data, epochs=1, lr=0.0)
    (row,) = train(run, modulation)
    part = run.context.parts["train"]
    errors = squared_errors(_own_answers(run, modulation.modules()), part.labels).mean(1).tolist()
    for i, m in enumerate(run.context.model.modalities):
        others = [e for j, e in enumerate(errors) if j != i]
        r = errors[i] / (sum(others) / len(others))
        beta = 4.0 if r > 1 else 2.0
        assert row[f"modulation/k/{m}"] == pytest.approx(1 + (beta - 1) * math.tanh(0.7 * (r - 1)), rel=1e-6)


def test_agm_of_a_regression_slows_the_modality_that_is_further_ahead_than_usual() -> None:
    data = tiny_data(2, task="regression", train=8)
    run, modulation = tiny_run("agm", {"alpha": 0.4}, data=data, epochs=1, lr=0.0)
    (row,) = train(run, modulation)
    model, part = run.context.model.eval(), run.context.parts["train"]
    zero = {m: torch.zeros_like(x) for m, x in part.inputs.items()}
    full = {m: x.double() for m, x in part.inputs.items()}
    zero = {m: x.double() for m, x in zero.items()}
    a, b = model.modalities
    both, first, second = model(full), model({a: full[a], b: zero[b]}), model({a: zero[a], b: full[b]})
    shares = {a: (both - second + first) / 2, b: (both - first + second) / 2}
    loss = {m: float((f - part.labels).square().mean()) for m, f in shares.items()}
    for m, other in ((a, b), (b, a)):
        r = math.exp(loss[other] - loss[m])
        assert row[f"modulation/k/{m}"] == pytest.approx(math.exp(0.4 * min(1 - r, 10)), rel=1e-6)
