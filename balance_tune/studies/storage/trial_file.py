"""`trial.json`: the configuration of a trial in its own folder, all that it takes to train it again on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balance_tune.studies.storage import durable

FILE = "trial.json"
LOCAL = ("folder", "home", "store", "scratch", "reported")  # paths of one machine, and how far an earlier attempt got


def write(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a trial's configuration into its folder, unless it is there.

    It does not wait for the disk: a file that a power cut took is written again by the next run of the study.
    """
    portable = {name: value for name, value in config.items() if name not in LOCAL}
    if read(folder) != json.loads(json.dumps(portable)):
        durable.write(folder / FILE, json.dumps(portable, indent=1) + "\n", lasting=False)


def read(folder: Path) -> dict[str, Any] | None:
    """Return the configuration in a trial's folder; None where there is none, or a power cut left half of it."""
    try:
        config = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return config if isinstance(config, dict) else None
