"""AGM against the official code's numbers and a slow reference, and what it promises."""

from __future__ import annotations

import copy
import math
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.datasets.base import Modality
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.models.multimodal import MultimodalModel, silence
from balance_tune.modulations.agm import Agm, agm_coefficients
from balance_tune.modulations.scores import true_class_probability
from balance_tune.modulations.shapley import mono_modal_logits, subsets
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.feed import Feed
from balance_tune.training.loop import train
from balance_tune.training.run import Run
from tests.golden import golden
from tests.modulations.one_step import run_on, update

OFFICIAL, OFFICIAL_FORWARD = golden("agm"), golden("agm_forward")
PLAIN_SGD = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


class TanhLinear(Encoder):
    """The encoder of the official numbers."""

    name = ""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.f = nn.Linear(shape[0], shape[0])
        self.features = shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x).tanh()


class Normed(Encoder):
    """An encoder whose two modes differ."""

    name = ""

    def __init__(self, shape: tuple[int, ...], features: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(features), nn.BatchNorm1d(features), nn.ReLU())
        with torch.no_grad():
            self.layers(torch.zeros(2, *shape))
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def data_of(inputs: dict[str, Tensor], labels: Tensor, classes: int, encoder: str) -> Data:
    part = Part(inputs, labels, torch.arange(len(labels)), None)
    specs = {m: Modality(tuple(x.shape[1:]), encoder) for m, x in inputs.items()}
    manifest: Any = SimpleNamespace(modalities=specs, classes=tuple(map(str, range(classes))))
    return Data(manifest, {"train": part, "monitor": part, "val": part})


def feed(run: Run, inputs: dict[str, Tensor], labels: Tensor) -> None:
    part = Part({m: x.double()[:, :, None, None] for m, x in inputs.items()}, labels, torch.arange(len(labels)), None)
    run.context.parts["train"] = Feed(part)


def test_a_run_of_coefficients_is_the_official_one() -> None:
    """Identity encoders and an identity head: the isolated logits are the official ones, through our own steps."""
    steps = OFFICIAL["steps_2mod"]
    logits = [{m: torch.tensor(step[f"logits_{m}"]) for m in ("a", "v")} for step in steps]
    labels = [torch.tensor(step["labels"]) for step in steps]
    settings = {"alpha": OFFICIAL["alpha_2mod"]}
    run = run_on(logits[0], labels[0], classes=4, method="agm", modulation=settings)
    with torch.no_grad():
        run.context.model.fusion.head.weight.copy_(torch.eye(4).repeat(1, 2))
        run.context.model.fusion.head.bias.zero_()
    start = copy.deepcopy(run.context.model.state_dict())
    for step, f, y in zip(steps, logits, labels, strict=True):
        run.context.model.load_state_dict(start)
        feed(run, f, y)
        update(run)
        k = run.context.logged()
        for m in ("a", "v"):
            assert k[f"modulation/k/{m}"] == pytest.approx(step[f"coeff_{m}"], rel=1e-5)
        running = run.context.modulation.state_dict()["running"]
        assert [running[m].item() for m in ("a", "v")] == pytest.approx(
            [step["running_a"], step["running_v"]], abs=1e-5
        )


def test_the_coefficient_function_gives_the_official_numbers_from_running_means() -> None:
    running = {m: torch.tensor(0.0) for m in ("a", "v")}
    for step in OFFICIAL["steps_2mod"]:
        labels = torch.tensor(step["labels"])
        losses = {
            m: -true_class_probability(torch.tensor(step[f"logits_{m}"]), labels).log().mean() for m in ("a", "v")
        }
        k = agm_coefficients(losses, running, OFFICIAL["alpha_2mod"], 10.0, include_current=False)
        assert [k[m].item() for m in k] == pytest.approx([step["coeff_a"], step["coeff_v"]], rel=1e-5)
        running = {m: torch.tensor(step[f"running_{m}"]) for m in ("a", "v")}


