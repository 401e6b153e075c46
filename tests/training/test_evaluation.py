"""Evaluation against scikit-learn-like plain counting."""

from __future__ import annotations

import pytest
import torch

from balance_tune.testing.tiny import tiny_run
from balance_tune.training.evaluation import evaluate, predict
from balance_tune.training.loop import train


def test_metrics_equal_a_plain_count() -> None:
    run, modulation = tiny_run("joint", modalities=3, epochs=1)
    list(train(run, modulation))
    model, part = run.context.model, run.validation
    found = evaluate(model, part)
    logits, alone = predict(model, part)
    guess, labels = logits.argmax(1).tolist(), part.labels.tolist()
    pairs = list(zip(guess, labels, strict=True))
    assert found["val/accuracy"] == pytest.approx(sum(g == y for g, y in pairs) / len(pairs))
    f1 = []
    for c in sorted(set(labels)):
        tp = sum(g == y == c for g, y in pairs)
        fp, fn = sum(g == c != y for g, y in pairs), sum(y == c != g for g, y in pairs)
        f1.append(2 * tp / (2 * tp + fp + fn))
    assert found["val/macro_f1"] == pytest.approx(sum(f1) / len(f1))
    nll = [-torch.tensor(row).log_softmax(0)[y].item() for row, y in zip(logits.tolist(), labels, strict=True)]
    assert found["val/loss"] == pytest.approx(sum(nll) / len(nll), rel=1e-5)
    for k, m in enumerate(model.modalities):
        assert found[f"val/accuracy/{m}"] == pytest.approx((alone[k].argmax(1) == part.labels).double().mean().item())


def test_small_batches_change_nothing_and_the_mode_is_restored() -> None:
    run, _ = tiny_run("joint")
    run.context.model.train()
    whole, small = predict(run.context.model, run.validation), predict(run.context.model, run.validation, batch=5)
    assert torch.allclose(whole[0], small[0])
    assert torch.allclose(whole[1], small[1])
    assert run.context.model.training
