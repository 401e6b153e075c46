"""A trained model as MLflow serves it: inputs in, class and probabilities out; needs neither Ray nor a store."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.errors import UserError

if TYPE_CHECKING:
    import torch

PREPROCESSING = "preprocessing.json"


class Served:
    """The checkpoint in `folder`, with the preprocessing it was trained with.

    `predict` takes a table with a column per modality: encoded bytes (also as base64 text) where the dataset can decode
    them, else numbers of one sample's shape, not standardised. Modalities may be missing, as columns or cell by cell:
    the answer then adds up what each of the others would have answered alone.
    """

    def __init__(self, folder: Path) -> None:
        from balance_tune.training.checkpoint import load_best

        known = json.loads((folder / PREPROCESSING).read_text())
        self.classes: list[str] = known["classes"]
        self._shapes = {m: tuple(entry["shape"]) for m, entry in known["modalities"].items()}
        self._scales = {m: _scale(entry) for m, entry in known["modalities"].items()}
        self._decode = decoder(known["dataset"])
        self._model = load_best(folder)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return a table with a row per sample: its `label` and the `probabilities` of all classes, in their order."""
        import pandas as pd  # type: ignore[import-untyped]

        unknown = [str(column) for column in model_input.columns if column not in self._shapes]
        if unknown:
            raise UserError(f"an input must be one of {', '.join(self._shapes)}, but got `{unknown[0]}`.")
        probabilities = self.probabilities({str(m): list(model_input[m]) for m in model_input.columns})
        labels = [self.classes[i] for i in probabilities.argmax(1)]
        return pd.DataFrame({"label": labels, "probabilities": probabilities.tolist()}, index=model_input.index)

    def probabilities(self, columns: Mapping[str, list[Any]]) -> NDArray[np.float64]:
        """Return probabilities (N, C) of samples given as modality -> values, None where one is missing."""
        import torch

        rows = len(next(iter(columns.values()), []))
        inputs = {m: torch.zeros(rows, *shape) for m, shape in self._shapes.items()}
        present = {m: torch.zeros(rows, dtype=torch.bool) for m in self._shapes}
        for m, values in columns.items():
            for row, value in enumerate(values):
                if not _missing(value):
                    inputs[m][row] = torch.from_numpy(self._prepared(m, value, row))
                    present[m][row] = True
        return self._answer(inputs, present).softmax(1).numpy()

    def _answer(self, inputs: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        everything = torch.stack(list(present.values()))
        if rows := torch.nonzero(~everything.any(0)).flatten().tolist():
            raise UserError(
                f"a sample must have at least one of {', '.join(self._shapes)}, but row {rows[0]} has none."
            )
        with torch.inference_mode():
            features = self._model.encode(inputs)
            fused = self._model.fusion(features).double()
            alone = self._model.fusion.unimodal_logits(features)
            partial = torch.stack([alone[m].double() * present[m][:, None] for m in self._shapes]).sum(0)
            return torch.where(everything.all(0)[:, None], fused, partial)

    def _prepared(self, modality: str, value: Any, row: int) -> NDArray[np.float32]:
        if isinstance(value, str):
            value = base64.b64decode(value)
        if isinstance(value, bytes | bytearray):
            if self._decode is None:
                raise UserError(
                    f"`{modality}` must be numbers, because its dataset decodes nothing, but row {row} is bytes."
                )
            value = self._decode(modality, bytes(value))
        array = np.asarray(_plain(value), dtype=np.float32)
        shape = self._shapes[modality]
        if array.shape != shape:
            raise UserError(f"a sample of `{modality}` must have shape {shape}, but row {row} has {array.shape}.")
        mean, std = self._scales[modality]
        scaled: NDArray[np.float32] = ((array - mean) / std).astype(np.float32)
        return scaled


def decoder(dataset: str) -> Callable[[str, bytes], Any] | None:
    """Return what turns encoded bytes of a modality into numbers of its shape, where the dataset has such a thing."""
    from balance_tune.registry import datasets

    cls = datasets().classes().get(dataset)  # a third party's may not be installed where the model is served
    return getattr(cls(), "decode", None) if cls is not None else None


def _load_pyfunc(path: str) -> Served:
    """Called by `mlflow.pyfunc.load_model`."""
    return Served(Path(path))


def _scale(entry: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation, shaped to be applied to one sample."""
    axes = entry["standardise"]
    shape = [size if axis in axes else 1 for axis, size in enumerate(entry["shape"])]
    return np.asarray(entry["mean"]).reshape(shape), np.asarray(entry["std"]).reshape(shape)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _plain(value: Any) -> Any:
    """Return nested lists of an array of arrays, which is how a table holds a sample of more than one dimension."""
    return [_plain(inner) for inner in value] if isinstance(value, np.ndarray) and value.dtype == object else value