@pytest.mark.parametrize("case", OFFICIAL_FORWARD["cases"])
def test_isolated_logits_and_gradients_are_the_official_ones(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {m: torch.tensor(case[f"x_{m}"]).double() for m in ("a", "v")}
    data = data_of(inputs, torch.tensor(case["labels"]), 3, f"{__name__}:TanhLinear")
    scales = {m: torch.tensor(case[f"scale_{m}"]) for m in ("a", "v")}
    monkeypatch.setattr("balance_tune.modulations.agm.agm_coefficients", lambda *a, **kw: scales)
    run, _ = tiny_run("agm", {"clip": False}, data=data, lr=1.0, epochs=1, **PLAIN_SGD)
    model, state = run.context.model, {n: torch.tensor(t) for n, t in case["state"].items()}
    weight = torch.cat([state["fc_0_lin.weight"], state["fc_1_lin.weight"]], dim=1)
    model.load_state_dict(
        {
            **{f"encoders.{m}.f.{p}": state[f"enc_{i}.f.{p}"] for i, m in enumerate("av") for p in ("weight", "bias")},
            "fusion.head.weight": weight,
            "fusion.head.bias": state["fc_0_lin.bias"],
        }
    )
    answers = {present: model(silence(inputs, present)) for present in subsets(("a", "v"))}
    f = mono_modal_logits(answers, ("a", "v"))
    for m in ("a", "v"):
        assert torch.allclose(f[m], torch.tensor(case[f"logits_{m}"]).double(), atol=1e-5)
    assert torch.allclose(f["a"] + f["v"], torch.tensor(case["logits_sum"]).double(), atol=1e-5)
    change = update(run)
    grad = {n: torch.tensor(g).double() for n, g in case["grad"].items()}
    for i, m in enumerate("av"):
        for p in ("weight", "bias"):
            assert torch.allclose(-change[f"encoders.{m}.f.{p}"], grad[f"enc_{i}.f.{p}"], atol=1e-5)
    head = torch.cat([grad["fc_0_lin.weight"], grad["fc_1_lin.weight"]], dim=1)
    assert torch.allclose(-change["fusion.head.weight"], head, atol=1e-5)
    assert torch.allclose(-change["fusion.head.bias"], grad["fc_0_lin.bias"], atol=1e-5)


def slow_step(
    model: MultimodalModel, part: Part, history: list[dict[str, float]], alpha: float, clip: bool, current: bool
) -> dict[str, Tensor]:
    """Return gradients by the definition: Shapley values are means over all orders of arrival, losses go row by row."""
    names = model.modalities
    total: dict[str, Any] = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        before: Any = 0.0
        for i, m in enumerate(order):
            inputs = {n: x if n in order[: i + 1] else torch.zeros_like(x) for n, x in part.inputs.items()}
            now = model(inputs)
            total[m] = total[m] + now - before
            before = now
    f = {m: t / math.factorial(len(names)) for m, t in total.items()}
    losses = {}
    for m in names:
        rows = [f[m][i].softmax(0)[y].item() for i, y in enumerate(part.labels.tolist())]
        losses[m] = sum(-math.log(max(p, 1e-8)) for p in rows) / len(rows)
    past = [*history, losses] if current else history
    running = {m: sum(h[m] for h in past) / len(past) if past else 0.0 for m in names}

    def lead(of: dict[str, float], m: str) -> float:
        if len(names) == 2:
            other = next(n for n in names if n != m)
            return math.exp(of[other] - of[m])
        n = len(names)
        return math.exp((sum(of.values()) / n - of[m]) * n / (n - 1))

    cap = 10 if len(names) == 2 else 7
    k = {m: math.exp(alpha * min(lead(running, m) - lead(losses, m), cap)) for m in names}
    history.append(losses)
    fused = sum(f.values())
    flow = torch.autograd.grad(F.cross_entropy(fused, part.labels), fused, retain_graph=True)[0]
    pulled = sum((k[m] * f[m] * flow).sum() for m in names)
    parameters = dict(model.named_parameters())
    grads = dict(zip(parameters, torch.autograd.grad(pulled, list(parameters.values())), strict=True))
    limit = 1 if len(names) == 2 else 5
    if clip and grads["fusion.head.weight"].abs().max() > limit:
        norm = math.sqrt(sum(g.square().sum().item() for g in grads.values()))
        grads = {n: g * min(1.0, limit / (norm + 1e-6)) for n, g in grads.items()}
    return grads


@pytest.mark.parametrize("current", [False, True])
@pytest.mark.parametrize(
    ("modalities", "clip", "scale"), [(2, False, 1), (3, False, 1), (4, False, 1), (2, True, 30), (3, True, 60)]
)
def test_three_steps_equal_the_slow_reference(modalities: int, clip: bool, scale: float, current: bool) -> None:
    data = tiny_data(modalities)
    settings = {"clip": clip, "alpha": 0.8, "include_current": current}
    run, method = tiny_run("agm", settings, data=data, **PLAIN_SGD)
    with torch.no_grad():  # large features make the clip bite
        run.context.model.encoders["audio"].project.weight.mul_(scale)
    model, history = copy.deepcopy(run.context.model), []
    list(train(run, method))
    for _ in range(3):
        grads = slow_step(model, run.context.parts["train"], history, 0.8, clip, current)
        with torch.no_grad():
            for name, p in model.named_parameters():
                p -= 0.1 * grads[name]
    for name, p in run.context.model.named_parameters():
        assert torch.allclose(p, model.get_parameter(name), rtol=1e-9, atol=1e-11), name


def test_a_modality_further_ahead_than_usual_is_slowed_and_the_other_sped_up() -> None:
    usual = {"audio": torch.tensor(1.0), "image": torch.tensor(1.2)}
    now = {"audio": torch.tensor(0.4), "image": torch.tensor(1.2)}
    k = agm_coefficients(now, usual, alpha=1.0, cap=10.0, include_current=False)
    assert k["audio"] < 1 < k["image"]


def test_losses_as_they_usually_are_change_nothing() -> None:
    usual = {m: torch.tensor(v) for m, v in {"a": 0.3, "b": 1.0, "c": 0.7}.items()}
    assert all(v == 1 for v in agm_coefficients(usual, usual, alpha=2.0, cap=7.0, include_current=False).values())


def test_the_lead_that_counts_is_capped() -> None:
    now, usual = {"a": torch.tensor(9.0), "b": torch.tensor(0.0)}, {"a": torch.tensor(0.0), "b": torch.tensor(9.0)}
    k = agm_coefficients(now, usual, alpha=0.5, cap=10.0, include_current=False)
    assert k["a"].item() == pytest.approx(math.exp(5.0))


def test_including_the_current_batch_folds_it_into_the_mean_of_so_many_steps() -> None:
    now, usual = {"a": torch.tensor(2.0), "b": torch.tensor(1.0)}, {"a": torch.tensor(0.5), "b": torch.tensor(1.0)}
    folded = {"a": torch.tensor(1.0), "b": torch.tensor(1.0)}  # (2 * 0.5 + 2) / 3
    k = agm_coefficients(now, usual, alpha=1.0, cap=7.0, include_current=True, steps=2)
    expected = agm_coefficients(now, folded, alpha=1.0, cap=7.0, include_current=False)
    assert [v.item() for v in k.values()] == pytest.approx([v.item() for v in expected.values()])
    already = agm_coefficients(now, folded, alpha=1.0, cap=7.0, include_current=True)
    assert already == expected


def test_isolated_logits_add_up_to_the_fused_ones_for_any_number_of_modalities() -> None:
    names = ("a", "b", "c", "d")
    answers = {s: torch.randn(5, 3, dtype=torch.float64) for s in subsets(names)}
    total = sum(mono_modal_logits(answers, names).values())
    assert torch.allclose(total, answers[frozenset(names)])


def test_a_silenced_input_is_encoded_once_as_a_single_sample_in_evaluation_mode() -> None:
    run, _ = tiny_run("agm", modalities=4, epochs=1, **PLAIN_SGD)
    seen: list[tuple[int, bool]] = []
    encoder = run.context.model.encoders["audio"]
    encoder.register_forward_hook(lambda module, args, _: seen.append((len(args[0]), module.training)))
    update(run)
    assert seen == [(22, True), (1, False)]


def test_running_statistics_are_those_of_the_real_samples_alone() -> None:
    train_part = tiny_data().parts["train"]
    data = data_of(train_part.inputs, train_part.labels, 3, f"{__name__}:Normed")
    joint, agm = (tiny_run(m, data=data, epochs=1, **PLAIN_SGD)[0] for m in ("joint", "agm"))
    update(joint)
    update(agm)
    for name, buffer in joint.context.model.named_buffers():
        assert torch.equal(buffer, agm.context.model.get_buffer(name)), name
    assert agm.context.model.training


def test_a_negative_strength_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="alpha >= 0"):
        Agm(alpha=-1.0)
