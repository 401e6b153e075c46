"""Operations on a batch of stored samples, on whatever device it lies: crops, flips, frames, colours, masks.

Each takes x (B, *sample), its settings and `Draws`, and returns a new batch; images are (B, C, [T,] H, W), spectrograms
(B, 1, F, T), frames lie on axis 2 of (B, C, T, H, W). What is random differs from sample to sample, and is one for all
frames of a sample. On the CPU big operations go sample by sample, which stays in the cache and is several times faster
than one pass over the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from balance_tune.errors import UserError
from balance_tune.training.buffers import Buffers


class Draws(Protocol):
    """Where random numbers come from."""

    def __call__(self, count: int) -> Tensor:
        """Return uniform numbers in [0, 1), (B, count), the same for a sample whatever is beside it."""
        ...


Settings = Mapping[str, Any]
Apply = Callable[[Tensor, Settings, Draws], Tensor]
_buffers = Buffers()  # of what one operation hands to the next


def random_crop(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """A window of size x size somewhere."""
    size, (height, width) = int(settings["size"]), x.shape[-2:]
    u = draws(2)
    return windows(windows(x, _starts(u[:, 0], height - size), size, -2), _starts(u[:, 1], width - size), size, -1)


def centre_crop(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """The window of size x size in the middle."""
    size, (height, width) = int(settings["size"]), x.shape[-2:]
    return x.narrow(-2, (height - size) // 2, size).narrow(-1, (width - size) // 2, size)


def random_resized_crop(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """A box of random area and shape, resized to size x size (bilinear, antialiased).

    `scale` bounds the area as a share of the image, `ratio` width / height (log-uniform). A box that would stick out is
    cut to the image; torchvision draws again instead.
    """
    (low, high), (thin, wide) = settings.get("scale", (0.08, 1.0)), settings.get("ratio", (3 / 4, 4 / 3))
    height, width = x.shape[-2:]
    u = draws(4).double()
    area = (low + u[:, 0] * (high - low)) * height * width
    ratio = torch.exp(math.log(thin) + u[:, 1] * (math.log(wide) - math.log(thin)))
    h = (area / ratio).sqrt().round().clamp(1, height)
    w = (area * ratio).sqrt().round().clamp(1, width)
    top, left = (u[:, 2] * (height - h + 1)).floor(), (u[:, 3] * (width - w + 1)).floor()
    return resample(x, torch.stack([top, left, h, w], dim=1), int(settings["size"]))


def resize(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """The whole image at size x size (bilinear, antialiased), its shape not kept."""
    size = int(settings["size"])
    if x.device.type == "cpu":  # sample by sample, each in the cache
        return resample(x, torch.tensor([[0, 0, *x.shape[-2:]]]).expand(len(x), -1), size)
    flat = x.float().flatten(1, -3)
    return F.interpolate(flat, (size, size), mode="bilinear", antialias=True).view(*x.shape[:-2], size, size)


def flip(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """Left to right, with probability p."""
    chosen = draws(1)[:, 0] < settings.get("p", 0.5)
    if x.device.type != "cpu":
        return torch.where(_like(chosen, x), x.flip(-1), x)
    out = _buffers.empty(tuple(x.shape), x.dtype)
    for target, sample, turned in zip(out, x, chosen.tolist(), strict=True):
        target.copy_(sample.flip(-1) if turned else sample)
    return out


def flip_channels(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """Left to right, each channel by a coin of its own."""
    chosen = draws(x.shape[1]) < settings.get("p", 0.5)
    return torch.where(chosen.view(*x.shape[:2], *[1] * (x.dim() - 2)), x.flip(-1), x)


def rotate(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """By an angle of up to `degrees` either way (bilinear, about the middle, zero outside)."""
    angle = (2 * draws(1)[:, 0] - 1) * math.radians(float(settings["degrees"]))
    height, width = x.shape[-2:]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [cos, -sin * (height / width), zero, sin * (width / height), cos, zero]
    flat = x.float().flatten(1, -3)
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3).float(), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).view(x.shape)


def colour(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """Brightness, contrast and saturation of RGB images times 1 - s .. 1 + s each; kept within 0 and `most`."""
    top = float(settings.get("most", 1.0))
    most = torch.tensor([float(settings.get(name, 0.0)) for name in ("brightness", "contrast", "saturation")])
    factors = 1 + (2 * draws(3) - 1) * most.to(x.device, non_blocking=True)
    brightness, contrast, saturation = (_like(f, x) for f in factors.float().unbind(1))
    y = (x.float() * brightness).clamp(0, top)
    y = _blend(y, _grey(y).mean(tuple(range(1, x.dim())), keepdim=True), contrast, top)
    return _blend(y, _grey(y), saturation, top)


def frames(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """`count` frames of (B, C, T, H, W), in order of time.

    how: `first` ones; `even`, the middles of as many equal segments; `segments`, a random one in each; `random` ones.
    """
    count, how, time = int(settings["count"]), settings.get("how", "even"), x.shape[2]
    places = torch.arange(count, device=x.device)
    if how == "first":
        chosen = places.expand(len(x), -1)
    elif how == "even":
        chosen = ((places + 0.5) * time / count).long().expand(len(x), -1)
    elif how == "segments":
        chosen = ((places + draws(count)) * time / count).long().clamp_max(time - 1)
    else:
        chosen = draws(time).argsort(1)[:, :count].sort(1).values
    if x.device.type == "cpu":
        out = _buffers.empty((*x.shape[:2], count, *x.shape[3:]), x.dtype)
        for target, sample, places in zip(out, x, chosen, strict=True):
            torch.index_select(sample, 1, places, out=target)
        return out
    return x[torch.arange(len(x), device=x.device)[:, None], :, chosen].transpose(1, 2)


def crop_time(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """A window of `length` somewhere on the last axis."""
    length = int(settings["length"])
    return windows(x, _starts(draws(1)[:, 0], x.shape[-1] - length), length, -1)


def centre_time(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """The window of `length` in the middle of the last axis."""
    length = int(settings["length"])
    return x.narrow(-1, (x.shape[-1] - length) // 2, length)


def mask_frequency(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """`count` bands of up to `width` rows of a spectrogram (B, C, F, T) become the sample's mean (as SpecAugment)."""
    return _masked(x, settings, draws, -2)


