"""The dataset entry of a run in MLflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from balance_tune.datasets.manifest import Manifest

DIGEST = 36  # characters of a dataset's digest that MLflow keeps


def dataset_input(manifest: Manifest) -> DatasetInput:
    """Return what MLflow records of a dataset: store, shapes, parts, and the hash of its bytes as digest."""
    import numpy as np
    from mlflow.data.schema import TensorDatasetSchema
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import Schema, TensorSpec

    features = [TensorSpec(np.dtype("float32"), (-1, *m.shape), name=n) for n, m in manifest.modalities.items()]
    schema = TensorDatasetSchema(Schema(features), Schema([TensorSpec(np.dtype("int64"), (-1,), name="label")]))
    rows = {part: sum(counts.values()) for part, counts in manifest.counts.items()}
    profile = {"rows": rows, "classes": list(manifest.classes), "split_hash": manifest.split_hash}
    return DatasetInput(
        Dataset(
            name=manifest.dataset,
            digest=manifest.data_hash[:DIGEST],
            source_type="local",
            source=json.dumps({"uri": f"data/{manifest.dataset}-{manifest.identity.hash}"}),
            schema=json.dumps(schema.to_dict()),
            profile=json.dumps(profile),
        ),
        [InputTag("mlflow.data.context", "train, monitor and validation; test sealed")],
    )
