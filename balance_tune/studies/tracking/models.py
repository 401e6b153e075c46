"""Packs a trial's best checkpoint as an MLflow model that loads where only the packages it pins are installed."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.datasets.base import Dataset
from balance_tune.datasets.manifest import Manifest
from balance_tune.package import FOLDER
from balance_tune.registry import datasets, encoders, fusions, import_path, modulations
from balance_tune.studies.storage import trial_file
from balance_tune.studies.tracking.served import PREPROCESSING, Served
from balance_tune.training.checkpoint import CARD, WEIGHTS, manifest_of

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

LOADER = "balance_tune.studies.tracking.served"
LARGEST_EXAMPLE = 20_000  # numbers
NEEDED = ("mlflow", "numpy", "pandas", "pyarrow", "safetensors", "torch")


@contextmanager
def packed(model: Model, trial_folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Write `model` (MLflow's, which carries its id) with a trial's weights into a folder that lives for the block."""
    import mlflow.pyfunc

    manifest = manifest_of(trial_folder, manifest)
    cls = datasets().classes().get(manifest.dataset)
    decodes = cls is not None and cls.decode is not Dataset.decode
    foreign = foreign_code([*([cls] if cls is not None and decodes else []), *_classes(trial_folder)])
    with tempfile.TemporaryDirectory() as here:
        data, code = Path(here) / "data", Path(here) / "code" / "balance_tune"
        data.mkdir()
        for name in (WEIGHTS, CARD):
            shutil.copy(trial_folder / name, data / name)
        known = {**preprocessing(manifest, cls), "imports": sorted(foreign), "split_seed": _split_seed(trial_folder)}
        known["silence"] = known["silence"] or trained_on_silence(trial_folder)
        (data / PREPROCESSING).write_text(json.dumps(known))
        shutil.copytree(FOLDER, code, ignore=_not_served)
        target = Path(here) / "model"
        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=LOADER,
            data_path=str(data),
            code_paths=[str(code), *sorted({str(home) for home in foreign.values()})],
            mlflow_model=model,
            signature=signature(manifest, decodes),
            input_example=example(manifest),
            pip_requirements=requirements(cls.needs if cls is not None else ()),
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
    if card["model"].get("name"):
        yield import_path("a model", card["model"]["name"])
    yield fusions().get(card["model"]["fusion"])
    for _, name, _ in card["model"]["encoders"].values():
        yield import_path("an encoder", name) if ":" in name else encoders().get(name)


def foreign_code(classes: Iterable[type[Any]]) -> dict[str, Path]:
    """Return module -> its top-level file or folder, of classes of other packages; those typed in by hand have none."""
    found = {}
    for cls in classes:
        top = cls.__module__.partition(".")[0]
        file = getattr(sys.modules.get(top), "__file__", None)
        if file is not None and top not in ("balance_tune", "__main__"):
            found[cls.__module__] = Path(file).parent if Path(file).name == "__init__.py" else Path(file)
    return found


def _not_served(folder: str, names: list[str]) -> list[str]:
    """Return what of our package a model does not need: the data it came with, and all that runs studies."""
    kept = {"studies": ("__init__.py", "tracking"), "tracking": ("__init__.py", "served.py")}.get(Path(folder).name)
    unused = ("__pycache__", "embedded", "commands", "testing", "cli.py")
    return [name for name in names if name in unused or (kept is not None and name not in kept)]


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


def signature(manifest: Manifest, decodes: bool) -> ModelSignature:
    """Return the table a model takes (every modality may be missing) and the table it answers with."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Array

    def nested(depth: int) -> Any:
        return Array(nested(depth - 1)) if depth else DataType.double

    inputs = [
        ColSpec(AnyType() if decodes else nested(len(modality.stored)), m, required=False)  # bytes, base64 or numbers
        for m, modality in manifest.modalities.items()
    ]
    numbers = Array(DataType.double)
    outputs = {
        "classes": [ColSpec(DataType.string, "label"), ColSpec(numbers, "probabilities")],
        "multilabel": [ColSpec(Array(DataType.string), "labels"), ColSpec(numbers, "probabilities")],
        "regression": [ColSpec(numbers, "values")],
    }[manifest.task]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


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
    found = []
    for name in (*NEEDED, *needs):
        try:
            found.append(f"{name}=={version(name).split('+')[0]}")
        except PackageNotFoundError:  # then nothing here used it
            continue
    return found
