"""Names of a study's files. Trials are in the journal, or in the database that the file DATABASE names."""

from __future__ import annotations

from pathlib import Path

from balance_tune.errors import UserError
from balance_tune.studies.wording import one_line

JOURNAL, DATABASE = "optuna.journal", "optuna.database"
LOCK, PRUNING_LOG = "lock", "ledger.jsonl"
LOCAL = (LOCK, f"{LOCK}.beat", PRUNING_LOG, "ray.log", "mlflow.sync", "mlflow.queue", ".tune")  # stay on this machine
STATE, WEIGHTS, HISTORY = "state.pt", "best.safetensors", "history.jsonl"  # of a trial
DAMAGE = (ValueError, KeyError, AssertionError, TypeError, IndexError)  # what Optuna raises of a journal it cannot read


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error about a journal that Optuna could not read."""
    return UserError(
        f"the journal of a study must be readable, but `{path}` is damaged ({one_line(str(error))[:120]}); "
        "put a copy of it back, or start another study under another name."
    )
