"""Data reach the device wherever they lie, augmented too, and no batch makes the host wait."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from balance_tune.datasets.modality import Modality
from balance_tune.datasets.store import build_store
from balance_tune.training import residency
from balance_tune.training.feed import feed_of
from balance_tune.training.loop import train
from balance_tune.training.setup import assemble, prepare
from balance_tune.training.transform import Transform
from tests.datasets.tiny import Tiny
from tests.device.pretended import DEVICE, MEMORY, pretended
from tests.training.test_feed import SPECS, STATISTICS, raw

TRAINING: dict[str, Any] = {"epochs": 3, "batch_size": 8, "lr": 0.05}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "tiny"
    build_store(Tiny(), folder)
    return folder


def config(store: Path, device: str, asked: str = "auto", **changes: Any) -> dict[str, Any]:
    return {
        "method": "ogm_ge", "modulation": {}, "store": str(store), "device": device, "residency": asked,
        "training": TRAINING, "objective": "val/accuracy", "seed": 1, **changes,
    }  # fmt: skip


def losses(rows: Any) -> list[float]:
    return [row[key] for row in rows for key in ("train/loss", "val/loss", "val/accuracy")]


@pytest.mark.parametrize(
    ("asked", "free", "there"),
    [
        ("auto", MEMORY, True), ("auto", 1000, False), ("device", MEMORY, True),
        ("memory", MEMORY, False), ("mapped", MEMORY, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "auto"])
def test_a_trial_trains_the_same_wherever_its_data_lie(
    asked: str, free: int, there: bool, name: str, store: Path
) -> None:
    expected = losses(train(*prepare(config(store, "cpu"))))
    residency.close_all()
    with pretended() as device:
        device.free = free
        run, modulation = prepare(config(store, name, asked))
        feed = run.context.parts["train"]
        assert {x.device == DEVICE for x in feed.inputs.values()} == {there}
        assert (feed.host, feed.device, feed.labels.device, run.context.device) == (not there, DEVICE, DEVICE, DEVICE)
        device.events.clear()
        rows = list(train(run, modulation))
    residency.close_all()
    assert device.of("step") == {}
    assert losses(rows) == pytest.approx(expected, abs=1e-4)


AUGMENTED: list[tuple[tuple[str, dict[str, Any]], ...]] = [
    (("frames", {"count": 3, "how": "random"}), ("random_crop", {"size": 6}), ("flip", {})),
    (("frames", {"count": 3, "how": "segments"}), ("random_resized_crop", {"size": 6}), ("flip_channels", {})),
    (("frames", {"count": 3}), ("rotate", {"degrees": 20}), ("centre_crop", {"size": 6})),
    (("frames", {"count": 3, "how": "first"}), ("resize", {"size": 6})),
]
COLOURED = Modality(
    (3, 6, 6), "cnn", stored=(3, 8, 9), dtype="uint8", unit=1 / 255, normalise=None,
    augment=(("colour", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3}), ("random_crop", {"size": 6})),
    evaluate=(("centre_crop", {"size": 6}),),
)  # fmt: skip


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("operations", AUGMENTED, ids=lambda each: each[1][0])
def test_training_on_augmented_batches_never_waits_inside_a_step(
    operations: tuple[tuple[str, dict[str, Any]], ...], resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPECS, "clip", replace(SPECS["clip"], augment=operations))
    data, settings = raw(), {"method": "joint", "training": TRAINING, "objective": "val/accuracy", "seed": 0}
    with pretended() as device:
        if resident:
            for part in data.parts.values():
                part.inputs.update({m: x.to("cuda") for m, x in part.inputs.items()})
        run, modulation = assemble(settings, data, device=torch.device("cuda"))
        device.events.clear()
        rows = list(train(run, modulation))
    assert device.of("step") == {}
    assert all(math.isfinite(row["train/loss"]) for row in rows)


@pytest.mark.parametrize("spec", [COLOURED, SPECS["sound"]], ids=["colour", "masks"])
def test_operations_on_the_device_are_those_on_the_cpu(spec: Modality) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 200, (5, *spec.stored), generator=generator).to(getattr(torch, spec.dtype))
    statistics = STATISTICS["sound"] if spec.normalise == "train" else None

    def draws(count: int) -> torch.Tensor:
        return torch.rand(5, count, generator=torch.Generator().manual_seed(count))

    expected = Transform(spec, statistics)(x, draws)
    with pretended() as device:
        there = x.to("cuda")
        device.events.clear()
        y = Transform(spec, statistics)(there, lambda count: draws(count).to("cuda", non_blocking=True))
        assert not device.events
        assert y.device == DEVICE
        torch.testing.assert_close(y.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("free", "share", "rows"), [(MEMORY, 1.0, 2**29), (8 * 2**30, 1.0, 2**27), (MEMORY, 0.125, 2**27)]
)
def test_a_pass_in_evaluation_mode_takes_what_the_device_has_room_for(free: int, share: float, rows: int) -> None:
    with pretended() as device:
        device.free = free
        feed = feed_of(raw(), "val", "cuda", share=share)
        sample = 4 * sum(torch.Size(spec.shape).numel() for spec in SPECS.values())
        assert feed.at_once == rows // sample
