"""Metrics of each task against slow, plain definitions, and the same for any number of workers."""

from __future__ import annotations

import pytest
import torch

from balance_tune.replicas import Replicas
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.testing.workers import Workers
from balance_tune.training.loop import train
from balance_tune.training.metrics import average_precision, multilabel, pearson, regression

GENERATOR = torch.Generator().manual_seed(3)


def plain_average_precision(scores: list[float], truth: list[bool]) -> float:
    found, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [t for s, t in zip(scores, truth, strict=True) if s >= threshold]
        now = sum(chosen) / sum(truth)
        found += (now - recall) * sum(chosen) / len(chosen)
        recall = now
    return found


def test_average_precision_is_that_of_its_definition_with_ties_too() -> None:
    scores = torch.randint(0, 5, (40, 3), generator=GENERATOR).double()
    truth = torch.rand(40, 3, generator=GENERATOR) > 0.6
    expected = [plain_average_precision(scores[:, c].tolist(), truth[:, c].tolist()) for c in range(3)]
    assert average_precision(scores, truth).tolist() == pytest.approx(expected)
    order = torch.randperm(40, generator=GENERATOR)
    assert average_precision(scores[order], truth[order]).tolist() == pytest.approx(expected)


def test_metrics_of_labels_equal_a_plain_count() -> None:
    logits = torch.randn(30, 4, generator=GENERATOR)
    labels = (torch.rand(30, 4, generator=GENERATOR) > 0.5).float()
    labels[:, 3] = 0  # nobody has it: no precision, no F1
    found, own = multilabel(logits, logits[None], labels, Replicas())
    pairs = [(f > 0, y > 0) for f, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)]
    tp, fp, fn = (sum(p == want for p in pairs) for want in [(True, True), (True, False), (False, True)])
    assert float(found["micro_f1"]) == pytest.approx(2 * tp / (2 * tp + fp + fn))
    rows = [all(pairs[i + c][0] == pairs[i + c][1] for c in range(4)) for i in range(0, 120, 4)]
    assert float(found["accuracy"]) == pytest.approx(sum(rows) / 30)
    ap = [plain_average_precision(logits[:, c].double().tolist(), (labels[:, c] > 0).tolist()) for c in range(3)]
    assert float(found["map"]) == pytest.approx(sum(ap) / 3)
    assert float(own[0]) == pytest.approx(float(found["map"]))


def test_metrics_of_numbers_are_those_published_for_mosei() -> None:
    labels = torch.tensor([[-2.6], [-0.4], [0.0], [1.2], [3.0], [0.6]])
    answers = torch.tensor([[-3.4], [0.1], [0.2], [0.8], [4.0], [-0.2]])
    found, own = regression(answers, torch.stack([answers, torch.zeros_like(answers)]), labels, Replicas())
    assert float(found["mae"]) == pytest.approx((0.8 + 0.5 + 0.2 + 0.4 + 1.0 + 0.8) / 6)
    assert float(found["binary_accuracy"]) == pytest.approx(4 / 6)
    assert float(found["acc7"]) == pytest.approx(5 / 6)  # -3 -3, -0 0, 0 0, 1 1, 3 3, 1 against -0
    expected = torch.corrcoef(torch.cat([answers, labels], dim=1).T)[0, 1]
    assert float(found["pearson"]) == pytest.approx(float(expected))
    assert own.tolist() == [pytest.approx(float(expected)), 0.0]  # what does not vary correlates with nothing


def test_a_correlation_is_the_mean_over_targets() -> None:
    x = torch.arange(6.0, dtype=torch.float64)[:, None]
    assert float(pearson(torch.cat([x, -x], dim=1), torch.cat([x, x], dim=1))) == pytest.approx(0.0)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_an_evaluation_tells_the_metrics_of_its_task_and_of_each_modality(task: str) -> None:
    run, modulation = tiny_run("joint", data=tiny_data(task=task), epochs=6)  # type: ignore[arg-type]
    rows = list(train(run, modulation))
    names = {"multilabel": ("map", "micro_f1", "macro_f1", "accuracy"), "regression": ("mae", "pearson", "acc7")}[task]
    own = {"multilabel": "map", "regression": "pearson"}[task]
    assert {*(f"val/{n}" for n in names), "val/loss", "val/gap", f"val/{own}/audio", f"val/{own}/image"} <= set(
        rows[-1]
    )
    better = min if task == "regression" else max
    assert run.best.value == better(row[f"val/{names[0]}"] for row in rows)
    assert run.best.value != rows[0][f"val/{names[0]}"]  # it learnt something


CASES = [("multilabel", "mlb"), ("multilabel", "agm"), ("regression", "mlb"), ("regression", "agm")]


def _trained(cases: list[tuple[str, str]]) -> list[dict[str, float]]:
    found = []
    for task, method in cases:
        run, modulation = tiny_run(method, data=tiny_data(task=task), epochs=2, replicas=Replicas())  # type: ignore[arg-type]
        *_, last = train(run, modulation)
        found.append({k: v for k, v in last.items() if "time" not in k and "seconds" not in k})
    return found


def test_two_workers_train_and_tell_what_one_does() -> None:
    workers = Workers(2)
    try:
        for answer in workers.run(_trained, CASES):
            for found, expected in zip(answer, _trained(CASES), strict=True):
                assert found == {k: pytest.approx(v, abs=1e-7) for k, v in expected.items()}
    finally:
        workers.close()
