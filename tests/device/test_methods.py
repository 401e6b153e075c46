"""Every method trains on a device as on the CPU, and never makes the host wait for it inside a step."""

from __future__ import annotations

from typing import Any

import pytest

from balance_tune.datasets.store import Data
from balance_tune.errors import UserError
from balance_tune.registry import fusions, modulations
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.loop import train
from tests.device.pretended import pretended

METHODS, FUSIONS = modulations().names(), fusions().names()
EPOCHS = 3
# How often the host waits per epoch: for the shuffled rows, the mean loss, the metrics, what the method has logged.
WAITS = 4
# Beyond it, per modality in all three epochs, and what for.
MORE: dict[str, tuple[int, str]] = {
    "g_blending": (32, "it trains a copy of the model per modality, epochs of their own, and weighs what comes out"),
    "umt": (9, "teachers are trained, epochs of their own"),
    "g2d": (9, "teachers are trained, epochs of their own"),
    "pretrained": (9, "encoders are trained alone, epochs of their own"),
    "pretrained_frozen": (9, "encoders are trained alone, epochs of their own"),
    "inforeg": (2, "which windows are open is decided once an epoch"),
    "remix": (5, "the rows are divided among the modalities, by how many each gets"),
    "relearning": (6, "k-means asks every ten iterations whether it has converged, on two parts of the data"),
    "modality_valuation": (7, "which rows are added decides how long the epoch is"),
    "sample_valuation": (6, "which rows are added decides how long the epoch is"),
    "pmr": (2, "rows for its prototypes"),
    "lfm": (2, "rows for its contrastive pairs"),
}
# Settings with which a method acts within three epochs, beside those that it has anyway.
ALSO: dict[str, list[dict[str, Any]]] = {
    "mlb": [{"apply_to": "lr", "beta_max": 5.0}],
    "ogm": [{"apply_to": "lr", "form": "alpha_tanh_rho_minus_1", "policy": "encoder+head", "end": 1.0}],
    "opm": [{"start": 0.0, "p_exe": 1.0}],
    "opm_ogm": [{"start": 0.0, "p_exe": 1.0, "ogm_end": 1.0}],
}


def cases() -> list[Any]:
    """Return all (method, fusion, modalities); by default run two per method, which together meet every fusion."""
    found = []
    for i, method in enumerate(METHODS):
        always = {("concat", 2), (FUSIONS[i % len(FUSIONS)], 3)}
        for fusion in FUSIONS:
            for count in (2, 3):
                marks = () if (fusion, count) in always else pytest.mark.full
                found.append(pytest.param(method, fusion, count, marks=marks, id=f"{method}-{fusion}-{count}"))
    return found


def data_for(method: str, fusion: str, modalities: int) -> tuple[Data, str | None] | None:
    """Return data that the method and the fusion can be combined on, and the method's variant; None: there is none."""
    for alike in (False, True):
        data = tiny_data(modalities, alike=alike)
        variant = next(iter(modulations().get(method).variants(tuple(data.manifest.modalities))), None)
        try:
            tiny_run(method, data=data, fusion=fusion, variant=variant)
        except UserError:
            continue
        return data, variant
    return None


def compare(method: str, settings: dict[str, Any], within: float = 1e-6, **how: Any) -> None:
    """Train on the CPU and on the device; compare what they report, and count how often the host waited."""
    how = {"lr": 0.05, "epochs": EPOCHS, **how}
    expected = list(train(*tiny_run(method, settings, **how)))
    with pretended() as device:
        run, modulation = tiny_run(method, settings, device="cuda", **how)
        device.events.clear()
        rows = list(train(run, modulation))
    assert device.of("step") == {}
    most = EPOCHS * WAITS + MORE.get(method, (0, ""))[0] * len(run.context.model.modalities)
    assert sum(device.of("epoch").values()) <= most, device.of("epoch")
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        same = {k: v for k, v in wanted.items() if k not in ("device_seconds", "time/epoch_s")}
        assert {k: row[k] for k in same} == pytest.approx(same, abs=within)


@pytest.mark.parametrize(("method", "fusion", "modalities"), cases())
def test_a_method_trains_as_on_the_cpu_and_no_step_waits(method: str, fusion: str, modalities: int) -> None:
    usable = data_for(method, fusion, modalities)
    if usable is None:
        with pytest.raises(UserError):  # on any machine
            tiny_run(method, data=tiny_data(modalities), fusion=fusion)
        return
    data, variant = usable
    compare(method, {}, data=data, fusion=fusion, variant=variant)


@pytest.mark.parametrize(("method", "settings"), [(m, s) for m, each in ALSO.items() for s in each])
def test_a_method_trains_as_on_the_cpu_with_other_settings(method: str, settings: dict[str, Any]) -> None:
    compare(method, settings)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
@pytest.mark.parametrize("method", ["joint", "ogm_ge", "mlb", "agm"])
def test_other_tasks_train_as_on_the_cpu(method: str, task: Any) -> None:
    if task not in modulations().get(method).tasks:
        with pytest.raises(UserError, match="works for"):
            tiny_run(method, data=tiny_data(task=task))
        return
    compare(method, {}, data=tiny_data(task=task))


RECIPES: list[dict[str, Any]] = [
    {"clip_norm": 1.0, "optimizer": "adamw"},
    {"optimizer": "adam", "dtype": "float32"},
    {"momentum": 0.0, "channels_last": False},
    {"schedule": "cosine", "weight_decay": 0.01},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["adamw clipped", "adam", "no momentum", "cosine"])
@pytest.mark.parametrize("method", ["joint", "ogm_ge", "mlb", "mla", "umt"])
def test_recipes_train_as_on_the_cpu(method: str, recipe: dict[str, Any]) -> None:
    usable = data_for(method, "concat", 2)
    assert usable is not None
    settings: dict[str, Any] = {"scaling": 0.5} if method == "umt" else {}
    within = 1e-6 if recipe.get("dtype") != "float32" else 1e-3
    compare(method, settings, within, data=usable[0], **{"epochs": 2, "lr": 0.02, **recipe})


@pytest.mark.parametrize("method", METHODS)
def test_bf16_trains_close_to_fp32_and_no_step_waits(method: str) -> None:
    usable = data_for(method, "concat", 2)
    assert usable is not None
    data, variant = usable
    losses = {}
    for precision in ("fp32", "bf16"):
        how: dict[str, Any] = {"data": data, "variant": variant, "epochs": 1, "lr": 0.02, "dtype": "float32"}
        with pretended() as device:
            run, modulation = tiny_run(method, device="cuda", precision=precision, **how)
            device.events.clear()
            (row,) = train(run, modulation)
        assert device.of("step") == {}
        losses[precision] = row["train/loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"] or method == "lfm"
