"""`study.json`: what a study was begun with, and how it was extended. Reading it loads nothing of the study's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from balance_tune.errors import UserError
from balance_tune.kinds import misfit

RECORD = "study.json"
LOOKS = ("`replicates`", "`confirm.seeds`", "`search.trials`", "`search.device_seconds`", "`select.seeds`")
"""How the phrase of an extension begins that changes a verdict that may have been seen."""
SHAPE = {
    "code": dict[str, str],
    "packages": dict[str, str],
    "data": dict[str, dict[str, str]],
    "extensions": list[dict[str, Any]],
    "families": dict[str, str],
}


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a study.

    Raises:
        UserError: it is damaged.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        record = {"extensions": [], "families": {}, **record}
        wrong = next((w for key, hint in SHAPE.items() if (w := misfit(record[key], hint, f"`{key}`"))), None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        wrong = type(error).__name__
    if wrong is not None:
        raise UserError(
            f"a study's {RECORD} must be readable, but `{path}` is not ({wrong}); "
            "put a copy of it back, or start another study under another `name`."
        )
    return record


def looks_of(folder: Path) -> int:
    """Return how often a verdict on the study in `folder` has been shown: once, and once more for each time that
    replicates, trials or seeds were added afterwards.
    """
    if not (folder / RECORD).is_file():
        return 1
    extensions = read_record(folder / RECORD)["extensions"]
    return 1 + sum(any(str(c).startswith(LOOKS) for c in e.get("changes", ())) for e in extensions)


def families_of(folder: Path) -> dict[str, str]:
    """Return dataset -> family of the study in `folder`: recipes of one dataset share a family."""
    families: dict[str, str] = read_record(folder / RECORD)["families"] if (folder / RECORD).is_file() else {}
    return families
