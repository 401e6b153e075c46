"""Answers without some modalities are the model's own to inputs that lack them."""

from __future__ import annotations

import pytest
import torch

from balance_tune.modulations.shapley import silenced_answers, subsets
from balance_tune.registry import fusions
from balance_tune.testing.tiny import tiny_run
from tests.modulations.by_hand import row, rows_of


@pytest.mark.parametrize("fusion", fusions().names())
@pytest.mark.parametrize("modalities", [2, 3])
def test_answers_of_a_subset_are_the_models_to_inputs_without_the_others(fusion: str, modalities: int) -> None:
    run, _ = tiny_run("joint", fusion=fusion, modalities=modalities)
    ctx = run.context
    model = ctx.model
    batch = next(iter(ctx.planned(ctx.plan())))
    answers = silenced_answers(ctx.forward(batch).features, batch, ctx)
    assert model.training
    assert list(answers) == subsets(model.modalities)[1:]
    inputs, _ = rows_of(run)
    for present, found in answers.items():
        for k, i in enumerate(batch.index.tolist()):
            expected = model(row(inputs, i, tuple(present)))[0]
            torch.testing.assert_close(found[k], expected.double(), rtol=1e-9, atol=1e-9)
