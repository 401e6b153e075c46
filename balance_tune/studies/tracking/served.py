"""A trained model as MLflow serves it: takes raw inputs, returns class and probabilities; needs no Ray and no store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.errors import UserError
from balance_tune.studies.tracking.raw_inputs import as_columns, by_modality, missing, unpack
from balance_tune.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from balance_tune.training.transform import Transform

PREPROCESSING = "preprocessing.json"

Decode = Callable[[str, Any], NDArray[np.float32]]
Columns = Mapping[str, Sequence[Any]]  # modality -> one value a row, None where it is missing


class Served:
    """The checkpoint in `folder`, with the preprocessing it was trained with.

    `predict` takes a table with a column per modality. A cell holds what the dataset's `decode` takes: numbers of one
    sample's shape as it is stored (pixels, say), not standardised, and where the dataset knows files also a file: its
    path (not over HTTP), its bytes, or these as base64 text; words are text. Modalities may be missing, as columns or
    cell by cell: the answer then adds up what each of the others would have answered alone. A model whose training rows
    lacked modalities (`missing: silence` in a table's recipe) answers such samples as it was trained to, from silence.
    """

    def __init__(self, folder: Path) -> None:
        from balance_tune.training.checkpoint import load_best

        self.known: dict[str, Any] = json.loads((folder / PREPROCESSING).read_text())
        for module in self.known["imports"]:  # importing them registers the user's methods and encoders
            import_module(module)
        self.classes: list[str] = self.known["classes"]
        self.modalities: list[str] = list(self.known["modalities"])
        self.model = load_best(folder)
        self.task: Task = self.model.task
        self.transforms = {m: _transform(entry) for m, entry in self.known["modalities"].items()}
        self._shapes = {m: t.modality.shape for m, t in self.transforms.items()}
        self.words = tuple(m for m, t in self.transforms.items() if t.modality.ids)
        self._decode = decoder(self.known)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return a table with a row per sample; see `as_columns` for what `model_input` may be.

        Its `label` and the `probabilities` of all classes, in order; of a multilabel task its `labels`, those more
        likely than not, and every one's probability; of a regression its `values`, one a target.
        """
        import pandas as pd  # type: ignore[import-untyped]

        columns, index = as_columns(model_input)
        raw, decimal = self.known.get("raw") or {}, (self.known.get("table") or {}).get("decimal", ".")
        answers = self.answers(by_modality(columns, raw, self.modalities, decimal))
        table: dict[str, Any] = {"values": answers.tolist()}
        if self.task == "classes":
            table = {"label": [self.classes[i] for i in answers.argmax(1)], "probabilities": answers.tolist()}
        elif self.task == "multilabel":
            likely = [[name for name, p in zip(self.classes, row, strict=True) if p > 0.5] for row in answers.tolist()]
            table = {"labels": likely, "probabilities": answers.tolist()}
        return pd.DataFrame(table, index=index)

    def answers(self, columns: Columns) -> NDArray[np.float64]:
        """Return probabilities (N, C), or the values (N, K) of a regression, of raw samples."""
        inputs, present = self.prepare_inputs(columns)
        outputs = self.combine(*self.heads(inputs), present)
        if self.task != "regression":
            outputs = outputs.softmax(1) if self.task == "classes" else outputs.sigmoid()
        answers: NDArray[np.float64] = outputs.numpy()
        return answers

    def prepare_inputs(
        self, columns: Columns, numbers: Sequence[int] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the inputs, modality -> (N, *shape), and which are present, modality -> (N,).

        Args:
            columns: the samples.
            numbers: how messages call each of them; by default from 0.

        Raises:
            UserError: an unknown modality, a value that cannot be a sample, or a row without any.
        """
        import torch

        unknown = [m for m in columns if m not in self._shapes]
        if unknown:
            raise UserError(f"an input must be one of {', '.join(self._shapes)}, but got `{unknown[0]}`.")
        rows = len(next(iter(columns.values()), ()))
        inputs = {m: torch.zeros(rows, *shape) for m, shape in self._shapes.items()}
        present = {m: torch.zeros(rows, dtype=torch.bool) for m in self._shapes}
        for m, values in columns.items():
            for row, value in enumerate(values):
                if not missing(value):
                    inputs[m][row] = torch.from_numpy(self._prepared(m, value, numbers[row] if numbers else row))
                    present[m][row] = True
        absent = torch.nonzero(~torch.stack(list(present.values())).any(0)).flatten().tolist()
        if absent:
            raise UserError(
                f"a sample must have at least one of {', '.join(self._shapes)}, but row "
                f"{numbers[absent[0]] if numbers else absent[0]} has none."
            )
        return inputs, present

    def heads(self, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits (N, C) in float64 of all modalities together, and of each alone, for prepared inputs."""
        import torch

        with torch.inference_mode():
            features = self.model.encode(inputs)
            alone = self.model.fusion.unimodal_logits(features)
            return self.model.fusion(features).double(), {m: alone[m].double() for m in self._shapes}

    def combine(self, fused: Tensor, alone: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return the logits (N, C) that are answered: fused, or where a modality is missing the others' sum."""
        import torch

        if self.known.get("silence"):  # trained on samples without some modalities, whose inputs were zero as here
            return fused
        everything = torch.stack(list(present.values())).all(0)
        some = torch.stack([alone[m] * present[m][:, None] for m in self._shapes]).sum(0)
        return torch.where(everything[:, None], fused, some)

    def _prepared(self, modality: str, value: Any, row: int) -> NDArray[np.float32]:
        where = f"row {row}, `{modality}`"
        try:
            value = value if modality in self.words else unpack(value)
            where = f"row {row}"  # a dataset's own message names the modality
            array = self._decode(modality, value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        entry, transform = self.known["modalities"][modality], self.transforms[modality]
        if transform.modality.normalise == "baked":  # the store holds standardised values, the sample is as it came
            mean, std = _scale(entry)
            scaled: NDArray[np.float32] = ((array - mean) / std).astype(np.float32)
            return scaled
        import torch

        stored = torch.from_numpy(array).to(getattr(torch, transform.modality.dtype))
        result: NDArray[np.float32] = transform(stored[None])[0].numpy()
        return result


def decoder(description: Mapping[str, Any]) -> Decode:
    """Return the function from a raw value to numbers of its modality's shape: the dataset's, if it is installed."""
    from balance_tune.datasets.modality import Modality
    from balance_tune.registry import import_path

    if description.get("raw"):  # a user's table
        from balance_tune.datasets.stored import decoding

        modalities = {m: Modality.of(entry["declared"]) for m, entry in description["modalities"].items()}
        return decoding(description["dataset"], description["raw"], modalities).decode
    try:
        dataset = import_path("a dataset", description["dataset_class"])()
    except UserError:  # not installed where the model is served: then only numbers are taken
        return partial(_numbers, description)
    decode: Decode = dataset.decode
    return decode


def _numbers(description: Mapping[str, Any], modality: str, raw: Any) -> NDArray[np.float32]:
    if isinstance(raw, bytes | bytearray):
        raise UserError(f"`{modality}` must be numbers, because {description['dataset_class']} is not installed here.")
    array = np.asarray(raw, dtype=np.float32)
    shape = tuple(description["modalities"][modality]["shape"])
    if array.shape != shape:
        raise UserError(f"a sample of `{modality}` must have shape {shape}, but got {array.shape}.")
    return array


def _load_pyfunc(path: str) -> Served:
    """Called by `mlflow.pyfunc.load_model`."""
    return Served(Path(path))


def _transform(entry: Mapping[str, Any]) -> Transform:
    """Return the transform from a stored sample to the model's input."""
    from balance_tune.datasets.modality import Modality, Statistics
    from balance_tune.training.transform import Transform

    if "declared" not in entry:  # models made before stores held other types
        return Transform(Modality(tuple(entry["shape"]), "-", standardise=tuple(entry["standardise"])), None)
    statistics = None if entry["mean"] is None else Statistics(entry["mean"], entry["std"])
    return Transform(Modality.of(entry["declared"]), statistics)


def _scale(entry: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation, shaped to be applied to one sample."""
    axes = entry["standardise"]
    shape = [size if axis in axes else 1 for axis, size in enumerate(entry["shape"])]
    return np.asarray(entry["mean"]).reshape(shape), np.asarray(entry["std"]).reshape(shape)
