"""The linear probe: what a trained model's frozen features still know, jointly and modality by modality."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from balance_tune.datasets.store import Data
from balance_tune.models.fusion import Concat, Features
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.private_torch import spare_the_compiler
from balance_tune.training.checkpoint import load_best
from balance_tune.training.feed import Feed, feed_of


def linear_probe(
    trained: MultimodalModel | Path | str, data: Data, *, weight_decay: float = 1e-4, iterations: int = 200
) -> dict[str, float]:
    """Train fresh linear heads on a model's frozen encoders and return their accuracy on the validation part.

    Encoders run in evaluation mode and are not changed. Features are standardised on the training part; the heads are
    fitted on it to convergence (L-BFGS on CE + weight_decay/2 |W|^2, from zero): nothing is random. Reads the parts
    `train` and `val` only.

    Args:
        trained: a model, or the folder of a finished trial (its best epoch).
        data: open data with the model's modalities.
        weight_decay: of the heads.
        iterations: at most so many L-BFGS iterations for each head.

    Returns:
        `probe/accuracy` of one head on all features; `probe/accuracy/<modality>` of a head on that modality's features
        alone; `probe/slice_accuracy/<modality>` of the first head's own share for that modality, W_m h_m + b / M.

    Raises:
        UserError: the folder has no readable checkpoint.
    """
    model = trained if isinstance(trained, MultimodalModel) else load_best(Path(trained))
    device = data.parts["train"].labels.device
    train, val = (feed_of(data, name, device) for name in ("train", "val"))
    features, held_out = _standardised(_features(model, train), _features(model, val))
    labels = train.labels
    joint = _fit(features, labels, model.classes, weight_decay, iterations)
    accuracies = {"probe/accuracy": _accuracy(joint(held_out), val.labels)}
    for m, h in features.items():
        alone = _fit({m: h}, labels, model.classes, weight_decay, iterations)
        accuracies[f"probe/accuracy/{m}"] = _accuracy(alone({m: held_out[m]}), val.labels)
    for m, logits in joint.unimodal_logits(held_out).items():
        accuracies[f"probe/slice_accuracy/{m}"] = _accuracy(logits, val.labels)
    return accuracies


@torch.no_grad()
def _features(model: MultimodalModel, feed: Feed) -> Features:
    """Return float64 features {modality: (N, d_m)} on the part's device; the model goes back to where it was."""
    like = next(model.parameters())
    was_training, home = model.training, like.device
    model.eval().to(feed.device)
    chunks = []
    for _, inputs in feed.only(model.modalities).batches():
        chunks.append(model.encode({m: x.to(like.dtype) if x.is_floating_point() else x for m, x in inputs.items()}))
    model.train(was_training).to(home)
    return {m: torch.cat([c[m] for c in chunks]).double() for m in model.modalities}


def _standardised(train: Features, held_out: Features) -> tuple[Features, Features]:
    mean = {m: h.mean(0) for m, h in train.items()}
    sd = {m: h.std(0, unbiased=False) for m, h in train.items()}
    sd = {m: torch.where(s > 0, s, 1.0) for m, s in sd.items()}

    def scaled(features: Features) -> Features:
        return {m: (h - mean[m]) / sd[m] for m, h in features.items()}

    return scaled(train), scaled(held_out)


@torch.enable_grad()
def _fit(features: Features, labels: Tensor, classes: int, weight_decay: float, iterations: int) -> Concat:
    with torch.random.fork_rng(devices=[]):  # a layer draws its initial weights, which are not used
        head = Concat({m: h.shape[1] for m, h in features.items()}, classes).to(labels.device, torch.float64)
    nn.init.zeros_(head.head.weight)
    nn.init.zeros_(head.head.bias)
    spare_the_compiler()
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=iterations, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(features), labels) + weight_decay / 2 * head.head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return head.requires_grad_(False)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
