"""Where faults wait for the trial that meets them: a file in a folder, named after the fault."""

from __future__ import annotations

import os
from pathlib import Path

TRAPS = "BALANCE_TUNE_TEST_TRAPS"  # names the folder


def lay(folder: Path, fault: str) -> None:
    """Have the next trial that gets there meet this fault."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / fault).touch()


def sprung(fault: str) -> bool:
    """Return whether the fault was waiting; it is no longer."""
    try:
        (Path(os.environ[TRAPS]) / fault).unlink()
    except (FileNotFoundError, KeyError):
        return False
    return True
