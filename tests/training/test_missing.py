"""Modalities taken from rows at random: how often, from which rows, and what training and evaluation make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from balance_tune.datasets.store import Data
from balance_tune.models.multimodal import silence
from balance_tune.registry import modulations
from balance_tune.testing.tiny import tiny_data, tiny_run
from balance_tune.training.evaluation import predict
from balance_tune.training.loop import train
from balance_tune.training.missing import incomplete, present_at, robustness, uniforms, without

ROWS = 20_000


def absent(rates: list[float], available: torch.Tensor | None = None, rows: int = ROWS) -> torch.Tensor:
    numbers = uniforms(rows, [f"m{k}" for k in range(len(rates))], 3, "train")
    return ~present_at(numbers, torch.tensor(rates), available)


def test_each_modality_is_missing_at_its_own_rate() -> None:
    taken = absent([0.3, 0.0, 0.6]).double().mean(0)
    assert taken[0].item() == pytest.approx(0.3, abs=0.015)
    assert taken[1].item() == 0
    assert taken[2].item() == pytest.approx(0.6, abs=0.015)


@pytest.mark.parametrize("rates", [[0.9, 0.9], [1.0, 1.0], [1.0, 0.5, 0.9]])
def test_no_row_lacks_all_of_its_modalities(rates: list[float]) -> None:
    assert not absent(rates).all(1).any()


def test_a_row_that_would_lack_everything_keeps_each_modality_equally_often() -> None:
    kept = (~absent([1.0, 1.0, 1.0])).double()
    assert (kept.sum(1) == 1).all()
    assert kept.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.015)


def test_a_row_keeps_a_modality_that_it_has() -> None:
    available = torch.ones(ROWS, 2, dtype=torch.bool)
    available[::2, 0] = False
    present = ~absent([1.0, 1.0], available)
    assert not present[::2, 0].any()
    assert present[::2, 1].all()
    assert (present.sum(1) == 1).all()


def test_what_is_missing_at_a_rate_is_missing_at_a_higher_one() -> None:
    assert not (absent([0.3, 0.0]) & ~absent([0.7, 0.0])).any()


def test_draws_follow_from_seed_part_and_modality_alone() -> None:
    one = uniforms(50, ["a", "b"], 0, "train")
    assert torch.equal(one, uniforms(50, ["a", "b"], 0, "train"))
    assert torch.equal(one[:, 1], uniforms(50, ["b", "c"], 0, "train")[:, 0])
    others = [uniforms(50, ["a", "b"], 1, "train"), uniforms(50, ["a", "b"], 0, "monitor"), one.flip(1)]
    assert not any(torch.equal(one, other) for other in others)


def test_rows_that_lack_a_modality_anyway_still_lack_it() -> None:
    part = tiny_data().parts["train"]
    present = torch.ones(len(part), 2, dtype=torch.bool)
    present[::4, 1] = False
    second = list(part.inputs)[1]
    made = without(replace(part, present=present), {second: 0.5}, 0, "train")
    assert made.present is not None
    assert not made.present[::4, 1].any()
    assert made.present[:, 0].all()
    assert 0 < made.present[:, 1].sum() < present[:, 1].sum()


def test_trials_share_the_rows_that_judge_them_and_not_the_rows_that_train_them() -> None:
    data = tiny_data()
    first = next(iter(data.parts["train"].inputs))
    missing = {"train": {first: 0.5}, "val": {first: 0.5}}
    one, other = (incomplete(data, missing, seed, "val").parts for seed in (0, 1))
    assert torch.equal(one["val"].present, other["val"].present)  # type: ignore[arg-type]
    assert not torch.equal(one["train"].present, other["train"].present)  # type: ignore[arg-type]
    assert torch.equal(one["train"].present, incomplete(data, missing, 0, "val").parts["train"].present)  # type: ignore[arg-type]
    only_training = incomplete(data, {"train": {first: 0.5}, "val": {}}, 0, "val").parts
    assert only_training["val"].present is None
    assert only_training["monitor"].present is not None


@pytest.mark.parametrize("method", sorted(modulations().names()))
def test_every_method_trains_on_rows_that_lack_modalities(method: str) -> None:
    data = tiny_data(alike=True)  # some methods need features of one width
    cls = modulations().get(method)
    variant = next(iter(cls.variants(list(data.manifest.modalities))), None)
    lossy = incomplete(data, {"train": dict.fromkeys(data.manifest.modalities, 0.5)}, 0, "val")
    filled = {}
    for name, part in lossy.parts.items():
        inputs = {m: x.clone() for m, x in part.inputs.items()}
        for k, x in enumerate(inputs.values() if part.present is not None else ()):
            x[~part.present[:, k]] = 7  # type: ignore[index]
        filled[name] = replace(part, inputs=inputs)
    losses = []
    for given in (lossy, Data(lossy.manifest, filled)):
        run, modulation = tiny_run(method, data=given, variant=variant, lr=0.01)
        losses.append([row["train/loss"] for row in train(run, modulation)])
    assert losses[0] == losses[1]  # what is stored where a modality is missing counts nowhere
    assert all(torch.isfinite(torch.tensor(losses[0])))


def test_a_model_is_measured_at_each_rate_of_each_modality_and_of_all() -> None:
    run, modulation = tiny_run("joint")
    list(train(run, modulation))
    model, part = run.context.model, run.validation
    found = robustness(model, part, [1.0, 0.5], {"accuracy": 0.123})
    first, second = model.modalities
    assert [(r["modality"], r["rate"]) for r in found] == [(m, x) for m in (first, second, None) for x in (0, 0.5, 1)]
    assert {r["accuracy"] for r in found if r["rate"] == 0} == {0.123}
    inputs = part.take(torch.arange(len(part)))
    with torch.inference_mode():
        guess = model.eval()(silence(inputs, [second])).argmax(1)
    gone = next(r for r in found if (r["modality"], r["rate"]) == (first, 1))
    assert gone["missing"] == 1
    assert gone["accuracy"] == pytest.approx((guess == part.labels).double().mean().item())
    everything = next(r for r in found if (r["modality"], r["rate"]) == (None, 1))
    assert everything["missing"] == pytest.approx(0.5)  # of two modalities one is kept
    assert torch.equal(predict(model, part)[0], predict(model, part.having(part.availability()))[0])
    assert found == robustness(model, part, [0.5, 1.0], {"accuracy": 0.123})
