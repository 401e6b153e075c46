"""Takes modalities from rows at random: from training rows, and from test rows to measure how robust a model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from balance_tune.datasets.shards import Part
from balance_tune.datasets.store import Data
from balance_tune.models.multimodal import MultimodalModel
from balance_tune.replicas import Replicas
from balance_tune.seeds import generator
from balance_tune.training.evaluation import predict
from balance_tune.training.feed import Feed
from balance_tune.training.metrics import MEASURES

SHARED = 0  # the seed of draws that are the same for all trials


def uniforms(rows: int, modalities: Sequence[str], seed: int, part: str) -> Tensor:
    """Return numbers of [0, 1) (N, M), which follow from seed, part and modality alone.

    A row lacks a modality where its number is below the rate, so that what is missing at a rate is missing at every
    higher one.
    """
    columns = [torch.rand(rows, generator=generator("cpu", seed, "missing", part, m)) for m in modalities]
    return torch.stack(columns, dim=1)


def present_at(numbers: Tensor, rates: Tensor, available: Tensor | None = None) -> Tensor:
    """Return which rows have which modalities (N, M), bool.

    A row that would lack all of its modalities keeps one of them, each with the same probability.

    Args:
        numbers: (N, M) of `uniforms`.
        rates: (M,), the probability that a row lacks a modality.
        available: (N, M) bool, which modalities the data has; None where it has all.
    """
    available = torch.ones_like(numbers, dtype=torch.bool) if available is None else available
    present = (numbers >= rates) & available
    relative = torch.where(available, numbers / rates.clamp_min(1e-12), -1.0)  # below the rate: uniform in [0, 1)
    spared = torch.zeros_like(present).scatter_(1, relative.argmax(1, keepdim=True), True)
    return torch.where(present.any(1, keepdim=True), present, spared & available)


def without(part: Part, rates: Mapping[str, float], seed: int, name: str) -> Part:
    """Return a part whose rows lack modalities with these probabilities, beside those that they lack anyway.

    Args:
        part: the rows.
        rates: modality -> probability; of others 0.
        seed: of the draws.
        name: of the part; parts of one seed have different draws.
    """
    modalities = list(part.inputs)
    wanted = torch.tensor([rates.get(m, 0.0) for m in modalities])
    available = None if part.present is None else part.present.cpu()
    return replace(part, present=present_at(uniforms(len(part), modalities, seed, name), wanted, available))


def incomplete(data: Data, missing: Mapping[str, Mapping[str, float]], seed: int, judged: str) -> Data:
    """Return open data from whose rows modalities are missing.

    Args:
        data: what training opens.
        missing: "train" and "val" -> modality -> rate.
        seed: the trial's, which decides for training and monitor rows; what epochs are judged by is shared by trials.
        judged: the part that epochs are judged by.
    """
    parts = dict(data.parts)
    for name in ("train", "monitor", judged):
        rates = missing.get("val" if name == judged else "train")
        if rates:
            parts[name] = without(parts[name], rates, SHARED if name == judged else seed, name)
    return Data(data.manifest, parts)


@torch.inference_mode()
def robustness(
    model: MultimodalModel, part: Feed, rates: Sequence[float], complete: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the metrics of a model on the test rows where modalities are missing from them.

    Each modality is taken from rows at each rate, and then all of them, each independently of the others. Rows, rates
    and modalities decide alone which rows lack what, so that all models are compared on the same inputs.

    Args:
        model: a trained model.
        part: the test rows.
        rates: the probabilities that a row lacks a modality.
        complete: the metrics on the rows as they are, by name, which are those at rate 0.

    Returns:
        A mapping for each modality and rate: "modality" (None: all of them), "rate", "missing" (the share of rows'
        modalities that were taken away, of those that can be), and the task's metrics.
    """
    names = list(part.inputs)
    numbers = uniforms(len(part), names, SHARED, "test")
    available = part.availability().cpu()
    results: list[dict[str, Any]] = []
    for modality in (*names, None):
        concerned = torch.tensor([modality in (None, m) for m in names])
        for rate in sorted({0.0, *rates}):
            present = present_at(numbers, torch.where(concerned, rate, 0.0), available)
            usable = available[:, concerned]
            missing = int((usable & ~present[:, concerned]).sum()) / max(1, int(usable.sum()))
            measured = complete if rate == 0 else _measured(model, part.having(present))
            results.append({"modality": modality, "rate": rate, "missing": missing, **measured})
    return results


def _measured(model: MultimodalModel, part: Feed) -> dict[str, float]:
    answers, alone = predict(model, part)
    measured, _ = MEASURES[model.task](answers, alone, part.labels, Replicas(alone=True))
    return dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True))
