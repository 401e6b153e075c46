"""A training step of the common methods never makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from balance_tune.modulations.base import Modulation
from balance_tune.modulations.batch import Batch, Output
from balance_tune.modulations.context import Context
from balance_tune.modulations.ogm import coefficients
from balance_tune.modulations.opm import probabilities
from balance_tune.modulations.scores import ratios, ratios_on_host
from balance_tune.testing.tiny import tiny_run
from tests.modulations.one_step import run_on, update
from tests.modulations.synchronisation import Synchronised, no_synchronisation

ALWAYS = {"start": 0.0, "p_exe": 1.0}
OF_RATIOS: list[tuple[str, dict[str, Any]]] = [
    ("ogm", {"end": 1.0}),
    ("ogm", {"end": 1.0, "apply_to": "lr", "form": "alpha_tanh_rho_minus_1", "policy": "encoder+head"}),
    ("ogm_ge", {"end": 1.0}),
    ("opm", ALWAYS),
    ("opm_ogm", {**ALWAYS, "ogm_end": 1.0}),
]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("joint", {}),
    *OF_RATIOS,
    ("multi_loss", {}),
    ("mlb", {}),
    ("mlb", {"beta_max": 5.0, "apply_to": "lr"}),
    ("sam", {}),
    ("m_sam", {}),
    ("m_sam", {"share_of": "accuracy"}),
    ("inforeg", {}),
    ("inforeg", {"probe": "slice", "gap": "sum", "trace_of": "first"}),
    ("mcr", {"c": 0.0, "shuffle": "rand_rsl"}),
    ("miles", {}),
    ("olm", {}),
    ("olm", {"variant": "rates"}),
    ("dgl", {}),
    ("arl", {"warmup": 0.0}),
    ("g2d", {"teacher_epochs": 0.5}),
    ("remix", {"warmup": 0.0}),
]
SILENT = ("joint", "multi_loss", "sam", "miles", "dgl")  # those that log nothing in the first epoch's steps
RECIPES: list[dict[str, Any]] = [
    {},
    {"clip_norm": 1.0, "optimizer": "adamw"},
    {"precision": "bf16", "dtype": "float32"},
]
BREACHES: dict[str, Callable[[Tensor], object]] = {
    "item": lambda k: k.sum().item(),
    "float": lambda k: float(k[0]),
    "int": lambda k: int(k[0]),
    "bool": lambda k: bool(k[0] > 1),
    "if": lambda k: 1 if (k > 1).any() else 0,
    "tolist": lambda k: k.tolist(),
    "numpy": lambda k: k.numpy(),
    "cpu": lambda k: k.cpu(),
    "to": lambda k: k.to("cpu"),
    "format": lambda k: f"{k[0]:.3f}",
    "in": lambda k: 1.0 in k,
    "max of two": lambda k: max(k[0], k[1]),
    "nonzero": lambda k: (k > 1).nonzero(),
    "where": lambda k: torch.where(k > 1),
    "mask": lambda k: k[k > 1],
    "mask written": lambda k: k.clone().__setitem__(k > 1, 0.0),
    "masked_select": lambda k: k.masked_select(k > 1),
    "equal": lambda k: torch.equal(k, k + 1),
    "unique": lambda k: k.unique(),
    "allclose": lambda k: torch.allclose(k, k),
}


def steps(run: Any, modulation: Modulation) -> int:
    """Take the steps of an epoch as the loop does, each of them guarded."""
    ctx = run.context
    ctx.model.train()
    ctx.acting = modulation
    ctx.optimization.set_rate(0.1)
    ctx.on_cpu = False  # as on a device
    plan = modulation.plan_epoch(ctx.plan(), ctx)
    modulation.on_epoch_start(ctx)
    count = 0
    with no_synchronisation():
        for batch in ctx.planned(plan):
            modulation.train_step(batch, ctx)
            ctx.step += 1
            count += 1
    return count


@pytest.mark.parametrize("recipe", RECIPES, ids=["sgd", "adamw clipped", "bf16"])
@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_a_step_reads_no_value_on_the_host(method: str, settings: dict[str, Any], recipe: dict[str, Any]) -> None:
    run, modulation = tiny_run(method, settings, **recipe)
    assert steps(run, modulation) == (4 if method == "remix" else 3)
    if method not in SILENT:
        assert run.context.logged()  # it did act


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("method", "settings"), OF_RATIOS)
def test_numbers_on_the_host_change_as_much_as_numbers_on_a_device(
    method: str, settings: dict[str, Any], seed: int
) -> None:
    found, logged = [], []
    for free in (True, False):
        run, _ = tiny_run(method, settings, seed=seed)
        run.context.on_cpu = free
        found.append(update(run))
        assert isinstance(run.context.score_ratios, tuple if free else Tensor)
        logged.append(run.context.logged())
    assert logged[0] == pytest.approx(logged[1], rel=1e-6)
    for name, delta in found[0].items():
        assert torch.allclose(delta, found[1][name], rtol=1e-5, atol=1e-7), name


RATIOS = [(2.0, 0.5), (0.5, 2.0), (1.0, 1.0), (1e8, 1e-8), (1.5, 0.9, 0.7), (1.0, 1.0, 1.0), (1.0,)]


@pytest.mark.parametrize("rho", RATIOS, ids=str)
@pytest.mark.parametrize("form", ["tanh_alpha_rho", "alpha_tanh_rho_minus_1"])
def test_formulas_of_numbers_are_those_of_tensors(rho: tuple[float, ...], form: Any) -> None:
    on_device = torch.tensor(rho, dtype=torch.float64)
    for alpha in (0.0, 0.8, 3.0):
        assert coefficients(rho, alpha, form) == pytest.approx(coefficients(on_device, alpha, form).tolist(), rel=1e-12)
    for q_base, lam in ((0.5, 0.5), (0.9, 1.0), (0.0, 0.0)):
        expected = probabilities(on_device, q_base, lam).tolist()
        assert probabilities(rho, q_base, lam) == pytest.approx(expected, rel=1e-12)
    scores = [3.0 * r for r in rho]
    assert ratios_on_host(scores) == pytest.approx(ratios(torch.tensor(scores, dtype=torch.float64)).tolist())


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize(("method", "key"), [("ogm", "k"), ("ogm_ge", "k"), ("opm", "q")])
def test_a_single_modality_is_neither_slowed_nor_dropped(method: str, key: str, free: bool) -> None:
    run = run_on({"a": torch.randn(9, 3)}, torch.arange(9) % 3, 3, method, modulation={"start": 0.0})
    run.context.on_cpu = free
    update(run)
    assert run.context.logged() == {f"modulation/{key}/a": 1.0 if key == "k" else 0.0}


class Peeking(Modulation):
    """Reads its scores on the host in some way."""

    name = ""

    def __init__(self, breach: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.breach = breach

    def on_gradients(self, output: Output, batch: Batch, ctx: Context) -> None:
        self.breach(ctx.score_vector)


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
def test_a_step_that_reads_one_is_caught(breach: Callable[[Tensor], object]) -> None:
    run, _ = tiny_run("joint")
    with pytest.raises(Synchronised):
        steps(run, Peeking(breach))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: what a device really waits for cannot be profiled")
@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_the_profiler_sees_no_wait_and_no_copy_to_the_host(method: str, settings: dict[str, Any]) -> None:
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    run, modulation = tiny_run(method, settings, device="cuda")
    batches = list(run.context.planned(run.context.plan()))
    run.context.model.train()
    run.context.acting = modulation
    modulation.train_step(batches[0], run.context)  # the first step loads kernels and allocates
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for batch in batches[1:]:
            modulation.train_step(batch, run.context)
    names = [event.name for event in seen.events()]
    assert any(event.device_type == DeviceType.CUDA for event in seen.events())
    waits = [n for n in names if "DtoH" in n or ("Synchronize" in n and "cudaDeviceSynchronize" not in n)]
    assert waits == []
    assert sum("cudaDeviceSynchronize" in n for n in names) <= 1  # the profiler's own, at its end
