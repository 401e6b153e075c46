"""`trial.json`: the complete configuration of a trial, in the trial's folder. It suffices to train the trial again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balance_tune.studies.storage import durable
from balance_tune.studies.storage.study_folder import StudyFolder

FILE = "trial.json"
LOCAL = ("folder", "location", "store", "scratch", "avoid", "reported")  # of one machine, or one attempt


def write(folder: StudyFolder, config: Mapping[str, Any]) -> None:
    """Write a trial's configuration into its folder, unless it is there.

    There is no fsync: a file that was lost in a power cut is written again by the next run of the study.
    """
    portable = {name: value for name, value in config.items() if name not in LOCAL}
    if read(folder.path) != json.loads(json.dumps(portable)):
        durable.write(folder.path / FILE, durable.as_json(portable), lasting=False)
        folder.upload(FILE)


def read(folder: Path) -> dict[str, Any] | None:
    """Return the configuration in a trial's folder; None where it is missing or incomplete (a power cut)."""
    try:
        config = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return config if isinstance(config, dict) else None
