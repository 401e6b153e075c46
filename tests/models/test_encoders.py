"""Every encoder maps one modality's batch to one feature vector per sample, stage by stage."""

from functools import cache
from typing import Any

import pytest
import torch

from balance_tune.errors import UserError
from balance_tune.models.encoder_resnet import ResNet18
from balance_tune.models.encoders import Cnn, Cnn1d, Encoder, Mlp
from balance_tune.models.multimodal import ModelSpec
from balance_tune.registry import encoders

SMALL: list[tuple[str, tuple[int, ...], dict[str, Any], int]] = [
    ("mlp", (5,), {"hidden": 7, "features": 6}, 6),
    ("mlp", (2, 3), {"hidden": 7, "features": 6, "layers": 3}, 6),
    ("mlp", (5,), {"features": 4, "layers": 1}, 4),
    ("cnn", (1, 8, 6), {"channels": [3, 4], "features": 6}, 6),
    ("cnn", (2, 7, 5), {"channels": [3], "features": 6}, 6),
    ("cnn1d", (2, 11), {"channels": [3, 4], "features": 5, "kernel": 3}, 5),
    ("resnet18", (1, 32, 32), {}, 512),
    ("resnet18", (3, 2, 32, 32), {}, 512),
    ("transformer", (5, 3), {"width": 8, "heads": 2, "layers": 2}, 8),
    ("vit", (1, 8, 12), {"patch": 4, "width": 8, "heads": 2, "layers": 2}, 8),
    ("vit", (3, 2, 8, 8), {"patch": 4, "width": 8, "heads": 2, "layers": 1}, 8),
    ("conformer", (1, 6, 9), {"width": 8, "heads": 2, "layers": 2, "kernel": 3}, 8),
    ("conformer", (9, 6), {"width": 8, "heads": 2, "layers": 1, "kernel": 3, "pool": 2}, 8),
]
WITHOUT_STAGES = {"text", "huggingface"}  # tested in files of their own
EVERY = pytest.mark.parametrize(("name", "shape", "settings", "width"), SMALL)


@cache
def _made(name: str, shape: tuple[int, ...], settings: tuple[tuple[str, Any], ...]) -> Encoder:
    torch.manual_seed(0)
    encoder: Encoder = encoders().get(name)(shape, **dict(settings))
    return encoder.eval()


def made(name: str, shape: tuple[int, ...], settings: dict[str, Any]) -> Encoder:
    """Return an encoder in evaluation mode; the same one for all tests, for a ResNet takes a second to make."""
    return _made(name, shape, tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.items()))


def test_no_encoder_goes_untested() -> None:
    ours = [name for name, cls in encoders().classes().items() if cls.__module__.startswith("balance_tune.")]
    assert ours == sorted({name for name, *_ in SMALL} | WITHOUT_STAGES)


@EVERY
def test_a_batch_becomes_one_vector_per_sample(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], width: int
) -> None:
    encoder = made(name, shape, settings)
    assert encoder.features == width
    assert encoder(torch.randn(3, *shape)).shape == (3, width)


@EVERY
def test_a_sample_is_encoded_whoever_is_beside_it(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], width: int
) -> None:
    encoder, x = made(name, shape, settings), torch.randn(3, *shape)
    torch.testing.assert_close(encoder(x[1:2]), encoder(x)[1:2], rtol=1e-4, atol=1e-5)


@EVERY
def test_it_is_its_stages_between_prepare_and_finish(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], width: int
) -> None:
    encoder, x = made(name, shape, settings), torch.randn(3, *shape)
    assert len(encoder.stages) > 0
    y = encoder.prepare(x)
    for stage in encoder.stages:
        y = stage(y)
    assert torch.equal(encoder.finish(y), encoder(x))


