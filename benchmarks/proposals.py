"""What the next point costs at so many finished trials, against sqlite storage: python -m benchmarks.proposals

A study's own way: its sampler on a journal file (fsync where a trial begins and ends), opened for one writer. Against
it the common recipe: TPE on sqlite. Asking, suggesting six parameters, one intermediate value, telling.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import create_trial

from balance_tune.studies.protocol.space import Parameter, Space
from balance_tune.studies.search.samplers import sampler_for
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import open_storage
from benchmarks.search_phase import study_folder
from benchmarks.table import Table, show, spread

SEARCHED = Space(tuple(Parameter(f"p{k}", "float", 1e-3, 1.0, k % 2 == 0, None, 0.1, "") for k in range(6)), {})
SPACE = SEARCHED.distributions()
FINISHED, REPEATS = (10, 100, 1000, 3000), 9
MODEL = 100  # finished trials up to which the Gaussian process is measured
LONGEST = 1000  # finished trials on sqlite: more of them take minutes to write


def study_with(storage: BaseStorage, finished: int) -> optuna.Study:
    """Return a study with so many finished trials at random points."""
    study = optuna.create_study(storage=storage, direction="maximize")
    draw = random.Random(0)
    trials = []
    for _ in range(finished):
        point = {p.name: draw.uniform(1e-3, 1.0) for p in SEARCHED.parameters}
        value = 1 - sum(v * v for v in point.values())
        trials.append(
            create_trial(params=point, distributions=dict(SPACE), value=value, intermediate_values={1: value})
        )
    study.add_trials(trials)
    return study


def trials_of(study: optuna.Study, finished: int, kind: str = "tpe") -> Iterator[float]:
    """Yield the milliseconds of one further trial after another, proposed by the sampler `kind`."""
    for number in range(finished, finished + REPEATS):
        began = time.perf_counter()
        study.sampler = sampler_for(kind, study_seed=0, arm="a/b", number=number, trials=finished, searched=SEARCHED)
        trial = study.ask(dict(SPACE))
        value = 1 - sum(v * v for v in trial.params.values())
        trial.report(value, 1)
        study.tell(trial, value)
        yield (time.perf_counter() - began) * 1e3


def measure() -> Table:
    """Return the table; the storages take turns, trial by trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    for finished in FINISHED:
        with study_folder() as folder:
            journal = trials_of(study_with(open_storage(StudyFolder(folder)), finished), finished)
            if finished > LONGEST:
                rows.append([str(finished), "", spread(list(journal), 1), "", ""])
                continue
            sqlite = optuna.storages.RDBStorage(f"sqlite:///{Path(folder) / 'optuna.db'}")
            turns = zip(journal, trials_of(study_with(sqlite, finished), finished), strict=True)
            ours, theirs = map(list, zip(*turns, strict=True))
        gaussian = list(trials_of(study_with(InMemoryStorage(), finished), finished, "gp")) if finished <= MODEL else []
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            [
                str(finished),
                spread(gaussian, 1) if gaussian else "",
                spread(ours, 1),
                spread(theirs, 1),
                spread(ratios, 1),
            ]
        )
    return Table(
        "The next point",
        "Milliseconds per trial that sampler and storage take, six parameters, by the number of finished trials of the "
        "arm: `gp` in memory, which proposes up to trial 100; TPE on the study's journal file, and on sqlite.",
        ("finished", "gp ms", "TPE, journal ms", "TPE, sqlite ms", "times less"),
        rows,
    )


if __name__ == "__main__":
    show(measure())