def mask_time(x: Tensor, settings: Settings, draws: Draws) -> Tensor:
    """`count` spans of up to `width` on the last axis become the sample's mean (as SpecAugment)."""
    return _masked(x, settings, draws, -1)


OPERATIONS: dict[str, Apply] = {
    f.__name__: f
    for f in (
        random_crop,
        centre_crop,
        random_resized_crop,
        resize,
        flip,
        flip_channels,
        rotate,
        colour,
        frames,
        crop_time,
        centre_time,
        mask_frequency,
        mask_time,
    )
}


BY_SAMPLE = frozenset({random_crop, random_resized_crop, resize, flip, frames, crop_time})
"""Those that on the CPU only go through the samples they are given, which then need not lie side by side."""


def operation(name: str) -> Apply:
    """Return the operation called `name`.

    Raises:
        UserError: there is none; it lists those there are.
    """
    if name not in OPERATIONS:
        raise UserError(f"an operation must be one of {', '.join(OPERATIONS)}, but got `{name}`.")
    return OPERATIONS[name]


def windows(x: Tensor, starts: Tensor, length: int, dim: int) -> Tensor:
    """Return x with `length` positions of axis `dim` (negative), from starts (B,) on."""
    if length == x.shape[dim]:
        return x
    if x.device.type == "cpu":
        shape = list(x.shape)
        shape[dim] = length
        out = _buffers.empty(tuple(shape), x.dtype)
        for target, sample, start in zip(out, x, starts.tolist(), strict=True):
            target.copy_(sample.narrow(dim, start, length))
        return out
    return by_index(x, starts, length, dim)


