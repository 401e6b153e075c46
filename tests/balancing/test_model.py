"""A module of the user's own: the same numbers as a MultimodalModel of the same parts, and clear refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from balance_tune import balance
from balance_tune.balancing.model import OwnFusion
from balance_tune.errors import UserError
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.registry import fusions, modulations
from balance_tune.testing.tiny import tiny_data
from tests.balancing.own_loop import EPOCHS, distance, sgd, tiny_model, train_plainly


class Net(nn.Module):
    """A module with names of its own, around the parts of a MultimodalModel."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.ears, self.eyes = model.encoders["audio"], model.encoders["image"]
        self.answer = model.fusion.head
        self.widths, self.classes = model.widths, model.classes

    @property
    def encoders(self) -> Mapping[str, nn.Module]:
        return {"audio": self.ears, "image": self.eyes}

    def fuse(self, features: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.answer(torch.cat([features["audio"], features["image"]], dim=1))
        return logits


class Split(Net):
    """The same with exact answers of each modality, as `Concat` has them."""

    def unimodal_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        width, half = self.widths["audio"], self.answer.bias / 2
        weights = {"audio": self.answer.weight[:, :width], "image": self.answer.weight[:, width:]}
        return {m: h @ weights[m].t() + half for m, h in features.items()}


def trained(net: type[Net] | None, method: str, **settings: Any) -> dict[str, Tensor]:
    model, source = tiny_model(data=tiny_data(2, alike=True))
    module = model if net is None else net(model)
    optimizer = sgd(list(module.parameters()))
    balancer = balance(module, optimizer, method, epochs=EPOCHS, **settings)
    train_plainly(balancer, module, optimizer, source, range(EPOCHS))
    return dict(model.state_dict())  # the parts are shared


WITHOUT_SHARES = ("cggm", "mlb", "mcr", "mmpareto")  # these read `Fusion.slices` or `parts`, which `fuse` does not give
WHOLE = [
    name
    for name, cls in modulations().classes().items()
    if cls.__module__.startswith("balance_tune.") and cls.windowed and not cls().beyond_step()
]


@pytest.mark.parametrize("method", [name for name in WHOLE if name not in WITHOUT_SHARES])
def test_an_own_module_trains_as_a_multimodal_model_of_its_parts(method: str) -> None:
    assert distance(trained(None, method), trained(Split, method)) < 1e-6


@pytest.mark.parametrize("method", [name for name in WITHOUT_SHARES if name != "cggm"])
def test_methods_that_can_use_a_linear_head_work_without_knowing_one(method: str) -> None:
    assert distance(trained(Net, "joint"), trained(Net, method)) > 1e-6


def test_without_unimodal_logits_the_other_modalities_are_silenced() -> None:
    assert distance(trained(Net, "ogm"), trained(Split, "ogm")) > 1e-9
    assert distance(trained(Net, "joint"), trained(Split, "joint")) == 0


@pytest.mark.parametrize("method", [n for n, cls in modulations().classes().items() if not cls.windowed and n != "mla"])
def test_a_method_that_changes_the_model_needs_a_multimodal_model(method: str) -> None:
    model, _ = tiny_model()
    net = Net(model)
    settings = {"modality": "audio"} if method == "unimodal" else {}
    with pytest.raises(UserError, match=f"{method} changes the model; give `balance` a MultimodalModel"):
        balance(net, sgd(list(net.parameters())), method, **settings)


def test_a_module_without_the_members_is_told_which() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(UserError, match="Linear has no encoders, widths, classes, fuse; add them"):
        balance(net, sgd(list(net.parameters())), "joint")
    model, _ = tiny_model()
    odd = Net(model)
    odd.widths = {"audio": 6}
    with pytest.raises(UserError, match="feature width of every encoder, but `image` has None"):
        balance(odd, sgd(list(odd.parameters())), "joint")


def test_a_view_of_a_module_is_no_fusion_of_studies_and_cggm_names_it() -> None:
    assert OwnFusion not in fusions().classes().values()
    model, _ = tiny_model()
    net = Net(model)
    with pytest.raises(UserError, match=r"or late .*, but got one of your own"):
        balance(net, sgd(list(net.parameters())), "cggm")


def test_training_and_evaluation_mode_reach_parts_outside_the_encoders() -> None:
    model, source = tiny_model(data=tiny_data(2, alike=True))
    modes: list[bool] = []

    class Watched(Net):
        def fuse(self, features: dict[str, Tensor]) -> Tensor:
            modes.append(self.training)
            return super().fuse(features)

    net = Watched(model)
    optimizer = sgd(list(net.parameters()))
    train_plainly(balance(net, optimizer, "agm"), net, optimizer, source, range(1))
    assert False in modes  # a silenced input is encoded and fused in evaluation mode
    assert net.training
