"""Where a machine keeps what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "BALANCE_TUNE_CACHE"


def cache_folder() -> Path:
    """Return the folder of copies: $BALANCE_TUNE_CACHE, else the user's cache folder."""
    folder = os.environ.get(VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "balance_tune"
    return Path(folder).expanduser().absolute() if folder else base.absolute()
