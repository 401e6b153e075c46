"""CGGM against a slow reference, and what it promises (there are no official numbers)."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.modulations.cggm import Cggm, cggm_coefficients
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train
from tests.modulations.one_step import update

PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


def accuracies(*values: float) -> dict[str, Tensor]:
    return {f"m{i}": torch.tensor(v, dtype=torch.float64) for i, v in enumerate(values)}


def test_the_modality_that_improves_less_gets_more_of_the_gradient() -> None:
    k = cggm_coefficients(accuracies(0.5, 0.3), accuracies(0.2, 0.2), rho=1.3)
    assert [v.item() for v in k.values()] == pytest.approx([1.3 * 0.1 / 0.4, 1.3 * 0.3 / 0.4])


def test_with_three_modalities_each_gets_the_share_of_the_others() -> None:
    k = cggm_coefficients(accuracies(0.5, 0.3, 0.4), accuracies(0.2, 0.2, 0.2), rho=2.0)
    assert [v.item() for v in k.values()] == pytest.approx([2 * 0.3 / 0.6, 2 * 0.5 / 0.6, 2 * 0.4 / 0.6])


def test_improvements_that_cancel_are_bounded_and_none_at_all_is_neutral() -> None:
    k = cggm_coefficients(accuracies(0.3, 0.1), accuracies(0.2, 0.2), rho=1.0)
    assert [v.item() for v in k.values()] == [0.0, 4.0]
    k = cggm_coefficients(accuracies(1.0, 1.0), accuracies(1.0, 1.0), rho=1.3)
    assert [v.item() for v in k.values()] == [1.3, 1.3]


def test_a_gradient_is_never_reversed() -> None:
    k = cggm_coefficients(accuracies(0.5, 0.1), accuracies(0.2, 0.2), rho=1.0)
    assert k["m0"].item() == 0.0


class Slow:
    """The method by its definition, one modality and one sample at a time, with a plain SGD step."""

    def __init__(self, model: MultimodalModel, classifiers: nn.ModuleDict, settings: dict[str, Any]) -> None:
        self.model, self.classifiers = copy.deepcopy(model), copy.deepcopy(classifiers)
        self.settings = settings
        self.previous = dict.fromkeys(model.modalities, 0.0)
        self.last_l_gm: Tensor | None = None

    def share(self, tensor: Tensor, m: str) -> Tensor:
        start = 0
        for name, width in self.model.widths.items():
            if name == m:
                return tensor[:, start : start + width]
            start += width
        raise AssertionError(m)

    def cosine(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())

    def step(self, inputs: dict[str, Tensor], labels: Tensor) -> dict[str, float]:
        model, s = self.model, self.settings
        names = model.modalities
        features = model.encode(inputs)
        seen = {m: h.detach() if s["detach"] else h for m, h in features.items()}
        own = {m: F.cross_entropy(self.classifiers[m](h), labels) for m, h in seen.items()}
        d = {}
        for m, h in seen.items():
            answers = [int(row.argmax()) for row in self.classifiers[m](h)]
            now = sum(a == y for a, y in zip(answers, labels.tolist(), strict=True)) / len(labels)
            d[m], self.previous[m] = now - self.previous[m], now
        total = sum(d.values()) + 1e-8
        c = {m: min(max((total - d[m]) / total, 0.0), 4.0) for m in names}
        fused = F.cross_entropy(model.fusion(features), labels)
        head = model.fusion.head.weight
        if s["direction"] == "weight":
            old_weight = head.detach().clone().requires_grad_()
            classifier_weight = {m: self.classifiers[m].weight.detach().clone() for m in names}
            terms = [abs(c[m]) - c[m] * self.cosine(classifier_weight[m], self.share(old_weight, m)) for m in names]
            now_l_gm, self.last_l_gm = self.last_l_gm, sum(terms) / len(terms)
            loss = fused
            pull = None if now_l_gm is None else torch.autograd.grad(now_l_gm, self.last_weight)[0]
            self.last_weight = old_weight
        else:
            whole = torch.autograd.grad(fused, head, create_graph=True)[0]
            guide = {m: torch.autograd.grad(own[m], self.classifiers[m].weight, retain_graph=True)[0] for m in names}
            terms = [abs(c[m]) - c[m] * self.cosine(guide[m], self.share(whole, m)) for m in names]
            loss, pull = fused + s["lam"] * sum(terms) / len(terms), None
        parameters = dict(model.named_parameters())
        main = loss + (0 if s["detach"] else sum(own.values()))
        grads = dict(
            zip(parameters, torch.autograd.grad(main, list(parameters.values()), retain_graph=True), strict=True)
        )
        if pull is not None:
            grads["fusion.head.weight"] = grads["fusion.head.weight"] + s["lam"] * pull
        for name in grads:
            if name.startswith("encoders"):
                grads[name] = grads[name] * s["rho"] * c[name.split(".")[1]]
        norm = math.sqrt(sum(g.square().sum().item() for g in grads.values()))
        trained = {
            m: torch.autograd.grad(own[m], list(self.classifiers[m].parameters()), retain_graph=True) for m in names
        }
        with torch.no_grad():
            for name, p in parameters.items():
                p -= 0.1 * grads[name] * min(1.0, s["clip"] / (norm + 1e-6))
            for m in names:
                for p, g in zip(self.classifiers[m].parameters(), trained[m], strict=True):
                    p -= 0.05 * g
        return {m: s["rho"] * c[m] for m in names}


@pytest.mark.parametrize("modalities", [2, 3, 4])
@pytest.mark.parametrize(
    "own", [{}, {"direction": "gradient"}, {"detach": False}, {"direction": "gradient", "detach": False}], ids=str
)
def test_four_steps_equal_the_slow_reference(modalities: int, own: dict[str, Any]) -> None:
    settings = {"rho": 1.2, "lam": 0.7, "clip": 0.3, "direction": "weight", "detach": True, **own}
    run, method = tiny_run("cggm", settings, modalities=modalities, epochs=4, **PLAIN_SGD)
    slow, part = Slow(run.context.model, run.context.modules, settings), run.context.parts["train"]
    for metrics in train(run, method):
        k = slow.step(part.inputs, part.labels)
        assert {m: metrics[f"modulation/k/{m}"] for m in k} == pytest.approx(k, rel=1e-6)
    for name, p in run.context.model.named_parameters():
        assert torch.allclose(p, slow.model.get_parameter(name), rtol=1e-8, atol=1e-10), name
    for name, p in run.context.modules.named_parameters():
        assert torch.allclose(p, slow.classifiers.get_parameter(name), rtol=1e-8, atol=1e-10), name


def test_detached_classifiers_leave_the_encoders_to_the_fused_loss() -> None:
    settings = {"lam": 0.0, "clip": 0.0, "rho": 1.0}
    joint = update(tiny_run("joint", epochs=1, **PLAIN_SGD)[0])
    run = tiny_run("cggm", settings, epochs=1, **PLAIN_SGD)[0]
    changed, k = update(run), run.context.logged()
    for name, delta in changed.items():
        factor = k[f"modulation/k/{name.split('.')[1]}"] if name.startswith("encoders") else 1.0
        assert torch.allclose(delta, factor * joint[name], rtol=1e-9, atol=1e-12), name


def test_the_direction_needs_a_linear_head_and_says_so_in_one_line() -> None:
    with pytest.raises(UserError, match=r"fusion concat, sum or late \(or lam = 0\), but got film"):
        tiny_run("cggm", fusion="film")
    run, method = tiny_run("cggm", {"lam": 0.0}, fusion="film")
    assert len(list(train(run, method))) == 3


@pytest.mark.parametrize("settings", [{"rho": -1.0}, {"lam": -0.1}, {"direction": "sideways"}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Cggm(**settings)


def test_apply_to_lr_scales_the_update_of_adam_where_scaling_the_gradient_would_cancel() -> None:
    settings = {"lam": 0.0, "clip": 0.0, "rho": 1.0}
    adam = {"optimizer": "adam", "weight_decay": 0.0, "batch_size": 22}
    joint = update(tiny_run("joint", epochs=1, **adam)[0])
    run = tiny_run("cggm", {**settings, "apply_to": "lr"}, epochs=1, **adam)[0]
    changed, k = update(run), run.context.logged()
    assert k["modulation/k/audio"] != k["modulation/k/image"]
    for name, delta in changed.items():
        factor = k[f"modulation/k/{name.split('.')[1]}"] if name.startswith("encoders") else 1.0
        assert torch.allclose(delta, factor * joint[name], rtol=1e-5, atol=1e-12), name
