"""Packs a trial's best checkpoint as an MLflow model that loads where only the packages it pins are installed."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.datasets.base import Dataset
from balance_tune.datasets.columns import needs_of
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.stored import Stored
from balance_tune.package import FOLDER
from balance_tune.registry import datasets, encoders, fusions, import_path, modulations, named
from balance_tune.studies.storage import trial_file
from balance_tune.studies.tracking.backend import quiet_loggers
from balance_tune.studies.tracking.own_code import own_code
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.training.checkpoint import CARD, WEIGHTS, load_best, manifest_of

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

    from balance_tune.models.multimodal import MultimodalModel

LOADER = "balance_tune.studies.tracking.served"
LARGEST_EXAMPLE = 20_000  # numbers
NEEDED = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "torch")


@contextmanager
def packed(model: Model, trial_folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Write `model` (MLflow's, which carries its id) with a trial's weights into a folder that lives for the block."""
    import mlflow.pyfunc

    manifest = manifest_of(trial_folder, manifest)
    cls = Stored if manifest.raw else datasets().classes().get(manifest.dataset)
    decodes = cls is not None and cls.decode is not Dataset.decode
    own = own_code([*([cls] if cls is not None and decodes else []), *_classes(trial_folder)])
    needs = [*_needs(manifest, cls, load_best(trial_folder)), *own.packages]
    with tempfile.TemporaryDirectory() as here:
        data, code = Path(here) / "data", Path(here) / "code" / "balance_tune"
        data.mkdir()
        for name in (WEIGHTS, CARD):
            shutil.copy(trial_folder / name, data / name)
        description = {
            **preprocessing(manifest, cls),
            "imports": list(own.modules),
            "split_seed": _split_seed(trial_folder),
        }
        description["silence"] = description["silence"] or trained_on_silence(trial_folder)
        (data / PREPROCESSING).write_text(json.dumps(description))
        shutil.copytree(FOLDER, code, ignore=_ignored)
        target = Path(here) / "model"
        with warnings.catch_warnings():  # a large sample cannot be an example that is read as text
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            quiet_loggers()
            mlflow.pyfunc.save_model(
                path=str(target),
                loader_module=LOADER,
                data_path=str(data),
                code_paths=[str(code), *sorted(map(str, own.places.values()))],
                mlflow_model=model,
                signature=signature(manifest),
                metadata={"inputs": {m: _input_words(manifest, m, decodes) for m in manifest.modalities}},
                input_example=example(manifest),
                pip_requirements=requirements(needs),
            )
        Served(data)  # a model that cannot be loaded must not be registered
        yield target


def _split_seed(trial_folder: Path) -> int | None:
    """Return the seed of the split that a trial was trained on; None for the store's own."""
    seed: int | None = json.loads((trial_folder / CARD).read_text()).get("split_seed")
    return seed


def _classes(trial_folder: Path) -> Iterator[type[Any]]:
    """Yield the classes that a trial's model was built with: its method, its fusion, its encoders."""
    card = json.loads((trial_folder / CARD).read_text())
    yield modulations().get(card["method"])
    if card["model"].get("name"):  # it has its own encoders and fusion
        yield import_path("a model", card["model"]["name"])
        return
    yield named(fusions(), card["model"]["fusion"])
    for _, name, _ in card["model"]["encoders"].values():
        yield named(encoders(), name)


def _needs(manifest: Manifest, cls: type[Dataset] | None, model: MultimodalModel) -> Iterator[str]:
    """Yield the packages that reading the inputs and building the model need beside those of any model."""
    if manifest.raw:
        yield from needs_of(manifest.raw)
    elif cls is not None:
        yield from cls.needs
    for module in model.modules():
        yield from getattr(type(module), "needs", ())


