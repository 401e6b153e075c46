"""SAM and M-SAM against a restatement of the paper in float64, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.modulations.chain import Chain
from balance_tune.modulations.m_sam import shares
from balance_tune.modulations.mla import Mla
from balance_tune.modulations.mlb import Mlb
from balance_tune.modulations.ogm import Ogm
from balance_tune.modulations.opm import Opm
from balance_tune.modulations.sam import Sam
from balance_tune.registry import modulations
from balance_tune.testing.tiny import tiny_run
from tests.golden import golden
from tests.modulations.one_step import affine_run, update

CASES = golden("msam")["cases"]
LINEAR = [case for case in CASES if case["fusion"] in ("concat", "sum")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['fusion']} {case['modalities']}")
def test_shares_are_those_of_the_paper(case: dict[str, Any]) -> None:
    responses = {f"m{i}": torch.tensor(f, dtype=torch.float64) for i, f in enumerate(case["responses"])}
    nu = shares(responses, torch.tensor(case["labels"]))
    assert [x.item() for x in nu.values()] == pytest.approx(case["shares"], rel=1e-9)


class Tanh(Encoder):
    """tanh(x W^T + b), as in the golden cases."""

    name = ""

    def __init__(self, shape: tuple[int, ...], features: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(shape[0], features)
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).tanh()


@pytest.mark.parametrize("case", LINEAR, ids=lambda case: f"{case['fusion']} {case['modalities']}")
def test_a_step_is_that_of_algorithm_1(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.modulations.one_step.Affine", Tanh)
    names = [f"m{i}" for i in range(case["modalities"])]
    official = {f"encoders.{m}.layer.{k}": f"enc{i}.{k[0]}" for i, m in enumerate(names) for k in ("weight", "bias")}
    if case["fusion"] == "concat":
        official |= {"fusion.head.weight": "head.w", "fusion.head.bias": "head.b"}
    else:
        heads = sorted(name for name in case["parameters"] if name.startswith("head"))
        pairs = [(f"fusion.heads.{m}.{k}", f"head{i}.{k[0]}") for i, m in enumerate(names) for k in ("weight", "bias")]
        assert heads == sorted(name for _, name in pairs)
        official |= dict(pairs)
    run = affine_run(
        dict(zip(names, case["inputs"], strict=True)),
        case["labels"],
        3,
        "m_sam",
        {ours: case["parameters"][name] for ours, name in official.items()},
        {"rho": case["rho"]},
        fusion=case["fusion"],
        features=len(case["parameters"]["enc0.b"]),
        lr=case["lr"],
        weight_decay=case["weight_decay"],
    )
    update(run)
    state = run.context.model.state_dict()
    for ours, name in official.items():
        assert torch.allclose(state[ours], torch.tensor(case["parameters_after"][name], dtype=torch.float64)), ours


def gradients_at(run: Any, shift: dict[str, Tensor] | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """The plain gradients of the first batch, at the model's weights or beside them."""
    ctx = run.context
    batch = next(iter(ctx.planned(ctx.plan())))
    with torch.no_grad():
        for name, p in ctx.model.named_parameters():
            p += 0 if shift is None else shift[name]
    loss = ctx.loss(ctx.model(batch.inputs), batch)
    found = torch.autograd.grad(loss, list(ctx.model.parameters()))
    return dict(zip(dict(ctx.model.named_parameters()), found, strict=True)), loss


@pytest.mark.parametrize("fusion", ["concat", "film", "mlp"])
def test_sam_steps_along_the_gradient_at_the_worst_weights_nearby(fusion: str) -> None:
    plain = {"batch_size": 22, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "fusion": fusion, "epochs": 1}
    g, _ = gradients_at(tiny_run("joint", **plain)[0])
    length = torch.stack([x.square().sum() for x in g.values()]).sum().sqrt()
    risen, _ = gradients_at(tiny_run("joint", **plain)[0], {name: 0.3 * x / length for name, x in g.items()})
    for name, change in update(tiny_run("sam", {"rho": 0.3}, **plain)[0]).items():
        assert torch.allclose(change, -risen[name], rtol=1e-9, atol=1e-12), name


class Noisy(Encoder):
    """BatchNorm and dropout, which a second pass must treat as the first."""

    name = ""

    def __init__(self, shape: tuple[int, ...], features: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(shape[0]), nn.Linear(shape[0], features), nn.Dropout(0.5))
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_the_second_pass_has_the_first_ones_masks_and_leaves_statistics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.modulations.one_step.Affine", Noisy)
    inputs = {m: torch.randn(9, 3, generator=torch.Generator().manual_seed(i)).tolist() for i, m in enumerate("ab")}

    def trained(method: str, settings: dict[str, Any]) -> dict[str, Tensor]:
        run = affine_run(inputs, [0, 1, 2] * 3, 3, method, {}, settings, batch_size=3)
        update(run)
        return run.context.model.state_dict()

    joint, flat = trained("joint", {}), trained("sam", {"rho": 0.0})
    assert all(torch.equal(joint[name], flat[name]) for name in joint)
    sharp = trained("sam", {"rho": 0.5})
    assert torch.equal(sharp["encoders.a.layers.0.num_batches_tracked"], torch.tensor(3))
    assert not torch.equal(sharp["encoders.a.layers.1.weight"], joint["encoders.a.layers.1.weight"])


def test_a_second_pass_without_saying_so_is_an_error() -> None:
    ctx = tiny_run("joint")[0].context
    batch = next(iter(ctx.planned(ctx.plan())))
    ctx.forward(batch)
    with pytest.raises(RuntimeError, match="second_pass = True"):
        ctx.again(batch)


@pytest.mark.parametrize(
    "others", [[Ogm(end=1.0)], [Opm(start=0.0, p_exe=1.0)], [modulations().get("dgl")()]], ids=["ogm", "opm", "dgl"]
)
def test_in_a_chain_sam_at_rho_0_is_the_other_method_alone(others: list[Any]) -> None:
    results = []
    for links in (others, [Sam(rho=0.0), *others], [Sam(rho=0.3), *others]):
        run, _ = tiny_run("joint")
        run.context.modulation = Chain(links)
        results.append(update(run))
    alone, flat, sharp = results
    assert all(torch.equal(alone[name], flat[name]) for name in alone)
    assert any(not torch.equal(alone[name], sharp[name]) for name in alone)


def test_what_a_step_would_leave_out_is_refused_in_a_chain() -> None:
    with pytest.raises(UserError, match="mla takes whole steps, in which `on_losses` of mlb would not run"):
        Chain([Mla(), Mlb()])
    with pytest.raises(UserError, match="sam takes whole steps, in which `forward` of agm would not run"):
        Chain([Sam(), modulations().get("agm")()])


def test_m_sam_by_accuracy_runs_and_differs() -> None:
    changes = [update(tiny_run("m_sam", {"rho": 0.3, "share_of": of})[0]) for of in ("probability", "accuracy")]
    assert any(not torch.equal(changes[0][name], changes[1][name]) for name in changes[0])
