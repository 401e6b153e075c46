"""What a study costs beside training: its search phase against bare processes: python -m benchmarks.efficiency [TIMES]

The bare processes train the same configurations for the same numbers of epochs, two at a time, and do nothing else: no
Ray, no Optuna, no MLflow, no history, no checkpoint. What to train they know only because the study has been.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

from balance_tune.studies.config import StudyConfig, load_config
from benchmarks.bare import bare
from benchmarks.search_phase import Phase, say, search, study_folder
from benchmarks.table import Table, show, spread

SLOTS = 2
QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
SHORT = {
    "name": "short",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm", "opm", "mlb"],
    "training": {"epochs": 2},
    "search": {"trials": 250, "early_stopping": "none"},
}


def compared(config: StudyConfig) -> tuple[Phase, float]:
    """Return a study's search phase, and the seconds of the bare processes."""
    with study_folder() as folder:
        phase = search(config, cpus=SLOTS, folder=folder)
        say(f"{config.name}: {len(phase.ended)} trials in {phase.seconds:.1f} s")
        seconds = bare([(phase.configs[key], epochs) for key, (_, _, epochs) in phase.ended.items()], SLOTS)
        say(f"bare: {seconds:.1f} s")
    return phase, seconds


def measure(times: int = 1) -> Table:
    """Return the table of both studies, the quickstart compared so many times."""
    studies = {
        "quickstart": (load_config(QUICKSTART), times),
        "1,000 trials of two epochs": (load_config(SHORT), 1),
    }
    rows = []
    for name, (config, rounds) in studies.items():
        found = [compared(config) for _ in range(rounds)]
        phases, bare_seconds = [phase for phase, _ in found], [seconds for _, seconds in found]
        trials = len(phases[0].ended)
        epochs = round(median(sum(epochs for _, _, epochs in phase.ended.values()) for phase in phases))
        beside = [(phase.slots * phase.seconds - phase.device_seconds) / trials for phase in phases]
        rows.append(
            [
                name,
                f"{trials} / {epochs}",
                spread([phase.seconds for phase in phases], 1),
                spread(bare_seconds, 1),
                spread([phase.seconds / seconds for phase, seconds in found]),
                spread([phase.device_seconds / (phase.slots * phase.seconds) for phase in phases]),
                f"{1e3 * median(phase.seconds for phase in phases) / trials:.0f}",
                f"{1e3 * median(beside):.0f}",
                f"{median(phase.lag for phase in phases):.1f}",
            ]
        )
    return Table(
        "A study",
        "Wall seconds of the search phase, Ray and its actors up, against two bare processes that train the same "
        "configurations for as many epochs; share of slots x wall that is inside epochs (training and validation); "
        "wall ms per trial; ms of a slot per trial outside epochs; s that MLflow's writer needed once Ray had ended.",
        (
            "search phase",
            "trials / epochs",
            "s",
            "bare s",
            "ratio",
            "inside epochs",
            "ms a trial",
            "ms beside",
            "lag s",
        ),
        rows,
    )


if __name__ == "__main__":
    show(measure(*map(int, sys.argv[1:2])))
