"""From stored samples to what an encoder takes: operations, then the scale; mistakes are one line before training."""

from __future__ import annotations

import pytest
import torch

from balance_tune.datasets.modality import IMAGENET, Modality, Statistics
from balance_tune.errors import UserError
from balance_tune.training.transform import Drawn, Transform

PHOTO = Modality(
    (3, 8, 8),
    "resnet18",
    stored=(3, 12, 10),
    dtype="uint8",
    unit=1 / 255,
    normalise=IMAGENET,
    augment=(("random_crop", {"size": 8}), ("flip", {"p": 0.5})),
    evaluate=(("centre_crop", {"size": 8}),),
)


def drawn(total: int, key: int = 0) -> Drawn:
    return Drawn((key, "t"), torch.arange(total), total)


@pytest.mark.parametrize("size", [(3, 12, 10), (3, 60, 50)])
def test_pixels_become_normalised_numbers(size: tuple[int, int, int]) -> None:
    spec = Modality(size, "resnet18", dtype="uint8", unit=1 / 255, normalise=IMAGENET)
    x = torch.randint(0, 256, (5, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    found = Transform(spec, None)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (x.float() / 255 - mean) / std, rtol=1e-4, atol=1e-5)


def test_training_crops_at_random_and_evaluation_in_the_middle() -> None:
    transform = Transform(PHOTO, None)
    x = torch.randint(0, 256, (6, 3, 12, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    whole = Transform(Modality((3, 12, 10), "resnet18", dtype="uint8", unit=1 / 255, normalise=IMAGENET), None)(x)
    torch.testing.assert_close(transform(x), whole[:, :, 2:10, 1:9])
    trained = transform(x, drawn(6))
    assert trained.shape == (6, 3, 8, 8)
    assert torch.equal(trained, transform(x, drawn(6)))
    assert not torch.equal(trained, transform(x, drawn(6, key=1)))


def test_values_are_standardised_by_the_training_rows_when_loaded() -> None:
    spec = Modality((1, 2, 3), "cnn", dtype="float16", normalise="train", standardise=(0, 1))
    x = torch.randn(4, 1, 2, 3).half()
    found = Transform(spec, Statistics([[1.0, -1.0]], [[2.0, 0.5]]), torch.float64)(x)
    mean, std = torch.tensor([1.0, -1.0]).view(1, 2, 1), torch.tensor([2.0, 0.5]).view(1, 2, 1)
    torch.testing.assert_close(found, (x.double() - mean) / std)
    with pytest.raises(UserError, match="needs the statistics of its store"):
        Transform(spec, None)


def test_ids_stay_what_they_are_and_standardised_data_is_not_touched() -> None:
    ids = torch.randint(0, 9, (3, 5), dtype=torch.int32)
    found = Transform(Modality((5,), "text", dtype="int32", normalise=None), None)(ids)
    assert found.dtype == torch.int32
    assert torch.equal(found, ids)
    baked = Transform(Modality((4,), "mlp"), None)
    x = torch.randn(3, 4)
    assert baked.identity
    assert baked(x) is x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": (("cutmix", {}),)}, "an operation must be one of"),
        ({"augment": ()}, r"the `augment` operations of a modality must lead from \(3, 12, 10\) to \(3, 8, 8\)"),
        ({"evaluate": (("centre_crop", {"size": 9}),)}, r"the `evaluate` operations .* but lead to \(3, 9, 9\)"),
        ({"evaluate": (("random_crop", {"size": 8}),)}, "an operation of `evaluate` must not be random"),
        ({"augment": (("random_crop", {"size": 40}),)}, r"must fit its stored shape \(3, 12, 10\)"),
        ({"augment": (("random_crop", {}),)}, r"must fit its stored shape .*KeyError"),
    ],
)
def test_operations_that_cannot_be_are_one_line(changes: dict[str, object], message: str) -> None:
    fields = {name: getattr(PHOTO, name) for name in PHOTO.__dataclass_fields__}
    with pytest.raises(UserError, match=message) as caught:
        Transform(Modality(**{**fields, **changes}), None)
    assert "\n" not in str(caught.value)
