"""Where a study's trials lie in its folder: in a journal, or in the database that a file names."""

from __future__ import annotations

from pathlib import Path

from balance_tune.errors import UserError
from balance_tune.studies.wording import one_line

JOURNAL, DATABASE = "optuna.journal", "optuna.database"
DAMAGE = (ValueError, KeyError, AssertionError, TypeError, IndexError)  # what Optuna raises of a journal it cannot read


def damaged(path: Path, error: Exception) -> UserError:
    """Return what to tell the user of a journal that Optuna could not read."""
    return UserError(
        f"the journal of a study must be readable, but `{path}` is damaged ({one_line(str(error))[:120]}); "
        "put a copy of it back, or start another study under another name."
    )
