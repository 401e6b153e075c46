"""The sealed evaluation: each confirmed checkpoint is evaluated on the test rows once, after all choices are made."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balance_tune.studies.cluster.placement import elsewhere
from balance_tune.studies.protocol.keys import TrialKey
from balance_tune.studies.storage.files import STATE
from balance_tune.studies.storage.study_folder import StudyFolder, trial_folder
from balance_tune.tasks import METRICS

TEST = "test.json"


@dataclass(frozen=True)
class Sealed:
    """A confirmation trial that is to be evaluated: its place, its folder, its dataset's store."""

    key: TrialKey
    folder: StudyFolder
    store: Path | str
    rates: tuple[float, ...] = ()  # at which modalities are missing from rows (`missing.test`)

    @property
    def done(self) -> bool:
        """Whether the test part has been evaluated."""
        return (self.folder.path / TEST).is_file()


def evaluate_sealed(
    folder: StudyFolder, store: Path | str, device: str = "cpu", rates: Sequence[float] = ()
) -> dict[str, Any]:
    """Evaluate `folder`/best.safetensors on the store's test rows, write `folder`/test.json at once, and return it.

    Keys: the metrics of the task, loss, one metric of each modality, gap; "n": rows; "groups": the rows' groups, if the
    data has any; "correct": base64 of one packed bit a row (all labels right), or of a regression "errors": base64 of a
    row's mean absolute error, float32; "units": each metric's pseudo-values (`training.jackknife`); of classes "ece",
    and "confusion": counts, a row a true class; with `rates` "missing": the metrics where modalities are missing from
    rows at these rates (`training.missing.robustness`). An evaluation that was made before is returned as it is.
    """
    import numpy as np

    from balance_tune.datasets.redraw import restandardised
    from balance_tune.datasets.store import Data, open_store
    from balance_tune.models.losses import sample_losses
    from balance_tune.training.checkpoint import load_best, manifest_of
    from balance_tune.training.details import calibration_error, confusion
    from balance_tune.training.evaluation import evaluate, predict
    from balance_tune.training.feed import feed_of
    from balance_tune.training.jackknife import packed, unit_values
    from balance_tune.training.missing import robustness

    if (folder.path / TEST).is_file():
        result: dict[str, Any] = json.loads((folder.path / TEST).read_text())
        return result
    data = open_store(store, parts=("test",), unseal=True)
    manifest = manifest_of(folder.path, data.manifest)
    test = restandardised(data.parts["test"], data.manifest, manifest.statistics)
    part = feed_of(Data(manifest, {"test": test}), "test", device)
    model = load_best(folder.path).to(device)
    metrics = {k.removeprefix("test/"): v for k, v in evaluate(model, part, prefix="test").items()}
    answers, _ = predict(model, part)
    details: dict[str, Any] = {}
    if model.task == "regression":
        errors = sample_losses("regression", answers, part.labels).cpu().numpy().astype("<f4")
        details["errors"] = base64.b64encode(errors.tobytes()).decode()
    elif model.task == "multilabel":
        right = ((answers > 0) == (part.labels > 0.5)).all(1)
        details["correct"] = base64.b64encode(np.packbits(right.cpu().numpy()).tobytes()).decode()
    else:
        guesses = answers.argmax(1)
        correct = (guesses == part.labels).cpu().numpy()
        details["correct"] = base64.b64encode(np.packbits(correct).tobytes()).decode()
        details["ece"] = calibration_error(answers.softmax(1), part.labels)
        details["confusion"] = confusion(guesses, part.labels, model.classes)
    if rates:
        complete = {name: metrics[name] for name in (*METRICS[model.task], "loss")}
        details["missing"] = robustness(model, part, rates, complete)
    result = {
        **metrics,
        **details,
        "units": packed(unit_values(model.task, answers, part.labels, part.groups)),
        "n": len(part),
        "groups": None if part.groups is None else part.groups.cpu().tolist(),
    }
    folder.write_json(TEST, result)
    return result


def evaluate_all(
    waiting: Sequence[Sealed], *, cpus: float, gpus: float, device: str, avoid: Sequence[str] = ()
) -> Iterator[tuple[Sealed, Mapping[str, Any] | Exception]]:
    """Evaluate in Ray tasks, processes that have never trained, and yield each result, or the error, as it comes.

    `avoid` are the ids of nodes on which none runs.
    """
    import ray

    options: dict[str, Any] = {"label_selector": elsewhere(avoid)} if avoid else {}
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3, retry_exceptions=[OSError], **options)(_task)
    pending = {task.remote(_places(one), one.store, device, one.rates): one for one in waiting}
    while pending:
        (ready, *_), _ = ray.wait(list(pending), num_returns=1)
        one = pending.pop(ready)
        try:
            yield one, ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            yield one, error.cause if isinstance(error.cause, Exception) else error
        except ray.exceptions.RayError as error:
            yield one, error


def _places(one: Sealed) -> dict[str, Any]:
    return {"folder": str(one.folder.path), "location": one.folder.location}


def _task(places: Mapping[str, Any], store: Path | str, device: str, rates: Sequence[float] = ()) -> dict[str, Any]:
    import torch

    from balance_tune.training.errors import device_failed

    torch.set_num_threads(1)
    with trial_folder(places) as folder:
        folder.download(lambda name: name != STATE)
        try:
            return evaluate_sealed(folder, store, device, rates)
        except RuntimeError as error:
            if not device_failed(error):
                raise
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)  # this process cannot use the GPU any more; Ray starts the task again in another