def by_index(x: Tensor, starts: Tensor, length: int, dim: int) -> Tensor:
    """Return the same windows by one index for the whole batch."""
    index = starts[:, None] + torch.arange(length, device=x.device)
    index = index.view(len(x), *[1] * (x.dim() + dim - 1), length, *[1] * (-dim - 1))
    shape = list(x.shape)
    shape[dim] = length
    return x.gather(dim, index.expand(shape))


def resample(x: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return boxes (B, 4) of top, left, height, width in whole pixels of x (B, C, [T,] H, W), each at size x size.

    Bilinear and antialiased. On the CPU sample by sample, pixels rounded to pixels; elsewhere as two matrix products
    per image, the same numbers but for the rounding.
    """
    if x.device.type != "cpu":
        return by_matrices(x.flatten(1, -3).float(), boxes, size).view(*x.shape[:-2], size, size)
    pixels = x.dtype == torch.uint8 and x.shape[1] in (3, 4)  # torch is fast on these, and on floats
    dtype_kept = pixels or x.dtype.is_floating_point
    out = _buffers.empty((*x.shape[:-2], size, size), x.dtype if dtype_kept else torch.float32)
    for target, sample, (top, left, h, w) in zip(out, x, boxes.long().tolist(), strict=True):
        box = sample[..., top : top + h, left : left + w]
        box = box.unsqueeze(0) if box.dim() == 3 else box.transpose(0, 1)
        box = box.contiguous(memory_format=torch.channels_last) if pixels else box.to(out.dtype)
        resized = F.interpolate(box, (size, size), mode="bilinear", antialias=True)
        target.copy_(resized[0] if target.dim() == 3 else resized.transpose(0, 1))
    return out


def by_matrices(x: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return boxes (B, 4) of x (B, K, H, W) at size x size, as A_h X A_w^T with interpolation matrices per sample."""
    top, left, h, w = boxes.unbind(1)
    down = _interpolation(top, h, x.shape[-2], size).to(x.dtype)
    across = _interpolation(left, w, x.shape[-1], size).to(x.dtype)
    return down.unsqueeze(1) @ x @ across.unsqueeze(1).transpose(-1, -2)


def _interpolation(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Return (B, size, side), the weight of every pixel of a side in every pixel of the result (triangle filter)."""
    scale = (length.double() / size)[:, None, None]
    reach = scale.clamp_min(1.0)
    centre = (torch.arange(size, device=start.device).double() + 0.5)[None, :, None] * scale + start[:, None, None]
    pixel = torch.arange(side, device=start.device).double()[None, None, :]
    weight = (1 - ((pixel + 0.5 - centre) / reach).abs()).clamp_min(0)
    inside = (pixel >= start[:, None, None]) & (pixel < (start + length)[:, None, None])
    weight = weight * inside
    return weight / weight.sum(-1, keepdim=True)


def _masked(x: Tensor, settings: Settings, draws: Draws, dim: int) -> Tensor:
    side, width, count = x.shape[dim], int(settings["width"]), int(settings.get("count", 1))
    u = draws(2 * count)
    lengths = (u[:, :count] * (width + 1)).floor()
    starts = (u[:, count:] * (side - lengths + 1).clamp_min(1)).floor()
    place = torch.arange(side, device=x.device)
    hidden = ((place >= starts[..., None]) & (place < (starts + lengths)[..., None])).any(1)
    hidden = hidden.view(len(x), *[1] * (x.dim() + dim - 1), side, *[1] * (-dim - 1))
    y = x.float()
    return torch.where(hidden, y.mean(tuple(range(1, x.dim())), keepdim=True), y)


def _starts(u: Tensor, room: int) -> Tensor:
    return (u * (room + 1)).long().clamp_max(max(room, 0))


def _like(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 1))


def _grey(x: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).to(x.device, non_blocking=True)
    return (x * weights.view(1, 3, *[1] * (x.dim() - 2))).sum(1, keepdim=True)


def _blend(x: Tensor, other: Tensor, factor: Tensor, top: float) -> Tensor:
    return (other + (x - other) * factor).clamp(0, top)
