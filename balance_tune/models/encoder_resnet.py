"""ResNet-18 for images, spectrograms and frames, from scratch or from a local checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder


class ResNet18(Encoder):
    """torchvision's ResNet-18 without its classifier, on images or frames, averaged over time and space to 512.

    Args:
        weights: a local checkpoint of torchvision's ResNet-18 (its state dict, `.pt`, `.pth` or `.safetensors`), else
            from scratch. A first convolution of other channels starts from the mean over the checkpoint's channels,
            scaled so that an input that is the same in all channels gives the same output.
        batch_norm_scale: standard deviation of the batch normalisations' initial weights around 1; 0 is torchvision's
            start, 0.02 that of GeWu-Lab/Diagnosing_Relearning_ECCV2024.

    Nothing in a checkpoint is executed. Once trained, a model is loaded from its own weights alone.
    """

    name = "resnet18"
    axes = (("channels", "height", "width"), ("channels", "time", "height", "width"))
    start = ("weights",)
    needs = ("torchvision",)
    features = 512

    def __init__(self, shape: Sequence[int], weights: str | None = None, batch_norm_scale: float = 0.0) -> None:
        super().__init__(shape)
        from torchvision.models import resnet18  # seconds to import: only for those who use it

        net = resnet18(weights=None)
        net.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        if batch_norm_scale:
            for part in net.modules():
                if isinstance(part, nn.BatchNorm2d):
                    nn.init.normal_(part.weight, 1.0, batch_norm_scale)
        if weights is not None:
            _load(net, Path(weights), shape[0])
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.stages = nn.ModuleList([net.layer1, net.layer2, net.layer3, net.layer4])
        self.frames = shape[1] if len(shape) == 4 else 1

    def prepare(self, x: Tensor) -> Tensor:
        if x.dim() == 5:
            x = x.transpose(1, 2).flatten(0, 1)
        out: Tensor = self.stem(x)
        return out

    def finish(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled.view(-1, self.frames, self.features).mean(1)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a local checkpoint; nothing in it is executed.

    Raises:
        UserError: there is no such file, or it does not hold tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"`weights` must be a file on this machine, but there is no {path}.") from error
    except Exception as error:  # any byte of the file may be wrong, and its readers raise what they meet
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise UserError(f"`weights` must be a checkpoint of tensors by name, but {path} is not ({reason}).") from error
    state = weights.get("state_dict", weights) if isinstance(weights, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"`weights` must be a checkpoint of tensors by name, but {path} holds something else.")
    return {str(name).removeprefix("module."): t for name, t in state.items()}


def _load(net: nn.Module, path: Path, channels: int) -> None:
    state = {name: t for name, t in read_weights(path).items() if not name.startswith("fc.")}
    first = state.get("conv1.weight")
    if first is not None and first.dim() == 4 and first.shape[1] != channels:
        state["conv1.weight"] = first.mean(1, keepdim=True).expand(-1, channels, -1, -1) * (first.shape[1] / channels)
    wanted = {name: t for name, t in net.state_dict().items() if not name.startswith("fc.")}
    wrong = [n for n in wanted if n not in state or state[n].shape != wanted[n].shape]
    if wrong:
        raise UserError(
            f"`weights` must be those of torchvision's ResNet-18, but in {path} {len(wrong)} of {len(wanted)} tensors "
            f"are missing or of another shape, the first `{wrong[0]}`."
        )
    net.load_state_dict({n: state[n] for n in wanted}, strict=False)
