"""What a study costs beside training: its search phase against bare processes: python -m benchmarks.efficiency [TIMES]

The bare processes train the same configurations for the same numbers of epochs, two at a time, and do nothing else: no
Ray, no Optuna, no MLflow, no history, no checkpoint. What to train they hear from the study, a trial's end at a time.
The two take turns of some seconds, in which all processes of the other side, Ray's too, stand still.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from balance_tune.studies.config.schema import StudyConfig
from balance_tune.studies.loading import load_config
from balance_tune.studies.protocol.arms import arms_of
from benchmarks.bare import Bare
from benchmarks.intervals import noted, within
from benchmarks.search_phase import Phase, say, study_folder
from benchmarks.searching import searching
from benchmarks.table import Table, show, spread
from benchmarks.turns import Side

SLOTS, TURN = 2, 5.0
QUICKSTART = Path(__file__).parents[1] / "search_spaces" / "quickstart.yaml"
SHORT = {
    "name": "short",
    "datasets": ["multiple_features"],
    "methods": ["joint", "ogm", "opm", "mlb"],
    "training": {"epochs": 2},
    "search": {"trials": 250, "early_stopping": "none"},
}


@dataclass(frozen=True)
class Compared:
    """A search phase and the bare processes beside it; seconds are those in which the side ran."""

    trials: int
    epochs: int
    seconds: float
    bare: float
    inside: float  # seconds inside epochs, of all trials together
    lag: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.bare

    @property
    def share(self) -> float:
        """The share of slots x wall that is inside epochs."""
        return self.inside / (SLOTS * self.seconds)


def compared(config: StudyConfig) -> Compared:
    """Run a study's search phase and the bare processes in turns."""
    due = len(arms_of(config)) * (config.search.trials or 0)
    with study_folder() as folder, Bare(SLOTS) as bare, searching(config, folder, SLOTS) as (pid, told):
        with Side(bare.pids) as plain, Side([pid]) as study:
            phase = None
            while phase is None:
                study.run()
                phase = listen(told, bare, TURN if bare.given < due else math.inf)
                if phase is None and bare.busy:
                    study.hold()
                    plain.run()
                    bare.work(TURN)
                    plain.hold()
            study.hold()
            plain.run()
            bare.finish()
            plain.hold()
        epochs = noted(folder / "epochs")
    found = Compared(
        trials=len(phase.ended),
        epochs=sum(count for _, _, count in phase.ended.values()),
        seconds=within((phase.began, phase.began + phase.seconds), study.ran),
        bare=plain.seconds,
        inside=sum(within(epoch, study.ran) for epoch in epochs),
        lag=phase.lag,
    )
    say(f"{config.name}: {found.trials} trials in {found.seconds:.1f} s, bare {found.bare:.1f} s")
    return found


def listen(told: Connection, bare: Bare, seconds: float) -> Phase | None:
    """Hand over what the study tells in so many seconds; return its search phase if that is through."""
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        if told.poll(None if math.isinf(left) else left):
            news = told.recv()
            if isinstance(news, Phase):
                return news
            bare.give(news)
    return None


def measure(times: int = 2) -> Table:
    """Return the table of both studies, the quickstart compared so many times."""
    studies = {
        "quickstart": (load_config(QUICKSTART), times),
        "1,000 trials of two epochs": (load_config(SHORT), 1),
    }
    rows = []
    for name, (config, rounds) in studies.items():
        found = [compared(config) for _ in range(rounds)]
        trials = found[0].trials
        rows.append(
            [
                name,
                f"{trials} / {found[0].epochs}",
                spread([c.seconds for c in found], 1),
                spread([c.bare for c in found], 1),
                spread([c.ratio for c in found]),
                spread([c.share for c in found]),
                f"{1e3 * median(c.seconds for c in found) / trials:.0f}",
                f"{1e3 * median(SLOTS * c.seconds - c.inside for c in found) / trials:.0f}",
                f"{median(c.lag for c in found):.1f}",
            ]
        )
    return Table(
        "A study",
        "Wall seconds of the search phase, Ray and its actors up, and of two bare processes that train the same "
        f"configurations for as many epochs, in turns of {TURN:.0f} s; share of slots x wall that is inside epochs "
        "(training and validation); wall ms per trial; ms of a slot per trial outside epochs; s that MLflow's worker "
        "needed once Ray had ended.",
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