def _ignored(folder: str, names: list[str]) -> list[str]:
    """Return the files of this package that a model does not need: embedded data and the running of studies."""
    files = {"studies": ("__init__.py", "tracking"), "tracking": ("__init__.py", "raw_inputs.py", "served.py")}.get(
        Path(folder).name
    )
    unused = ("__pycache__", "embedded", "commands", "testing", "cli.py")
    return [name for name in names if name in unused or (files is not None and name not in files)]


def trained_on_silence(trial_folder: Path) -> bool:
    """Return whether modalities were taken from a trial's training rows (`missing.train`)."""
    missing = (trial_file.read(trial_folder) or {}).get("missing") or {}
    return bool(missing.get("train"))


def preprocessing(manifest: Manifest, cls: type[Dataset] | None) -> dict[str, Any]:
    """Return what turns raw inputs into what the model was trained on, and the data it was trained on."""
    modalities = {}
    for m, modality in manifest.modalities.items():
        statistics = manifest.statistics.get(m)  # token ids have none
        modalities[m] = {
            "shape": list(modality.stored),
            "standardise": list(modality.standardise),
            "mean": statistics and statistics.mean,
            "std": statistics and statistics.std,
            "declared": dataclasses.asdict(modality),
        }
    return {
        "dataset": manifest.dataset,
        "dataset_class": f"{cls.__module__}:{cls.__qualname__}" if cls is not None else f"{manifest.dataset}:absent",
        "data_hash": manifest.data_hash,
        "split_hash": manifest.split_hash,
        "classes": list(manifest.classes),
        "modalities": modalities,
        "raw": manifest.raw,
        "table": manifest.table,
        "silence": bool(manifest.absent),
    }


def _input_words(manifest: Manifest, modality: str, decodes: bool) -> str:
    """Return in words what a model takes as one input."""
    declaration = manifest.modalities[modality]
    numbers = f"numbers of shape {tuple(declaration.stored)}"
    kind = manifest.raw.get(modality, {}).get("kind")
    if kind == "text" or (kind is None and declaration.ids and decodes):
        return "words"
    if not decodes or kind == "numbers":
        return f"{numbers}; may be missing"
    return f"a file (its path, its bytes, or these as base64), or {numbers}; may be missing"


def signature(manifest: Manifest) -> ModelSignature:
    """Return the table that a model answers with.

    The inputs are in the model's metadata instead. MLflow drops columns that are not in the signature of inputs, so a
    wrong name would be treated as a missing modality.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    numbers = Array(DataType.double)
    outputs = {
        "classes": [ColSpec(DataType.string, "label"), ColSpec(numbers, "probabilities")],
        "multilabel": [ColSpec(Array(DataType.string), "labels"), ColSpec(numbers, "probabilities")],
        "regression": [ColSpec(numbers, "values")],
    }[manifest.task]
    return ModelSignature(outputs=Schema(outputs))


def example(manifest: Manifest) -> Any:
    """Return one sample as a table: the mean of the training rows, so that no sample leaves with the model.

    None where a sample is too large to be read as text.
    """
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]

    if sum(math.prod(modality.stored) for modality in manifest.modalities.values()) > LARGEST_EXAMPLE:
        return None
    row = {}
    for m, modality in manifest.modalities.items():
        shape = [size if axis in modality.standardise else 1 for axis, size in enumerate(modality.stored)]
        statistics = manifest.statistics.get(m)
        mean = np.zeros(()) if statistics is None else np.asarray(statistics.mean).reshape(shape) / modality.unit
        row[m] = [np.broadcast_to(mean, modality.stored).tolist()]
    return pd.DataFrame(row)


def requirements(needs: Iterable[str]) -> list[str]:
    """Return the pinned packages a model and its data need; a local build (`+cpu`) is pinned to its public one."""
    pins = []
    for name in sorted({*NEEDED, *needs}):
        try:
            pins.append(f"{name}=={version(name).split('+')[0]}")
        except PackageNotFoundError:  # not installed, so the model does not use it
            continue
    return pins
