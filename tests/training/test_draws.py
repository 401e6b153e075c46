"""Random numbers of steps: which they are follows from seed, purpose and step, whatever was drawn before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from balance_tune.training import draws
from balance_tune.training.draws import AHEAD, Draws

CPU = torch.device("cpu")
LIKE = [
    torch.zeros(4, 3, 3, 3),
    torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last),
    torch.zeros(5, 8)[:, 2:6],
    torch.zeros(()),
]


def uniform(made: Draws, step: int, *, seed: int = 0, purpose: str = "x") -> Tensor:
    return made.uniform(seed, purpose, step, (3, 50)).clone()


def normal(made: Draws, step: int) -> list[Tensor]:
    return [x.clone() for x in made.normal(0, "noise", step, LIKE)]


def test_a_step_has_its_numbers_in_whatever_order_steps_are_asked_for() -> None:
    forward, back = Draws(CPU), Draws(CPU)
    steps = range(3 * AHEAD + 1)
    there = [uniform(forward, step) for step in steps]
    again = [uniform(back, step) for step in reversed(steps)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(there, again, strict=True))
    assert len({x.sum().item() for x in there}) == len(steps)
    for step in steps:
        assert all(torch.equal(a, b) for a, b in zip(normal(forward, step), normal(Draws(CPU), step), strict=True))


def test_seeds_and_purposes_have_numbers_of_their_own() -> None:
    made = Draws(CPU)
    given = [uniform(made, 7), uniform(made, 7, seed=1), uniform(made, 7, purpose="y")]
    assert len({x.sum().item() for x in given}) == 3
    assert torch.equal(uniform(made, 7), given[0])


def test_they_are_distributed_as_they_say() -> None:
    made = Draws(CPU)
    flat = torch.cat([uniform(made, step).flatten() for step in range(400)])
    assert 0 <= flat.min() < flat.max() < 1
    assert flat.mean().item() == pytest.approx(0.5, abs=0.005)
    for which in range(3):
        flat = torch.cat([normal(made, step)[which].flatten() for step in range(400)])
        assert flat.mean().item() == pytest.approx(0, abs=0.06)
        assert flat.std().item() == pytest.approx(1, abs=0.04)


def test_noise_has_shapes_and_layouts_of_what_it_is_for_and_no_number_twice() -> None:
    found = normal(Draws(CPU), 3)
    assert [x.shape for x in found] == [x.shape for x in LIKE]
    assert Draws(CPU).normal(0, "noise", 3, LIKE)[1].stride() == LIKE[1].stride()
    flat = torch.cat([x.flatten() for x in found])
    assert len(flat.unique()) == len(flat)


def test_another_layout_is_given_its_own_and_the_former_one_is_as_before() -> None:
    made = Draws(CPU)
    before = uniform(made, 5)
    assert made.uniform(0, "x", 5, (4, 9)).shape == (4, 9)
    assert torch.equal(uniform(made, 5), before)


def test_many_numbers_are_drawn_for_one_step_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "MANY", 200)
    made = Draws(CPU)
    first = uniform(made, 0)
    assert not made._blocks
    assert torch.equal(uniform(made, 0), first)
    assert not torch.equal(uniform(made, 1), first)