def test_frames_are_averaged_after_the_last_stage() -> None:
    encoder = made("resnet18", (3, 2, 32, 32), {})
    assert isinstance(encoder, ResNet18)
    single = ResNet18((3, 32, 32)).eval()
    single.load_state_dict(encoder.state_dict())
    frames = torch.randn(1, 3, 2, 32, 32)
    alone = [single(frames[:, :, t]) for t in range(2)]
    torch.testing.assert_close(encoder(frames), (alone[0] + alone[1]) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "shape", "message"),
    [
        (Cnn, (8, 6), r"encoder cnn needs inputs of shape \(channels, height, width\).*, but got \(8, 6\)"),
        (Cnn1d, (8,), r"encoder cnn1d needs inputs of shape \(channels, time\), but got \(8,\)"),
        (ResNet18, (8,), r"encoder resnet18 needs inputs of shape .*, but got \(8,\)"),
    ],
)
def test_inputs_of_another_shape_are_refused(cls: type[Encoder], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls(shape)  # type: ignore[call-arg]


def test_an_mlp_has_at_least_one_layer() -> None:
    with pytest.raises(UserError, match=r"`layers >= 1` \(a whole number\) must hold for encoder mlp, but got 0"):
        Mlp((4,), layers=0)


@pytest.mark.parametrize(
    ("name", "shape", "settings", "message"),
    [
        ("mlp", (4,), {"features": 0}, r"`features >= 1` \(a whole number\) must hold for encoder mlp, but got 0"),
        ("mlp", (4,), {"hidden": 2.5}, r"`hidden >= 1` .* but got 2.5"),
        ("cnn", (1, 8, 8), {"channels": []}, r"`channels >= 1` .* but got \[\]"),
        ("cnn", (1, 8, 8), {"channels": [4, 0]}, r"`channels >= 1` .* but got \[4, 0\]"),
        ("cnn1d", (1, 8), {"kernel": True}, r"`kernel >= 1` .* but got True"),
        ("transformer", (5, 3), {"width": 10, "heads": 4}, r"`width % heads == 0` must hold for encoder transformer"),
        ("transformer", (5, 3), {"dropout": 1.0}, r"`0 <= dropout < 1` must hold for encoder transformer, but got 1.0"),
        ("vit", (3, 30, 32), {}, r"height and width must be multiples of the patch for encoder vit"),
        ("conformer", (1, 6, 9), {"kernel": 4}, r"`kernel` must be odd for encoder conformer, but got 4"),
        ("text", (4,), {"vocabulary": 1}, r"`vocabulary >= 2` must hold for encoder text"),
        ("text", (4, 2), {}, r"encoder text needs inputs of shape \(tokens\), but got \(4, 2\)"),
        ("conformer", (3,), {}, r"shape \(channels, frequencies, time\) or \(time, features\), but got \(3,\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_anything_is_made(
    name: str, shape: tuple[int, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        encoders().get(name)(shape, **settings)


@EVERY
def test_every_parameter_is_trained(name: str, shape: tuple[int, ...], settings: dict[str, Any], width: int) -> None:
    encoder = encoders().get(name)(shape, **settings)
    out = encoder(torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)))
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_auto_modulates_a_vision_transformer_beyond_its_patches() -> None:
    spec = ModelSpec({"image": ((1, 8, 8), "vit", {"patch": 4, "width": 8, "heads": 2, "layers": 1})}, 3)
    model = spec.build(seed=0)
    touched = model.parameters_of("image", "auto")
    assert {p.dim() for p in touched} == {2, 4}
    assert touched == model.parameters_of("image", "ndim>=2") == model.parameters_of("image", "auto")


def test_an_unknown_name_lists_the_nearest_first() -> None:
    with pytest.raises(UserError, match="did you mean `resnet18`"):
        encoders().get("resnet")


def test_a_cnn_averages_the_features_of_frames() -> None:
    torch.manual_seed(0)
    still, moving = Cnn((3, 16, 16)), Cnn((3, 2, 16, 16))
    moving.load_state_dict(still.state_dict())
    x = torch.randn(4, 3, 2, 16, 16)
    expected = (still(x[:, :, 0]) + still(x[:, :, 1])) / 2
    torch.testing.assert_close(moving(x), expected)
