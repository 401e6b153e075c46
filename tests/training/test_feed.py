"""A feed gives each row once, the same from every place it may lie, in every share of workers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from balance_tune.datasets.modality import IMAGENET, Modality, Statistics
from balance_tune.datasets.sharded import Sharded
from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.replicas import Replicas
from balance_tune.testing.tiny import tiny_run
from balance_tune.testing.workers import Workers
from balance_tune.training import buffers
from balance_tune.training import feed as feeds
from balance_tune.training.evaluation import evaluate, predict
from balance_tune.training.feed import Feed, draws_for, feed_of
from balance_tune.training.loop import train
from balance_tune.training.rows import Rows

SPECS = {
    "clip": Modality(
        (2, 3, 6, 6),
        "resnet18",
        stored=(2, 4, 8, 9),
        dtype="uint8",
        unit=1 / 255,
        normalise=((0.4, 0.5), (0.2, 0.3)),
        augment=(("frames", {"count": 3, "how": "segments"}), ("random_resized_crop", {"size": 6}), ("flip", {})),
        evaluate=(("frames", {"count": 3, "how": "even"}), ("centre_crop", {"size": 6})),
    ),
    "sound": Modality(
        (1, 8, 6),
        f"{__name__}:Normed",
        dtype="float16",
        normalise="train",
        standardise=(0, 1),
        augment=(("mask_time", {"width": 2}), ("mask_frequency", {"width": 2})),
    ),
}
STATISTICS = {"sound": Statistics([[0.5] * 8], [[2.0] * 8])}


class Normed(torch.nn.Module):
    """A convolution with batch normalisation, on images or the mean of clips over time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(shape[0], 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.features = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean(2) if x.dim() == 5 else x
        out: torch.Tensor = self.norm(self.conv(x)).relu().mean((2, 3))
        return out


def raw(sharded: bool = False) -> Data:
    generator = torch.Generator().manual_seed(0)
    specs = {**SPECS, "clip": replace(SPECS["clip"], encoder=f"{__name__}:Normed")}
    parts = {}
    for name, n in (("train", 21), ("monitor", 9), ("val", 13)):
        labels = torch.arange(n) % 3
        clip = (torch.randint(0, 200, (n, 2, 4, 8, 9), generator=generator) + 20 * labels.view(-1, 1, 1, 1, 1)).to(
            torch.uint8
        )
        sound = (torch.randn(n, 1, 8, 6, generator=generator) + labels.view(-1, 1, 1, 1)).half()
        inputs: dict[str, Any] = {"clip": clip, "sound": sound}
        if sharded:
            inputs = {m: Sharded([x[: n // 2], x[n // 2 :]]) for m, x in inputs.items()}
        parts[name] = Part(inputs, labels, torch.arange(n), None)
    manifest: Any = SimpleNamespace(modalities=specs, statistics=STATISTICS, classes=("x", "y", "z"), task="classes")
    return Data(manifest, parts)


def test_evaluation_takes_rows_scaled_and_without_chance() -> None:
    feed = feed_of(raw(), "val")
    x = feed.take(torch.tensor([3, 1]))
    stored = raw().parts["val"].inputs
    clip = (
        stored["clip"][[3, 1]][:, :, [0, 2, 3], 1:7, 1:7].float() / 255 - torch.tensor([0.4, 0.5]).view(2, 1, 1, 1)
    ) / torch.tensor([0.2, 0.3]).view(2, 1, 1, 1)
    torch.testing.assert_close(x["clip"], clip, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x["sound"], (stored["sound"][[3, 1]].float() - 0.5) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("world", [1, 2, 5])
def test_every_row_is_evaluated_once_whoever_shares_it(world: int) -> None:
    feed = feed_of(raw(), "val")
    seen = torch.cat([rows for rank in range(world) for rows, _ in feed.batches(rank, world, most=3)])
    assert sorted(seen.tolist()) == list(range(13))
    whole = feed.take(slice(None))
    for rank in range(world):
        for rows, x in feed.batches(rank, world, most=4):
            assert torch.equal(x["sound"], whole["sound"][rows])


@pytest.mark.parametrize("sharded", [False, True])
def test_what_is_gathered_ahead_is_what_is_gathered_at_once(sharded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = feed_of(raw(), "train")
    monkeypatch.setattr(feeds, "LARGE", 0)
    early = feed_of(raw(sharded), "train")
    rows = list(torch.randperm(21, generator=torch.Generator().manual_seed(1)).split(8))
    for a, b in zip(plain.stream(rows), early.stream(rows), strict=True):
        assert all(torch.equal(a[m], b[m]) for m in a)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_large_samples_read_where_they_lie_are_those_that_were_gathered_and_stay_as_they_are(
    sharded: bool, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(data: Data) -> Data:
        specs = {
            "clip": replace(
                SPECS["clip"],
                shape=(3, 3, 60, 60),
                stored=(3, 4, 80, 90),
                normalise=IMAGENET,
                augment=(*SPECS["clip"].augment[:1], ("random_resized_crop", {"size": 60}), ("flip", {})),
                evaluate=(("frames", {"count": 3, "how": "even"}), ("centre_crop", {"size": 60})),
            ),
            "sound": replace(SPECS["sound"], shape=(1, 8, 600), stored=()),
        }
        generator = torch.Generator().manual_seed(0)
        clip = torch.randint(0, 256, (21, 3, 4, 80, 90), generator=generator).to(torch.uint8)
        inputs: dict[str, Any] = {"clip": clip, "sound": torch.randn(21, 1, 8, 600, generator=generator).half()}
        if sharded:
            inputs = {m: Sharded([x[:4], x[4:]]) for m, x in inputs.items()}
        part = Part(inputs, data.parts["train"].labels, torch.arange(21), None)
        manifest: Any = SimpleNamespace(modalities=specs, statistics=STATISTICS)
        return Data(manifest, {"train": part})

    monkeypatch.setattr(buffers, "LEAST", 0)
    monkeypatch.setattr(feeds, "LARGE", 0 if early else 2**28)
    feed = feed_of(large(raw()), "train")
    chunks = list(torch.randperm(21, generator=torch.Generator().manual_seed(1)).split(4))
    kept: list[dict[str, torch.Tensor]] = []
    expected: list[dict[str, torch.Tensor]] = []
    for step, (rows, stored) in enumerate(zip(chunks, feed.stream(chunks), strict=True)):
        assert {type(x) for x in stored.values()} == {torch.Tensor if early else Rows}
        read = {m: x[rows] for m, x in feed.inputs.items()}
        for augmented in (False, True):
            for made, source in ((kept, stored), (expected, read)):
                draws = draws_for(feed.inputs, (0, step), torch.arange(len(rows)), len(rows)) if augmented else None
                made.append(feed.prepared(source, draws))
                if made is expected:
                    made[-1] = {m: x.clone() for m, x in made[-1].items()}
    for found, wanted in zip(kept, expected, strict=True):
        assert all(torch.equal(found[m], wanted[m]) for m in wanted)


def test_an_epoch_is_augmented_by_seed_and_epoch_alone() -> None:
    def seen(seed: int, epoch: int) -> torch.Tensor:
        run, _ = tiny_run("joint", data=raw(), seed=seed, dtype="float32")
        ctx = run.context
        ctx.epoch = epoch
        batches = []
        for batch in ctx.planned(ctx.plan()):
            batches.append(batch.inputs["clip"][batch.index.argsort()])
            ctx.step += 1
        return torch.cat(batches)

    assert torch.equal(seen(0, 0), seen(0, 0))
    assert not torch.equal(seen(0, 0), seen(1, 0))
    assert not torch.equal(seen(0, 0), seen(0, 1))


def test_methods_read_the_training_part_without_augmentation() -> None:
    run, _ = tiny_run("joint", data=raw(), dtype="float32")
    first, second = (run.context.encode("train") for _ in range(2))
    assert all(torch.equal(first[0][m], second[0][m]) for m in first[0])


def test_a_pass_takes_no_more_at_once_than_fits() -> None:
    big = Part(
        {"x": torch.zeros(1).expand(10, 3, 2000, 2000)}, torch.zeros(10, dtype=torch.long), torch.arange(10), None
    )
    assert Feed(big).at_once == 1
    assert feed_of(raw(), "val").at_once > 13


def test_one_modality_alone_reads_nothing_of_the_others() -> None:
    run, _ = tiny_run("unimodal", data=raw(), variant="sound", dtype="float32")
    assert set(run.context.parts["train"].inputs) == set(run.validation.inputs) == {"sound"}


def _trained(seed: int) -> list[list[float]]:
    run, modulation = tiny_run("ogm_ge", data=raw(), seed=seed, epochs=2, lr=0.05, replicas=Replicas())
    rows = list(train(run, modulation))
    fused, _ = predict(run.context.model, run.validation)
    kept = [run.context.model.state_dict()[f"encoders.{m}.norm.running_var"].tolist() for m in ("clip", "sound")]
    again = evaluate(run.context.model, run.validation, Replicas())
    return [[row["train/loss"] for row in rows], fused.flatten().tolist(), *kept, sorted(again.values())]


def test_two_workers_with_augmentation_and_batch_normalisation_equal_one() -> None:
    expected = _trained(3)
    workers = Workers(2)
    try:
        for answer in workers.run(_trained, 3):
            for found, wanted in zip(answer, expected, strict=True):
                assert found == pytest.approx(wanted, abs=1e-6)
    finally:
        workers.close()


@pytest.mark.parametrize("method", ["relearning", "sample_valuation", "g_blending", "umt", "agm"])
def test_methods_that_read_data_themselves_work_on_stored_types(method: str) -> None:
    settings = {"umt": {"scaling": 0.1}, "relearning": {"interval": 0.3}}.get(method, {})
    run, modulation = tiny_run(method, settings, data=raw(), dtype="float32", lr=0.01)
    rows = list(train(run, modulation))
    assert len(rows) == 3
