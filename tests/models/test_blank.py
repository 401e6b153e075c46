"""A blank model has the parts of a real one, and nothing of it is drawn at random."""

from __future__ import annotations

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.models.blank import Blank
from balance_tune.models.multimodal import ModelSpec

SPEC = ModelSpec(
    {
        "image": ((3, 32, 32), "resnet18", {}),
        "audio": ((1, 8, 8), "cnn", {}),
        "words": ((5,), "text", {"vocabulary": 9, "width": 8, "heads": 2, "layers": 1}),
    },
    classes=3,
)


def test_a_blank_model_has_every_weight_of_a_real_one_and_none_is_random() -> None:
    with Blank():
        blank = SPEC.build(0)
    real = SPEC.build(0)
    sizes = {name: w.shape for name, w in real.state_dict().items()}
    assert {name: w.shape for name, w in blank.state_dict().items()} == sizes
    assert {type(m) for m in blank.modules()} == {type(m) for m in real.modules()}
    for name, weight in real.named_parameters():
        drawn = weight.numel() > 1 and weight.std() > 0
        assert not drawn or not blank.get_parameter(name).any(), name


def test_drawing_goes_on_as_before_once_it_is_over() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    with Blank():
        assert not torch.empty(4).normal_().any()
    assert torch.equal(torch.empty(4).normal_(), expected)


def test_what_cannot_be_made_is_refused_all_the_same() -> None:
    with Blank(), pytest.raises(UserError, match="must accept its settings"):
        ModelSpec({"image": ((3, 32, 32), "resnet18", {"depth": 3})}, classes=2).build(0)
    with Blank(), pytest.raises(UserError, match="modality image"):
        ModelSpec({"image": ((3,), "resnet18", {})}, classes=2).build(0)
