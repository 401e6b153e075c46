"""MLA against plain loops over modalities, samples and matrix elements, and what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.modulations.mla import EntropyFusion, Mla, protected
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.checkpoint import load_best, save_best
from balance_tune.training.evaluation import evaluate
from balance_tune.training.loop import train
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


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize("projected", [True, False])
def test_an_epoch_is_a_step_per_modality_and_batch_at_one_head_whose_updates_are_projected(
    modalities: int, projected: bool
) -> None:
    settings = {"alpha": 0.2, "projected": projected}
    data = tiny_data(modalities, alike=True)
    run = whole_batch_run("mla", settings, data=data, batch_size=8, lr=0.2)
    model, _ = copy_of(run)
    inputs, labels = rows_of(run)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    order, d = run.context.plan().order.tolist(), 6
    p = [[1.0 if i == j else 0.0 for j in range(d)] for i in range(d)]
    for t, start in enumerate((0, 8, 16)):  # 22 rows in batches of 8: three, the last partial
        batch = order[start : start + 8]
        for m in model.modalities:
            features = {i: model.encoders[m](row(inputs, i)[m])[0] for i in batch}
            loss = mean([cross_entropy(model.fusion.head(features[i]), labels[i]) for i in batch])
            changes = descent(model, loss)
            g = changes["fusion.head.weight"]
            if projected:
                changes["fusion.head.weight"] = torch.stack(
                    [torch.stack([sum(g[c, i] * p[i][j] for i in range(d)) for j in range(d)]) for c in range(3)]
                )
            for n, parameter in model.named_parameters():
                parameter.data += 0.2 * changes[n]
            r = [mean([features[i][j].item() for i in batch]) for j in range(d)]
            k = [sum(p[i][j] * r[j] for j in range(d)) for i in range(d)]
            denominator = 0.2 ** (1 + t / 3) + sum(a * b for a, b in zip(r, k, strict=True))
            p = [[p[i][j] - k[i] * k[j] / denominator for j in range(d)] for i in range(d)]
            norm = sum(v * v for line in p for v in line) ** 0.5
            p = [[v / norm for v in line] for line in p]
    assert_changes(update(run), {n: q.detach() - before[n] for n, q in model.named_parameters()})
    assert torch.allclose(run.context.modules["memory"].p, torch.tensor(p).double(), atol=1e-10)


def test_surer_modalities_weigh_more_in_the_answer() -> None:
    fusion = EntropyFusion({"a": 4, "b": 4}, 3).double()
    features = {m: torch.randn(5, 4, dtype=torch.float64) * s for m, s in (("a", 3.0), ("b", 0.5))}
    answer = fusion(features)
    for i in range(5):
        alone = [fusion.head(features[m][i]) for m in ("a", "b")]
        entropies = [-sum(p * p.log() for p in probabilities(f)) for f in alone]
        weights = [(max(entropies) - h).exp() for h in entropies]
        expected = sum(w * f for w, f in zip(weights, alone, strict=True)) / sum(weights)
        assert torch.allclose(answer[i], expected)
        assert (weights[0] > weights[1]) == (entropies[0] < entropies[1])


def test_the_projection_shrinks_directions_the_head_has_seen_and_spares_the_others() -> None:
    seen, other = torch.eye(4)[:2]
    p = protected(torch.eye(4), 10 * seen, alpha=0.1)
    assert (p @ seen).norm() < 0.01 * (p @ other).norm()
    assert p.norm().item() == pytest.approx(1)


def test_its_fusion_survives_the_checkpoint(tmp_path: Path) -> None:
    run, modulation = tiny_run("mla", data=tiny_data(3, alike=True), dtype="float32")
    list(train(run, modulation))
    save_best(run, tmp_path)
    model = load_best(tmp_path)
    assert isinstance(model.fusion, EntropyFusion)
    assert evaluate(model, run.validation)["val/accuracy"] == pytest.approx(run.best.value)


def test_memory_is_for_training_only() -> None:
    run, _ = tiny_run("mla", data=tiny_data(alike=True))
    assert not any("memory" in name for name in run.context.model.state_dict())
    assert "memory.p" in run.context.modules.state_dict()


def test_features_of_unequal_width_and_an_alpha_above_one_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="same feature width"):
        tiny_run("mla")
    with pytest.raises(UserError, match="0 < alpha <= 1"):
        Mla(alpha=2.0)
