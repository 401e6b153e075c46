"""Operations on batches: what they may and may not change, against plain definitions, sample by sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.training import augment
from balance_tune.training.transform import Drawn

IMAGES = (torch.arange(4 * 3 * 10 * 12) % 251).view(4, 3, 10, 12).to(torch.uint8)
CLIPS = (torch.arange(4 * 3 * 5 * 10 * 12) % 251).view(4, 3, 5, 10, 12).to(torch.uint8)


class Given:
    """Draws that a test chooses: each call takes the next columns."""

    def __init__(self, *columns: list[float]) -> None:
        self.left = [torch.tensor(c) for c in columns]

    def __call__(self, count: int) -> Tensor:
        taken, self.left = self.left[:count], self.left[count:]
        return torch.stack(taken, dim=1)


def draws(total: int = 4) -> Drawn:
    return Drawn((0, "test"), torch.arange(total), total)


def test_a_random_crop_is_the_window_that_its_draws_name_in_all_frames() -> None:
    found = augment.random_crop(CLIPS, {"size": 6}, Given([0.0, 0.5, 0.999, 0.2], [0.0, 0.999, 0.5, 0.4]))
    for i, (top, left) in enumerate([(0, 0), (2, 6), (4, 3), (1, 2)]):
        assert torch.equal(found[i], CLIPS[i, :, :, top : top + 6, left : left + 6])


@pytest.mark.parametrize(("dim", "length"), [(-1, 5), (-2, 4)])
def test_windows_by_index_are_the_windows_sample_by_sample(dim: int, length: int) -> None:
    starts = torch.tensor([0, 3, 5, 1])
    expected = augment.windows(CLIPS, starts, length, dim)
    assert expected.shape[dim] == length
    assert torch.equal(augment.by_index(CLIPS, starts, length, dim), expected)


def test_boxes_by_matrices_are_the_boxes_resized_one_by_one() -> None:
    boxes = torch.tensor([[0, 0, 10, 12], [2, 3, 5, 4], [1, 1, 9, 3], [0, 6, 1, 6]]).double()
    x = IMAGES.double()
    for size in (4, 9, 16):
        by_matrices = augment.by_matrices(x, boxes, size)
        torch.testing.assert_close(augment.resample(x, boxes, size), by_matrices, rtol=1e-6, atol=1e-6)
        for i, (top, left, h, w) in enumerate(boxes.long().tolist()):
            box = x[i : i + 1, :, top : top + h, left : left + w]
            expected = F.interpolate(box, (size, size), mode="bilinear", antialias=True)[0]
            torch.testing.assert_close(by_matrices[i], expected, rtol=1e-5, atol=1e-4)


def test_pixels_of_images_and_clips_are_resized_as_numbers_are_but_for_rounding() -> None:
    boxes = torch.tensor([[0, 0, 10, 12], [2, 3, 5, 4], [1, 1, 9, 3], [0, 6, 1, 6]]).double()
    for x in (IMAGES, CLIPS):
        pixels, numbers = augment.resample(x, boxes, 7), augment.resample(x.float(), boxes, 7)
        assert pixels.dtype == torch.uint8
        assert (pixels.float() - numbers).abs().max() <= 1.01
        flat = augment.by_matrices(x.float().flatten(1, -3), boxes, 7).view(numbers.shape)
        torch.testing.assert_close(numbers, flat, rtol=1e-4, atol=1e-3)


def test_a_random_resized_crop_keeps_within_its_bounds_and_differs_from_sample_to_sample() -> None:
    x = torch.arange(10.0).view(1, 1, 10, 1).expand(64, 1, 10, 12)
    found = augment.random_resized_crop(x, {"size": 8, "scale": [0.2, 0.5]}, draws(64))
    assert found.shape == (64, 1, 8, 8)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 9
    spans = (found.amax((1, 2, 3)) - found.amin((1, 2, 3))).unique()
    assert len(spans) > 2


def test_a_flip_turns_about_half_of_the_samples_and_all_their_frames() -> None:
    x = CLIPS[:1].expand(200, -1, -1, -1, -1)
    found = augment.flip(x, {"p": 0.5}, draws(200))
    turned = [bool(torch.equal(y, CLIPS[0].flip(-1))) for y in found]
    assert all(t or torch.equal(y, CLIPS[0]) for t, y in zip(turned, found, strict=True))
    assert 70 < sum(turned) < 130


def test_each_channel_is_flipped_by_its_own_coin() -> None:
    found = augment.flip_channels(IMAGES[:1], {}, Given([0.1], [0.9], [0.2]))
    assert torch.equal(found[0], torch.stack([IMAGES[0, 0].flip(-1), IMAGES[0, 1], IMAGES[0, 2].flip(-1)]))


def test_colours_are_as_the_factors_say_and_stay_in_range() -> None:
    settings = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "most": 255}
    middle = Given([0.5] * 4, [0.5] * 4, [0.5] * 4)
    torch.testing.assert_close(augment.colour(IMAGES, settings, middle), IMAGES.float())
    brighter = augment.colour(IMAGES, settings, Given([1.0] * 4, [0.5] * 4, [0.5] * 4))
    torch.testing.assert_close(brighter, (IMAGES.float() * 1.5).clamp(0, 255), rtol=1e-4, atol=1e-3)
    grey = augment.colour(IMAGES, {"saturation": 1.0, "most": 255}, Given([0.5] * 4, [0.5] * 4, [0.0] * 4))
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    r, g, b = IMAGES.float().unbind(1)
    torch.testing.assert_close(grey[:, 0], 0.299 * r + 0.587 * g + 0.114 * b, rtol=1e-4, atol=1e-2)


def test_no_rotation_is_no_change_and_a_right_angle_turns_a_square() -> None:
    square = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(augment.rotate(square, {"degrees": 30}, Given([0.5, 0.5])), square, rtol=1e-4, atol=1e-5)
    turned = augment.rotate(square, {"degrees": 90}, Given([1.0, 0.0]))
    torch.testing.assert_close(turned[0], square[0].rot90(1, (1, 2)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(turned[1], square[1].rot90(-1, (1, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("how", "expected"), [("first", [0, 1, 2]), ("even", [0, 2, 4]), ("segments", [1, 2, 4]), ("random", [1, 2, 4])]
)
def test_frames_are_chosen_in_order_of_time(how: str, expected: list[int]) -> None:
    columns = {"segments": [[0.7], [0.3], [0.9]], "random": [[0.9], [0.1], [0.3], [0.8], [0.2]]}.get(how, [])
    found = augment.frames(CLIPS[:1], {"count": 3, "how": how}, Given(*columns))
    assert torch.equal(found, CLIPS[:1, :, expected])


def test_windows_of_time_are_random_in_training_and_the_middle_else() -> None:
    x = torch.arange(20.0).view(1, 1, 2, 10).expand(3, -1, -1, -1)
    assert torch.equal(
        augment.crop_time(x, {"length": 4}, Given([0.0, 0.5, 0.99]))[:, 0, 0, 0], torch.tensor([0.0, 3.0, 6.0])
    )
    assert torch.equal(augment.centre_time(x, {"length": 4}, draws()), x[..., 3:7])
    assert torch.equal(augment.centre_crop(IMAGES, {"size": 6}, draws()), IMAGES[..., 2:8, 3:9])


@pytest.mark.parametrize(("name", "dim"), [("mask_frequency", 2), ("mask_time", 3)])
def test_masks_hide_at_most_so_many_rows_behind_the_mean(name: str, dim: int) -> None:
    x = torch.randn(50, 1, 12, 30)
    found = augment.operation(name)(x, {"width": 5, "count": 2}, draws(50))
    hidden = (found != x).any(1).all(2 if dim == 2 else 1)  # (50, side)
    assert (hidden.sum(1) <= 10).all()
    assert hidden.sum(1).float().mean() > 2
    means = x.mean((1, 2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(found[found != x], means[found != x])


def test_resizing_keeps_a_flat_image_flat() -> None:
    flat = torch.full((2, 3, 2, 10, 12), 7, dtype=torch.uint8)
    found = augment.resize(flat, {"size": 5}, draws())
    assert found.shape == (2, 3, 2, 5, 5)
    torch.testing.assert_close(found.float(), torch.full_like(found, 7).float())


def test_an_unknown_operation_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"an operation must be one of random_crop, .*, but got `cutmix`"):
        augment.operation("cutmix")


def test_a_sample_is_augmented_alike_whoever_trains_it() -> None:
    settings: dict[str, Any] = {"size": 6}
    whole = augment.random_crop(IMAGES, settings, Drawn((1, "a"), torch.arange(4), 4))
    for rank in range(2):
        mine = torch.arange(4)[rank::2]
        assert torch.equal(augment.random_crop(IMAGES[mine], settings, Drawn((1, "a"), mine, 4)), whole[mine])
    assert not torch.equal(augment.random_crop(IMAGES, settings, Drawn((2, "a"), torch.arange(4), 4)), whole)
