"""A plain loop with a balancer trains the same weights as the project's own loop, for every method that fits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.modulations.base import Modulation
from balance_tune.modulations.chain import Chain
from balance_tune.modulations.ogm import Ogm
from balance_tune.modulations.opm import Opm
from balance_tune.registry import modulations
from balance_tune.tasks import Task
from balance_tune.testing.tiny import tiny_data
from tests.balancing.own_loop import by_own_loop, by_plain_loop, distance

OPTIONS: dict[str, dict[str, Any]] = {"unimodal": {"modality": "audio"}, "opm": {"start": 0.0}}
FURTHER: list[tuple[str, dict[str, Any]]] = [
    ("lfm", {"balance": "fitted"}),
    ("cggm", {"apply_to": "lr"}),
    ("cggm", {"direction": "gradient"}),
    ("mlb", {"apply_to": "lr"}),
    ("ogm", {"apply_to": "lr"}),
    ("ogm_ge", {"alpha": 0.8, "end": 0.5}),
    ("greedy", {"objective": "own"}),
]


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    ours = [name for name, cls in modulations().classes().items() if cls.__module__.startswith("balance_tune.")]
    yield from ((name, OPTIONS.get(name, {})) for name in ours)
    yield from FURTHER


def method_of(name: str, settings: Mapping[str, Any]) -> Modulation:
    method: Modulation = modulations().get(name).of(settings)
    return method


REPLACED = ("train_step", "plan_epoch")  # hooks of which the user's loop takes the place
FITTING = [(name, settings) for name, settings in cases() if not method_of(name, settings).beyond_step()]
OTHERS = [(name, settings) for name, settings in cases() if method_of(name, settings).beyond_step()]
OTHERS += [("olm", {"variant": "rates"}), ("mcr", {"pretrain": 0.5})]


@pytest.mark.parametrize(("name", "settings"), FITTING, ids=str)
def test_weights_are_those_of_the_projects_own_loop(name: str, settings: dict[str, Any]) -> None:
    data = tiny_data(2, alike=True)
    expected, metrics = by_own_loop(name, settings, data=data)
    weights, balancer = by_plain_loop(name, settings, data=data)
    assert distance(expected, weights) < 1e-6
    logged = balancer.logged()
    assert {key for key in metrics[-1] if key.startswith("modulation/")} <= set(logged)


@pytest.mark.parametrize("fusion", ["film", "gated", "transformer", "late"])
def test_weights_agree_whatever_the_fusion_and_the_number_of_modalities(fusion: str) -> None:
    how = {"data": tiny_data(3), "fusion": fusion}
    expected, _ = by_own_loop("mlb", {}, **how)
    assert distance(expected, by_plain_loop("mlb", {}, **how)[0]) < 1e-6


@pytest.mark.parametrize(("name", "task"), [("mlb", "regression"), ("agm", "regression"), ("ogm", "multilabel")])
def test_weights_agree_on_other_tasks(name: str, task: Task) -> None:
    data = tiny_data(2, task=task)
    expected, _ = by_own_loop(name, {}, data=data)
    assert distance(expected, by_plain_loop(name, {}, data=data)[0]) < 1e-6


def test_a_method_that_has_no_use_for_the_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"ogm needs class probabilities, .* but got a task of regression"):
        by_plain_loop("ogm", {}, data=tiny_data(2, task="regression"))


@pytest.mark.parametrize(("name", "settings"), OTHERS, ids=str)
def test_a_method_that_needs_more_says_what(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^{name} needs .*\(`.*`.*\), which .* use it in a study\.$"):
        by_plain_loop(name, settings)


@pytest.mark.parametrize(("name", "settings"), OTHERS, ids=str)
def test_what_is_refused_would_train_other_weights(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"data": tiny_data(2, alike=True)}
    expected, _ = by_own_loop(name, settings, **how)
    cls = modulations().get(name)
    monkeypatch.setattr(cls, "beyond_step", lambda _: "")
    if all(getattr(cls, hook) is getattr(Modulation, hook) for hook in REPLACED):
        with pytest.raises(UserError, match=rf"^{name} needs `ctx\.\w+`, which only a study can give"):
            by_plain_loop(name, settings, **how)
    else:
        assert distance(expected, by_plain_loop(name, settings, **how)[0]) > 1e-6


def test_several_methods_at_once_are_a_chain() -> None:
    parts = [Ogm(alpha=0.8), Opm(start=0.0)]
    weights, _ = by_plain_loop(Chain(parts), {})
    alone, _ = by_plain_loop("ogm", {"alpha": 0.8})
    assert distance(weights, alone) > 1e-6
    with pytest.raises(UserError, match=r"^the chain needs .*`ctx.encode`\), for mslr, which"):
        by_plain_loop(Chain([Ogm(), method_of("mslr", {})]), {})
