"""Trains a trial of a study's queue in this process, judged by early stopping as Ray Tune would have it judged."""

from __future__ import annotations

from typing import Any

from balance_tune.studies.early_stopping.pruner import Pruner
from balance_tune.studies.execution.trial import work
from balance_tune.studies.search.study_queue import Assignment, StudyQueue


def train(given: Assignment, queue: StudyQueue, pruner: Pruner) -> None:
    """Train a trial that the queue has handed out, report its epochs, and tell the queue how it ended."""
    key, last = given.key, dict[str, Any]()
    min_epochs = queue.live[key].min_epochs

    def report(row: dict[str, Any]) -> None:
        last.update(row)
        if row["state"] == "failed":
            return
        judged = key.phase == "search" and row["state"] == "running"
        value = row[given.config["objective"]]
        stop = judged and pruner.should_prune(key.cell, key.number, row["epoch"], value, min_epochs)
        queue.report(key, row)
        if stop:
            raise SystemExit

    try:
        work(given.config, report)
    except SystemExit:
        queue.finish(key, "pruned")
    else:
        queue.finish(key, last["state"], last.get("reason", ""))
