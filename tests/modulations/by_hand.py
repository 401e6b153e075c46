"""What a slow, obvious re-computation of a step needs: one batch of all rows, a copy of the model, plain losses."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from balance_tune.models.multimodal import MultimodalModel
from balance_tune.testing.tiny import tiny_run
from balance_tune.training.run import Run

Rows = tuple[dict[str, Tensor], list[int]]


def whole_batch_run(method: str, settings: dict[str, Any] | None = None, **kw: Any) -> Run:
    """Return a run whose epochs are one step each on all training rows; plain SGD at learning rate 1, in float64."""
    plain = {"batch_size": 22, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    return tiny_run(method, settings, **{**plain, **kw})[0]


def rows_of(run: Run, part: str = "train") -> Rows:
    """Return all rows' inputs and their labels as numbers."""
    data = run.context.parts[part]  # type: ignore[index]
    return data.inputs, data.labels.tolist()


def copy_of(run: Run) -> tuple[MultimodalModel, nn.ModuleDict]:
    """Return copies of the model and of the method's own parts, in training mode."""
    return copy.deepcopy(run.context.model).train(), copy.deepcopy(run.context.modules)


def row(inputs: dict[str, Tensor], i: int, present: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Return one sample as a batch of one, modalities that are not present set to zero."""
    one = {m: x[i : i + 1] for m, x in inputs.items()}
    return one if present is None else {m: x if m in present else 0 * x for m, x in one.items()}


def probabilities(logits: Tensor) -> list[Tensor]:
    """Return softmax of (C,) as C 0-d tensors, the long way."""
    exponentials = [f.exp() for f in logits]
    return [e / sum(exponentials) for e in exponentials]


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    """Return -log softmax(logits)[label], logits (C,)."""
    return -probabilities(logits)[label].log()


def mean(values: list[Any]) -> Any:
    return sum(values) / len(values)


def mean_loss(model: MultimodalModel, rows: Rows, present: tuple[str, ...] | None = None) -> Tensor:
    """Return the mean cross-entropy over rows, sample by sample."""
    inputs, labels = rows
    return mean([cross_entropy(model(row(inputs, i, present))[0], y) for i, y in enumerate(labels)])


def descent(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return parameter name -> minus its gradient (zero where unused): the change in one step at learning rate 1."""
    names = [n for n, _ in model.named_parameters()]
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return {
        n: torch.zeros_like(p) if g is None else -g for n, p, g in zip(names, model.parameters(), grads, strict=True)
    }


def length(tensors: list[Tensor]) -> float:
    """Return the Euclidean length of all elements together."""
    return math.sqrt(inner(tensors, tensors))


def inner(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the inner product of all elements together."""
    pairs = [zip(s.flatten().tolist(), t.flatten().tolist(), strict=True) for s, t in zip(a, b, strict=True)]
    return sum(x * y for pair in pairs for x, y in pair)


def assert_changes(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    """Demand the same names and equal changes, and that something changes at all."""
    assert found.keys() == expected.keys()
    assert any(bool(change.abs().max() > 1e-6) for change in found.values())
    for name, change in expected.items():
        assert torch.allclose(found[name], change, rtol=1e-8, atol=tolerance), name
