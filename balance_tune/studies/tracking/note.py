"""The description of a study in MLflow: leaderboard, protocol, and the command that repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balance_tune.datasets.manifest import Manifest
    from balance_tune.studies.config.schema import StudyConfig

SEALED = "Searched and chosen by validation alone; the sealed test part was opened once, after everything was chosen."
NOTE = "mlflow.note.content"  # Markdown that MLflow shows above a run or an experiment
PAPER = "**Protocol `paper`: the test part took part in choosing, as in many papers; these numbers are no estimates.**"


def note(config: StudyConfig, manifests: Mapping[str, Manifest], report_folder: Path) -> str:
    """Return the study's leaderboard, its protocol and its command in Markdown."""
    board = report_folder / "leaderboard.md"
    search, select, confirm = config.search, config.select, config.confirm
    budget = f"{search.trials} trials" if search.trials is not None else f"{search.device_seconds:g} device-seconds"
    stopping = search.early_stopping.kind
    lines = [
        board.read_text().rstrip() if board.is_file() else "# Leaderboard\n\nNot written yet.",
        "## Protocol",
        PAPER if config.protocol == "paper" else SEALED,
        f"Every method had {budget} a dataset (sampler {search.sampler}, early stopping {stopping}), then its best "
        f"{select.points} points and its default competed on {select.seeds} fresh seeds, then {confirm.seeds} "
        f"confirmed the winner, by `{config.objective}`.",
        *(f"- `{m.dataset}`: split {m.split_hash}, data {m.data_hash[:12]}" for m in manifests.values()),
        "## Run it again",
        "The study file is among the artifacts of this study's run:",
        "```\nbalance-tune run study.yaml\n```",
    ]
    return "\n\n".join(lines) + "\n"
