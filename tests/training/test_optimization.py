"""The optimiser's step: what it does to parameters is the same whatever their layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from balance_tune.models.encoders import Cnn
from balance_tune.models.fusion import Concat
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.replicas import Replicas
from balance_tune.settings import TrainingSettings
from balance_tune.training.optimization import Optimization
from balance_tune.training.sgd import Sgd


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_gradients_of_another_layout_than_the_weights_train_them_alike(optimizer: str) -> None:
    settings = TrainingSettings(optimizer=optimizer, lr=0.1)
    updated = []
    for layout in (torch.channels_last, torch.contiguous_format):
        torch.manual_seed(0)
        model = MultimodalModel({"image": Cnn((3, 8, 8), channels=[4], features=5)}, Concat({"image": 5}, 2))
        model.to(memory_format=layout)  # type: ignore[call-overload]
        optimization = Optimization(model, nn.ModuleDict(), [], settings, Replicas())
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        optimization.step()
        updated.append([p.detach().clone() for p in model.parameters()])
    for one, other in zip(*updated, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_updates_as_torchs_own_does_and_goes_on_from_its_state(momentum: float) -> None:
    settings = {"momentum": momentum, "weight_decay": 0.01, "fused": True}
    draws = torch.Generator().manual_seed(0)
    start = [torch.randn(3, 4, generator=draws), torch.randn(5, generator=draws)]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    made = Sgd([{"params": ours}], lr=0.1, **settings)  # type: ignore[arg-type]
    reference = torch.optim.SGD(theirs, lr=0.1, **settings)  # type: ignore[arg-type]
    for step in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=draws)
            q.grad = p.grad.clone()
        if step == 2:
            ours[1].grad, theirs[1].grad = None, None  # stays where it is
        made.update()
        reference.step()
        if step == 1:
            state = made.state_dict()
            made = Sgd([{"params": ours}], lr=0.1, **settings)  # type: ignore[arg-type]
            made.load_state_dict(state)
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(("optimizer", "official"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_adam_updates_as_torchs_own_step_does(optimizer: str, official: type[torch.optim.Adam]) -> None:
    settings = TrainingSettings(optimizer=optimizer, lr=0.1, weight_decay=0.01)
    torch.manual_seed(0)
    model = MultimodalModel({"image": Cnn((3, 8, 8), channels=[4], features=5)}, Concat({"image": 5}, 2))
    theirs = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    optimization = Optimization(model, nn.ModuleDict(), [], settings, Replicas())
    reference = official(theirs, lr=0.1, weight_decay=0.01, fused=True)
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        for p, q in zip(model.parameters(), theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=draws)
            q.grad = p.grad.clone()
        optimization.step()
        reference.step()
    for p, q in zip(model.parameters(), theirs, strict=True):
        assert p.grad is None
        assert torch.equal(p, q)
