"""Scores a stored model on labelled data: all modalities, each modality alone, each class, calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.studies.data.file_table import FileTable
from balance_tune.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.tracking.served import Served

ROWS = 256  # of a table that are decoded at a time


def assess_part(served: Served, store: Path | str, part: str, *, unseal: bool = False) -> dict[str, Any]:
    """Return what `scores` gives on one part of a dataset's store, scaled as the model's own training data was.

    Raises:
        UserError: the data has other modalities or classes than the model, or the part is sealed.
    """
    from balance_tune.datasets.modality import Statistics
    from balance_tune.datasets.redraw import open_redrawn, restandardised
    from balance_tune.datasets.store import open_store, read_manifest
    from balance_tune.training.evaluation import predict
    from balance_tune.training.feed import Feed

    seed, ours = served.known.get("split_seed"), read_manifest(store).data_hash == served.known["data_hash"]
    if part == "test" or seed is None or not ours:
        data = open_store(store, parts=(part,), unseal=unseal)
    else:  # the store's own validation rows may be among those the model was trained on
        data = open_redrawn(str(store), seed)
    _check_alike(served, data.manifest)
    modalities = served.known["modalities"]
    statistics = {m: Statistics(modalities[m]["mean"], modalities[m]["std"]) for m in data.manifest.statistics}
    feed = Feed(restandardised(data.parts[part], data.manifest, statistics), served.transforms)
    fused, alone = predict(served.model, feed)
    by_modality = {}
    for i, m in enumerate(served.model.modalities):
        present = feed.present(m)
        rows = slice(None) if present is None else present
        by_modality[m] = (alone[i][rows], feed.labels[rows])
    return scores(served.task, fused, feed.labels, by_modality, served.classes)


def assess_table(served: Served, table: FileTable) -> dict[str, Any]:
    """Return what `scores` gives on a table of files; a modality's own score counts the rows that have it.

    Raises:
        UserError: a file that cannot be read or decoded, or a label that is no class.
    """
    import torch

    answers, labels = [], []
    own: dict[str, tuple[list[Tensor], list[Tensor]]] = {m: ([], []) for m in served.modalities}
    for start in range(0, len(table), ROWS):
        columns, targets = table.rows(start, start + ROWS)
        try:
            inputs, present = served.prepare_inputs(columns, table.numbers[start : start + ROWS])
        except UserError as error:
            raise UserError(f"{table.path}, {error}") from error
        fused, alone = served.heads(inputs)
        label = torch.tensor(targets)
        answers.append(served.combine(fused, alone, present))
        labels.append(label)
        for m, (logits, theirs) in own.items():
            logits.append(alone[m][present[m]])
            theirs.append(label[present[m]])
    by_modality = {m: (torch.cat(logits), torch.cat(theirs)) for m, (logits, theirs) in own.items()}
    return scores(served.task, torch.cat(answers), torch.cat(labels), by_modality, served.classes)


def scores(
    task: Task,
    answers: Tensor,
    labels: Tensor,
    by_modality: Mapping[str, tuple[Tensor, Tensor]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Return JSON-able scores of answers (N, C) against labels; `by_modality` holds those of each modality alone.

    Keys: "task", "rows", the task's metrics and loss, of classes "ece"; "modalities": the same of each, by name;
    "classes": the scores of each class, label or target; of classes "confusion": counts, a row a true class.
    """
    from balance_tune.training.details import by_class, by_label, by_target, confusion

    result: dict[str, Any] = {
        "task": task,
        **_summary(task, answers, labels),
        "modalities": {m: _summary(task, *own) for m, own in by_modality.items() if len(own[1])},
    }
    if task == "classes":
        table = confusion(answers.argmax(1), labels, len(classes))
        return result | {"classes": by_class(table, classes), "confusion": table}
    tell = by_label if task == "multilabel" else by_target
    return result | {"classes": tell(answers, labels, classes)}


def _summary(task: Task, answers: Tensor, labels: Tensor) -> dict[str, Any]:
    from balance_tune.replicas import Replicas
    from balance_tune.training.details import calibration_error
    from balance_tune.training.metrics import MEASURES

    answers = answers.double()
    measured, _ = MEASURES[task](answers, answers[None], labels, Replicas(alone=True))
    numbers = {name: float(value) for name, value in measured.items()}
    ece = {"ece": calibration_error(answers.softmax(1), labels)} if task == "classes" else {}
    return {"rows": len(labels), **numbers, **ece}


def _check_alike(served: Served, manifest: Manifest) -> None:
    theirs = {m: tuple(modality.stored) for m, modality in manifest.modalities.items()}
    ours = {m: tuple(entry["shape"]) for m, entry in served.known["modalities"].items()}
    if theirs != ours or list(manifest.classes) != served.classes or manifest.task != served.task:
        raise UserError(
            f"a model must know the modalities and classes of its data, but it was trained on {served.known['dataset']}"
            f" and asked for {manifest.dataset}."
        )
