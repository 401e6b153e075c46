"""The view of a study's runs in MLflow: whole names, and the columns that say how a run ended.

MLflow keeps a shared view as a tag of the experiment and opens it where the page's address names its key. Its own view
cuts names at 190 pixels.
"""

from __future__ import annotations

import json

from balance_tune.studies.tracking.runs import TAG

KEY = "balance_tune"
VIEW = f"mlflow.sharedViewState.{KEY}"  # MLflow's name for such a tag
NAME_WIDTH, WIDTH = 360, 150  # pixels


def view(objective: str) -> str:
    """Return the view as MLflow's pages read it: oldest runs first, so the study's run, its arms, then their trials.

    Args:
        objective: the validation metric that decides.
    """
    columns = [
        f"tags.`{TAG}state`",
        f"metrics.`trial/best/{objective}`",
        "metrics.`leaderboard/val_confirm`",
        "metrics.`leaderboard/test_mean`",
    ]
    widths = {"attributes.`Run Name`": NAME_WIDTH} | dict.fromkeys(columns, WIDTH)
    return json.dumps(
        {
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "selectedColumns": columns,
            "columnOrder": list(widths),
            "columnWidths": widths,
        }
    )
