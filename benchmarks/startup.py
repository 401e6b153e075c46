"""How long each command takes to answer, against importing what the system uses: python -m benchmarks.startup"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.search_phase import study_folder
from benchmarks.table import Table, show, spread
from tests.studies.made_study import make_study

ROUNDS = 3
EVERYTHING = "import torch, ray.tune, ray.train, optuna, mlflow"
QUICKSTART = str(Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml")


def measure() -> Table:
    """Return the table of wall time from the shell's point of view; the commands take turns."""
    with study_folder() as root:
        name = make_study(root).name
        command = [sys.executable, "-m", "balance_tune"]
        commands = {
            EVERYTHING: [sys.executable, "-c", EVERYTHING],
            "python -c pass": [sys.executable, "-c", "pass"],
            "balance-tune --help": [*command, "--help"],
            "balance-tune methods": [*command, "methods"],
            "balance-tune datasets": [*command, "datasets"],
            "balance-tune plan quickstart.yaml": [*command, "plan", QUICKSTART, "--root", str(root / "none")],
            "balance-tune status STUDY": [*command, "status", name, "--root", str(root)],
            "balance-tune report STUDY -f json": [*command, "report", name, "-f", "json", "--root", str(root)],
        }
        environment = {**os.environ, "BALANCE_TUNE_CACHE": str(root / "cache")}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(ROUNDS + 1):
            for name, argv in commands.items():
                began = time.perf_counter()
                subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)
                if turn:  # the first round warms the file cache, and asks the methods for their cards
                    times[name].append(time.perf_counter() - began)
    base = times[EVERYTHING]
    rows = [
        [f"`{name}`", spread([1e3 * t for t in found], 0), spread([b / t for t, b in zip(found, base, strict=True)], 1)]
        for name, found in times.items()
    ]
    return Table(
        "Start-up",
        "Milliseconds from the shell's point of view, files cached, the study finished that is read; how many times "
        "less than importing all that a study uses.",
        ("command", "ms", "times less"),
        rows,
    )


if __name__ == "__main__":
    show(measure())
