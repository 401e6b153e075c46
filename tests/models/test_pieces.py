"""A batch encoded piece by piece is the same batch: features, gradients and statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from balance_tune.models.multimodal import ModelSpec, MultimodalModel
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.loop import train

SHAPES = {"audio": (1, 12, 12), "image": (1, 8, 8)}


def model() -> MultimodalModel:
    return ModelSpec({m: (s, "cnn", {}) for m, s in SHAPES.items()}, 5).build(seed=0).double()


def batch(rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(rows, *s, generator=generator, dtype=torch.float64) for m, s in SHAPES.items()}


def without_normalisation(m: MultimodalModel) -> MultimodalModel:
    for name, part in list(m.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            parent, _, child = name.rpartition(".")
            setattr(m.get_submodule(parent), child, nn.Identity())
    return m


@pytest.mark.parametrize("piece", [1, 3, 4, 11, 100])
def test_gradients_are_those_of_the_whole_batch(piece: int) -> None:
    whole = without_normalisation(model())
    pieces = copy.deepcopy(whole)
    pieces.piece = piece
    for m in (whole, pieces):
        m(batch(11)).square().sum().backward()
    for (name, a), b in zip(whole.named_parameters(), pieces.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-10, atol=1e-12), name


def test_less_is_kept_for_the_way_back() -> None:
    kept: dict[int | None, int] = {}
    for piece in (None, 4):
        m = model()
        m.piece, kept[piece] = piece, 0

        def keep(x: torch.Tensor, piece: int | None = piece) -> torch.Tensor:
            kept[piece] += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            m(batch(32))
    assert kept[4] < kept[None] / 4


def test_running_statistics_are_updated_once_per_piece() -> None:
    once, pieces = model(), model()
    pieces.piece = 6
    x = batch(12)
    for start in (0, 6):
        once({m: v[start : start + 6] for m, v in x.items()})
    pieces(x).sum().backward()
    for (name, a), b in zip(once.named_buffers(), pieces.buffers(), strict=True):
        if "num_batches" not in name:
            assert torch.allclose(a, b), name


def test_evaluation_needs_no_pieces() -> None:
    m = model().eval()
    expected = m(batch(7))
    m.piece = 2
    assert torch.equal(m(batch(7)), expected)


@pytest.mark.parametrize("method", ["joint", "ogm_ge", "opm_ogm", "mlb", "agm"])
def test_a_method_trains_alike_with_pieces(method: str) -> None:
    whole, pieces = tiny_run(method, batch_size=22), tiny_run(method, batch_size=22)
    pieces[0].context.model.piece = 5
    for a, b in zip(train(*whole), train(*pieces), strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-9)
