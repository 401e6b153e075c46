"""Packs a trial's best checkpoint as an MLflow model that loads where only the packages it pins are installed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import balance_tune
from balance_tune.datasets.manifest import Manifest
from balance_tune.studies.tracking.served import PREPROCESSING, Served, decoder
from balance_tune.training.checkpoint import CARD, WEIGHTS

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

LOADER = "balance_tune.studies.tracking.served"
NEEDED = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "torch")
TO_DECODE = ("soundfile", "torchaudio", "torchvision")


@contextmanager
def packed(model: Model, trial_folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Write `model` (MLflow's, which carries its id) with a trial's weights into a folder that lives for the block."""
    import mlflow.pyfunc

    decodes = decoder(manifest.dataset) is not None
    with tempfile.TemporaryDirectory() as here:
        data, code = Path(here) / "data", Path(here) / "code" / "balance_tune"
        data.mkdir()
        for name in (WEIGHTS, CARD):
            shutil.copy(trial_folder / name, data / name)
        (data / PREPROCESSING).write_text(json.dumps(preprocessing(manifest)))
        shutil.copytree(Path(balance_tune.__file__).parent, code, ignore=_not_served)
        target = Path(here) / "model"
        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(code)],
            mlflow_model=model,
            signature=signature(manifest, decodes),
            input_example=None if decodes else example(manifest),
            pip_requirements=requirements(decodes),
        )
        Served(data)  # a model that cannot be loaded must not be registered
        yield target


def _not_served(folder: str, names: list[str]) -> list[str]:
    """Return what of our package a model does not need: the data it came with, and all that runs studies."""
    kept = {"studies": ("__init__.py", "tracking"), "tracking": ("__init__.py", "served.py")}.get(Path(folder).name)
    unused = ("__pycache__", "embedded", "commands", "cli.py")
    return [name for name in names if name in unused or (kept is not None and name not in kept)]


def preprocessing(manifest: Manifest) -> dict[str, Any]:
    """Return what turns raw inputs into what the model was trained on."""
    modalities = {
        m: {
            "shape": list(modality.shape),
            "standardise": list(modality.standardise),
            "mean": manifest.statistics[m].mean,
            "std": manifest.statistics[m].std,
        }
        for m, modality in manifest.modalities.items()
    }
    return {"dataset": manifest.dataset, "classes": list(manifest.classes), "modalities": modalities}


def signature(manifest: Manifest, decodes: bool) -> ModelSignature:
    """Return the table a model takes (every modality may be missing) and the table it answers with."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    def nested(depth: int) -> Any:
        return Array(nested(depth - 1)) if depth else DataType.double

    inputs = [
        ColSpec(DataType.binary if decodes else nested(len(modality.shape)), m, required=False)
        for m, modality in manifest.modalities.items()
    ]
    outputs = [ColSpec(DataType.string, "label"), ColSpec(Array(DataType.double), "probabilities")]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def example(manifest: Manifest) -> Any:
    """Return one sample as a table: the mean of the training rows, so that no one's data leaves with the model."""
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]

    row = {}
    for m, modality in manifest.modalities.items():
        shape = [size if axis in modality.standardise else 1 for axis, size in enumerate(modality.shape)]
        mean = np.asarray(manifest.statistics[m].mean).reshape(shape)
        row[m] = [np.broadcast_to(mean, modality.shape).tolist()]
    return pd.DataFrame(row)


def requirements(decodes: bool) -> list[str]:
    """Return the pinned packages a model needs; local builds (`+cpu`) are pinned to their public version."""
    found = []
    for name in (*NEEDED, *(TO_DECODE if decodes else ())):
        try:
            found.append(f"{name}=={version(name).split('+')[0]}")
        except PackageNotFoundError:  # then nothing here used it
            continue
    return found
