"""In-place changes of gradients: what noise reaches, and what it leaves alone, in every layout."""

from __future__ import annotations

import pytest
import torch

from balance_tune.modulations.gradients import add_noise, deviations
from balance_tune.testing.tiny import tiny_run
from balance_tune.training import step


@pytest.mark.parametrize("many", [2**18, 100, None], ids=["one draw", "one by one", "as on a device"])
def test_every_element_gets_noise_of_its_own_and_its_gradients_size(
    many: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.zeros(30, 40)
    given = [
        torch.zeros(8, 16, 3, 3),
        torch.zeros(8, 16, 3, 3).to(memory_format=torch.channels_last),
        whole[:, 10:30],  # a modality's share of a fusion weight: rows with gaps between them
        torch.zeros(50),
    ]
    sigma = [1.0, 10.0, 0.1, 0.0]
    ctx = tiny_run("joint")[0].context
    if many is None:
        ctx.on_cpu = False
        add_noise(given, [torch.tensor(s) for s in sigma], ctx)
    else:
        monkeypatch.setattr(step, "MANY", many)
        add_noise(given, sigma, ctx)
    for g, s in zip(given, sigma, strict=True):
        assert g.std().item() == pytest.approx(s, rel=0.1)
        assert len(g.unique()) == (g.numel() if s else 1)
    assert not torch.equal(given[0], given[1] / 10)
    assert torch.equal(whole[:, :10], torch.zeros(30, 10))
    assert torch.equal(whole[:, 30:], torch.zeros(30, 10))


def test_a_deviation_is_of_all_elements_and_that_of_one_element_is_as_good_as_none() -> None:
    drawn = torch.randn(5, 4, 3, 2, dtype=torch.float64)
    given = [drawn.to(memory_format=torch.channels_last), torch.ones(1)]
    ctx = tiny_run("joint")[0].context
    ctx.on_cpu = False
    many, one = deviations(given, ctx)
    expected = ((drawn - drawn.mean()).square().sum() / (drawn.numel() - 1)).sqrt() + 1e-8
    assert many.item() == pytest.approx(expected.item(), rel=1e-12)
    assert one.item() == pytest.approx(1e-8)
    ctx.on_cpu = True
    assert deviations(given, ctx) == [many.item(), pytest.approx(one.item())]
    assert deviations([], ctx) == []
