"""The multimodal model: encoders in fusion order, who owns which parameter, and how it is made again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.models.multimodal import ModelSpec, MultimodalModel, silence

SPEC = ModelSpec(
    {
        "audio": ((1, 8, 6), "cnn", {"channels": [3], "features": 6}),
        "text": ((4,), "mlp", {"hidden": 7, "features": 5}),
    },
    classes=3,
)


class Doubling(Encoder):
    """A user's own encoder: it has no stages, and no name."""

    def __init__(self, shape: Sequence[int], by: float = 2.0) -> None:
        super().__init__()
        self.features, self.by = shape[0], by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


class Widthless(Encoder):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()


def inputs(rows: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "text": torch.randn(rows, 4, generator=generator),
        "audio": torch.randn(rows, 1, 8, 6, generator=generator),
    }


def model() -> MultimodalModel:
    return SPEC.build(seed=0)


def test_features_come_in_fusion_order_whatever_the_order_of_the_inputs() -> None:
    features = model().encode(inputs())
    assert [(m, h.shape) for m, h in features.items()] == [("audio", (5, 6)), ("text", (5, 5))]


def test_it_knows_its_modalities_widths_and_classes() -> None:
    assert (model().modalities, model().widths, model().classes) == (("audio", "text"), {"audio": 6, "text": 5}, 3)


def test_its_answer_is_the_fusion_of_its_features() -> None:
    made = model()
    assert torch.equal(made(inputs()), made.fusion(made.encode(inputs())))


def test_a_bridge_encodes_all_modalities_together() -> None:
    made = model()
    made.bridge = lambda encoders, x: {m: torch.zeros(len(x[m]), made.widths[m]) for m in encoders}
    assert not any(h.any() for h in made.encode(inputs()).values())


def test_a_fusion_that_masks_gets_no_features_of_a_missing_input_and_answers_without_it() -> None:
    x = inputs()
    x["text"][1] = 0.0
    plain, masked = (replace(SPEC, fusion=name).build(seed=0) for name in ("concat", "transformer"))
    assert plain.encode(x)["text"][1].any(), "an encoder makes something of zeros"
    features = masked.encode(x)
    assert not features["text"][1].any()
    others = [0, 2, 3, 4]
    assert torch.equal(features["text"][others], plain.encode(x)["text"][others])
    assert torch.equal(features["audio"], plain.encode(x)["audio"])
    before = masked(x)
    with torch.no_grad():
        for p in masked.encoders["text"].parameters():
            p += 1.0
    torch.testing.assert_close(masked(x)[1], before[1])
    assert not torch.allclose(masked(x)[0], before[0])


def test_silence_zeroes_whoever_is_not_present() -> None:
    quiet = silence(inputs(), ["text"])
    assert not quiet["audio"].any()
    assert torch.equal(quiet["text"], inputs()["text"])


@pytest.mark.parametrize(
    ("modality", "policy", "dims"),
    [
        ("audio", "conv4d", [4]),
        ("audio", "auto", [4]),
        ("audio", "ndim>=2", [4, 2]),
        ("audio", "encoder", [4, 1, 2, 1]),
        ("audio", "encoder+head", [4, 1, 2, 1]),
        ("text", "conv4d", []),
        ("text", "auto", [2, 2]),
        ("text", "encoder", [2, 1, 2, 1]),
    ],
)
def test_a_policy_says_which_parameters_are_touched(modality: str, policy: str, dims: list[int]) -> None:
    assert [p.dim() for p in model().parameters_of(modality, policy)] == dims  # type: ignore[arg-type]


def test_gradients_are_views_to_be_changed_in_place() -> None:
    made = model()
    made(inputs()).square().sum().backward()
    text = [p.grad.clone() for p in made.encoders["text"].parameters()]
    head = made.fusion.head.weight.grad.clone()
    found = made.gradients("audio", "encoder+head")
    assert len(found) == 5
    for gradient in found:
        gradient.zero_()
    assert not any(p.grad.any() for p in made.encoders["audio"].parameters())
    assert all(torch.equal(p.grad, g) for p, g in zip(made.encoders["text"].parameters(), text, strict=True))
    assert not made.fusion.head.weight.grad[:, :6].any()
    assert torch.equal(made.fusion.head.weight.grad[:, 6:], head[:, 6:])


def test_parameters_without_a_gradient_are_left_out() -> None:
    assert model().gradients("audio", "encoder+head") == []


def test_the_seed_alone_decides_the_initial_weights() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = SPEC.build(seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = SPEC.build(seed=3), SPEC.build(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_the_fusion_is_drawn_after_the_encoders() -> None:
    other = ModelSpec(SPEC.encoders, SPEC.classes, "mlp")
    pairs = zip(model().encoders.parameters(), other.build(seed=0).encoders.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_encoder_may_be_an_import_path() -> None:
    path = f"{__name__}:Doubling"
    made = ModelSpec({"text": ((4,), path, {"by": 3.0})}, 3).build(seed=0)
    assert isinstance(made.fusion.head, nn.Linear)
    assert torch.equal(made.encode(inputs())["text"], 3 * inputs()["text"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mlpp", {}, "an? encoder|encoder must be one that exists, but got `mlpp`; did you mean `mlp`"),
        ("mlp", {"widht": 3}, "encoder mlp of text must accept its settings {'widht': 3}"),
        (f"{__name__}:Missing", {}, "an encoder `.*:Missing` must be importable"),
        (f"{__name__}:Widthless", {}, "an encoder must say its feature width as `features: int`"),
    ],
)
def test_a_mistake_in_an_encoder_is_told_in_one_line(name: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ModelSpec({"text": ((4,), name, settings)}, 3).build(seed=0)
    assert "\n" not in str(caught.value)


def test_an_unknown_fusion_lists_the_nearest_first() -> None:
    with pytest.raises(UserError, match="fusion must be one that exists, but got `concatenate`; did you mean `concat`"):
        ModelSpec(SPEC.encoders, 3, "concatenate").build(seed=0)
