"""Error rates of the verdict, simulated on multi-seed recordings: python -m benchmarks.calibration [--studies 2000]

Writes benchmarks/CALIBRATION.md. Other recordings are tried with `--recordings FOLDER`: every arm in it is held against
itself, and the first two against each other.

A simulated study is made in two steps. `benchmarks.replicate` runs independent searches through the product's queue,
sampler, early stopping, candidates and winner; each gives the point that a replicate chooses. A study then draws
replicates from these searches and a recorded training of each chosen point. The verdict is the product's
(`inference.compare`, `verdict.verdicts`). The true difference is known exactly: the mean over all searches and recorded
trainings. The rule that keeps the default unless it is clearly beaten is off there, so that the luck of the search is
as large as it can be; a table of its own shows what the rule does.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.studies.results.inference import Runs, collapsed, compare, estimate, pseudo_values
from balance_tune.studies.results.statistics import Floats
from balance_tune.studies.results.verdict import ALPHA, looks_factor, verdicts
from benchmarks.recorded import RECORDINGS, Recording
from benchmarks.replicate import MARGINS, Design, choices
from benchmarks.table import Table

RESULTS = Path(__file__).parent / "CALIBRATION.md"
REPLICATES = (5, 6, 10)
NEW = {5: Design(5, 1, 1, 5, 1, 1), 6: Design(4, 1, 1, 6, 1, 1), 10: Design(3, 1, 0, 10, 1, 1)}
OLD = Design(20, 3, 2, 1, 10, 5)
RIVALS = 4
CLASSES, ROWS = 10, 300
DIFFICULTY, OWN_DIFFICULTY = 1.5, 1.0  # sd of a row's log-odds that all methods share, and of each method's own
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """One method as studies draw it: its recording, and the points that independent searches chose."""

    recording: Recording
    chosen: Indices

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Return test scores of independent replicates: an own search and an own fresh seed each."""
        points = self.chosen[rng.integers(len(self.chosen), size=shape)]
        return self.at(rng, points)

    def at(self, rng: np.random.Generator, points: Indices) -> Floats:
        """Return a test score at each of `points`, trained on a seed drawn at random."""
        seeds = rng.integers(self.recording.test.shape[1], size=points.shape)
        return np.asarray(self.recording.test[points, seeds], dtype=np.float64)

    def mean(self, of: Callable[[Floats], Floats] = lambda x: x) -> float:
        """Return the true mean over searches and seeds of a function of the score."""
        return float(np.nanmean(of(self.recording.test[self.chosen])))

    def spread(self) -> float:
        return float(np.nanstd(self.recording.test[self.chosen]))


Sample = Callable[[np.random.Generator, Floats, Sequence[int], float], list[Runs]]
"""(generator, scores (arms, R), method of each arm, sd of a replicate) -> runs of each arm."""


def as_recorded(rng: np.random.Generator, scores: Floats, methods: Sequence[int], sd: float) -> list[Runs]:
    return [Runs(row) for row in scores]


def heavy_tails(rng: np.random.Generator, scores: Floats, methods: Sequence[int], sd: float) -> list[Runs]:
    """Add Student's t with 3 degrees of freedom, of the replicates' standard deviation."""
    return [Runs(row) for row in scores + sd * rng.standard_t(3, scores.shape) / np.sqrt(3)]


def collapses(rng: np.random.Generator, scores: Floats, methods: Sequence[int], sd: float) -> list[Runs]:
    """Let one run in ten end 10 standard deviations lower."""
    return [Runs(row) for row in scores - 10 * sd * (rng.random(scores.shape) < 0.1)]


class SampledRows:
    """Draws a test part of `ROWS` rows for each study, and what every run makes of each row.

    A recorded score is taken as the accuracy on the population of rows. Log-odds of a hit are the run's ability minus
    the row's difficulty: a part by its class, a part that all methods share, and a part of each method's own.
    """

    def __init__(self, macro_f1: bool) -> None:
        self._macro_f1 = macro_f1
        self._by_class = np.linspace(-1, 1, CLASSES)
        nodes, weights = np.polynomial.hermite_e.hermegauss(41)
        noise = np.hypot(DIFFICULTY, OWN_DIFFICULTY) * nodes
        self._abilities = np.linspace(-6, 14, 801)
        logits = self._abilities[:, None, None] - self._by_class[:, None] + noise
        self._class_accuracies = _sigmoid(logits) @ (weights / weights.sum())  # (abilities, classes)

    def __call__(self, rng: np.random.Generator, scores: Floats, methods: Sequence[int], sd: float) -> list[Runs]:
        labels = rng.integers(CLASSES, size=ROWS)
        own = OWN_DIFFICULTY * rng.normal(size=(max(methods) + 1, ROWS))
        difficulty = self._by_class[labels] + DIFFICULTY * rng.normal(size=ROWS) + own[list(methods)]
        chances = _sigmoid(self._ability(scores)[..., None] - difficulty[:, None])
        hits = rng.random(chances.shape) < chances
        if not self._macro_f1:
            return [Runs(own.mean(axis=-1), own) for own in hits.astype(np.float64)]
        wrong = (labels + rng.integers(1, CLASSES, size=hits.shape)) % CLASSES
        guesses = np.where(hits, labels, wrong)
        runs = []
        for arm in guesses:
            values = [macro_f1(labels, guess) for guess in arm]
            units = np.stack([pseudo_values(score, without) for score, without in values])
            runs.append(Runs(np.array([score for score, _ in values]), units))
        return runs

    def true_score(self, accuracy: Floats) -> Floats:
        """Return the metric on the population of rows, of runs with these accuracies."""
        if not self._macro_f1:
            return accuracy
        right = self._class_accuracies
        wrong = (1 - right) / (CLASSES - 1)
        predicted = right + wrong.sum(1, keepdims=True) - wrong
        f1 = (2 * right / (1 + predicted)).mean(1)
        return np.asarray(np.interp(accuracy, right.mean(1), f1), dtype=np.float64)

    def _ability(self, accuracy: Floats) -> Floats:
        return np.asarray(np.interp(accuracy, self._class_accuracies.mean(1), self._abilities), dtype=np.float64)


def macro_f1(labels: Indices, guesses: Indices) -> tuple[float, Floats]:
    """Return macro F1 of classes that have rows, and macro F1 without each row (rows,)."""
    table = np.bincount(labels * CLASSES + guesses, minlength=CLASSES**2).reshape(CLASSES, CLASSES).astype(np.float64)

    def of(diagonal: Floats, truth: Floats, guess: Floats) -> Floats:
        f1 = 2 * diagonal / np.maximum(truth + guess, 1)
        present = truth > 0
        return np.asarray((f1 * present).sum(-1) / present.sum(-1), dtype=np.float64)

    diagonal, truth, guess = table.diagonal(), table.sum(1), table.sum(0)
    unit = np.eye(CLASSES)
    shape = (CLASSES, CLASSES, CLASSES)  # without a row of (true class, guessed class)
    both = np.zeros(shape)
    both[range(CLASSES), range(CLASSES), range(CLASSES)] = 1
    without = of(diagonal - both, truth - unit[:, None], guess - unit[None])
    return float(of(diagonal, truth, guess)), without[labels, guesses]


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)


ACCURACY, MACRO_F1 = SampledRows(False), SampledRows(True)
SCENARIOS: Mapping[str, tuple[Sample, Callable[[Floats], Floats]]] = {
    "as recorded": (as_recorded, lambda x: x),
    "heavy tails (t, 3 d.f.)": (heavy_tails, lambda x: x),
    "10 % collapse by 10 sd": (collapses, lambda x: x),
    f"{ROWS} test rows": (ACCURACY, lambda x: x),
    f"{ROWS} test rows, macro F1": (MACRO_F1, MACRO_F1.true_score),
}


@dataclass(frozen=True)
class Rates:
    """Shares of studies: a single comparison with p < 0.05, any of a family after Holm, wrongly better or worse."""

    single: float
    family: float
    verdict: float


def against_itself(source: Source, sample: Sample, replicates: int, studies: int, rng: np.random.Generator) -> Rates:
    """Hold `RIVALS` independent arms of one method against a further one, which is the baseline."""
    single = family = wrong = 0
    for scores in source.draw(rng, (studies, 1 + RIVALS, replicates)):
        baseline, *rivals = sample(rng, scores, [0] * (1 + RIVALS), source.spread())
        found = _verdicts(baseline, rivals)
        single += found[0].p is not None and found[0].p < ALPHA
        family += any(v.p_holm is not None and v.p_holm < ALPHA for v in found)
        wrong += any(v.outcome in ("better", "worse") for v in found)
    return Rates(single / studies, family / studies, wrong / studies)


def _verdicts(baseline: Runs, rivals: Sequence[Runs]) -> list[Any]:
    resolution = 0.0 if baseline.units is None else 1 / baseline.units.shape[1]
    first, *others = collapsed([baseline.scores, *(rival.scores for rival in rivals)], resolution=resolution)
    return verdicts([compare(r, baseline, worst=0.0, bad=(b, first)) for r, b in zip(rivals, others, strict=True)])


def coverage(
    sources: tuple[Source, Source],
    scenario: tuple[Sample, Callable[[Floats], Floats]],
    replicates: int,
    studies: int,
    rng: np.random.Generator,
) -> float:
    """Return how often the 95 % interval of the difference of two methods holds the true difference of means."""
    sample, true_score = scenario
    truth = sources[0].mean(true_score) - sources[1].mean(true_score)
    sd = sources[1].spread()
    drawn = np.stack([s.draw(rng, (studies, replicates)) for s in sources], axis=1)
    inside = 0
    for scores in drawn:
        ours, theirs = sample(rng, scores, [0, 1], sd)
        ci = compare(ours, theirs, worst=0.0).typical.ci
        inside += ci is not None and ci[0] <= truth <= ci[1]
    return inside / studies


def differences(
    sources: tuple[Source, Source], design: Design, studies: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield the paired differences of one study after another: one a replicate, or a seed where there is one search."""
    for _ in range(studies):
        if design.replicates > 1:
            ours, theirs = (s.draw(rng, (design.replicates,)) for s in sources)
        else:
            points = [np.repeat(s.chosen[rng.integers(len(s.chosen))], design.confirm) for s in sources]
            ours, theirs = (s.at(rng, p) for s, p in zip(sources, points, strict=True))
        yield (ours - theirs)[np.isfinite(ours - theirs)]


def power_table(banks: Mapping[str, Mapping[int, Source]], names: Sequence[str], studies: int) -> Table:
    rows = []
    for design, key, label in [
        (OLD, 0, "old: 1 search, 10 seeds"),
        *((d, r, f"{r} replicates") for r, d in NEW.items()),
    ]:
        sources = (banks[names[0]][key], banks[names[1]][key])
        truth = sources[0].mean() - sources[1].mean()
        rng = np.random.default_rng(key)
        studied = list(differences(sources, design, studies, rng))
        sd = statistics.stdev(float(d.mean()) for d in studied)
        cells = [label, str(design.trainings), f"{100 * truth:.2f}", f"{100 * sd:.2f}"]
        for true_difference in (0.0, 0.0025, 0.005, 0.01):
            results = [estimate(d - truth + true_difference) for d in studied]
            right = [e for e in results if true_difference == 0 or (e.mean or 0.0) > 0]
            share = sum(e.p is not None and e.p < ALPHA for e in right) / studies
            cells.append(_percent(share))
        rows.append(cells)
    return Table(
        "Power at equal trainings",
        f"{names[0]} against {names[1]}, {studies} studies. The difference found is shifted so that the true difference"
        " of means over searches and seeds is as the column says (points). Cells: share of studies with p < 0.05 and"
        " the right sign; at 0 every one of them is an error.",
        ("design", "trainings an arm", "true difference", "sd of the difference", "0", "0.25", "0.5", "1.0"),
        rows,
    )


def looks_table(studies: int) -> Table:
    """Return the share of studies in which any of several looks finds a difference that is not there."""
    looks = (5, 10, 15, 20, 25, 30)
    values = np.random.default_rng(0).normal(size=(studies, looks[-1]))
    p = np.array([[estimate(study[:n]).p for n in looks] for study in values], dtype=np.float64)
    factors = np.array([looks_factor(k) for k in range(1, len(looks) + 1)])
    rows = []
    for name, used in (("not adjusted", np.ones_like(factors)), ("adjusted", factors)):
        found = (p * used < ALPHA).cumsum(axis=1) > 0
        rows.append([name, *(_percent(share) for share in found.mean(0))])
    return Table(
        "Looks",
        f"{studies} studies without a difference, looked at after every 5 replicates; share in which any look so"
        " found one.",
        ("p-value", *(f"{n} replicates" for n in looks)),
        rows,
    )


def rule_table(recordings: Mapping[str, Recording], chosen: Mapping[str, Mapping[int, Indices]]) -> Table:
    """Return what the rule that keeps the default unless clearly beaten does to the true test score of the choice."""
    rows = []
    for name, recording in recordings.items():
        truth = np.nanmean(recording.test, axis=1)
        for key, design in [(0, OLD), *NEW.items()]:
            gains = 100 * (truth[chosen[name][key]].mean(axis=0) - truth[recording.default])
            label = f"{design.trials} trials, {design.points} points on {design.seeds} seeds"
            rows.append([name, label, *(f"{gain:+.2f}" for gain in gains)])
    return Table(
        "The default unless clearly beaten",
        "True mean test score of the chosen point minus that of the default, in points, by `select.margin`, the"
        " standard errors by which a point must be ahead of the default on validation. 0: no such rule. Without"
        " selection seeds the rule does not apply.",
        ("method", "search", *(f"margin {margin:g}" for margin in MARGINS)),
        rows,
    )


def tables(folder: Path, studies: int, searches: int) -> list[Table]:
    """Return all tables."""
    recordings = {path.stem: Recording(path) for path in sorted(folder.glob("*.npz"), reverse=True)}
    chosen = {
        name: {key: choices(recording, design, searches, seed=key) for key, design in [(0, OLD), *NEW.items()]}
        for name, recording in recordings.items()
    }
    banks = {
        name: {key: Source(recordings[name], by_margin[:, 0]) for key, by_margin in own.items()}
        for name, own in chosen.items()
    }
    names = list(recordings)
    rng = np.random.default_rng(0)
    level, covered = [], []
    for scenario, (sample, true_score) in SCENARIOS.items():
        for name in names:
            rates = [against_itself(banks[name][r], sample, r, studies, rng) for r in REPLICATES]
            level.append(
                [
                    scenario,
                    name,
                    *(_percent(r.single) for r in rates),
                    *(_percent(r.family) for r in rates),
                    *(_percent(r.verdict) for r in rates),
                ]
            )
        if len(names) > 1:
            pairs = [(banks[names[0]][r], banks[names[1]][r]) for r in REPLICATES]
            shares = [
                coverage(pair, (sample, true_score), r, studies, rng) for pair, r in zip(pairs, REPLICATES, strict=True)
            ]
            covered.append([scenario, *(_percent(share) for share in shares)])
    old = []
    for name in names:
        source = banks[name][0]
        row = [name]
        for seeds in REPLICATES:
            design = Design(OLD.trials, OLD.points, OLD.seeds, 1, seeds, 0)
            ps = [estimate(d).p for d in differences((source, source), design, studies, rng)]
            row.append(_percent(sum(p is not None and p < ALPHA for p in ps) / studies))
        old.append(row)
    columns = [f"{what}, R = {r}" for what in ("p < 0.05", "Holm", "verdict") for r in REPLICATES]
    made = [
        Table(
            "A method against itself",
            f"{studies} studies a cell: {RIVALS} rivals and a baseline, all independent searches of one method."
            " p < 0.05: the first rival alone. Holm: any of the family. verdict: any called better or worse, which must"
            " also hold with collapsed runs.",
            ("scenario", "method", *columns),
            level,
        ),
        Table(
            "The same with one search an arm (the old design)",
            f"{studies} studies a cell; share of p < 0.05 between two independent searches, by confirmation seeds.",
            ("method", *(f"{r} seeds" for r in REPLICATES)),
            old,
        ),
        looks_table(studies),
    ]
    made.append(rule_table(recordings, chosen))
    if len(names) > 1:
        made[1:1] = [
            Table(
                "Coverage of the 95 % interval",
                f"{names[0]} minus {names[1]}, {studies} studies a cell; the truth is the difference of means over"
                " searches, seeds and, where rows are drawn, the population of rows.",
                ("scenario", *(f"R = {r}" for r in REPLICATES)),
                covered,
            )
        ]
        made.append(power_table(banks, names, studies))
    return made


def summary(level: Table, coverage: Table) -> str:
    """Return the ranges of the first two tables in a sentence."""
    n = len(REPLICATES)
    columns = list(zip(*level.rows, strict=True))[2:]
    single, family, wrong = (_range([cell for column in columns[i : i + n] for cell in column]) for i in (0, n, 2 * n))
    covered = _range([cell for row in coverage.rows for cell in row[1:]])
    return (
        f"Between two arms of one method p is below 0.05 in {single} of studies, for any of a family after Holm's "
        f"correction in {family}, and a verdict is wrong in {wrong}. The 95 % interval holds the true difference in "
        f"{covered}.\n"
    )


def _range(cells: Sequence[str]) -> str:
    numbers = sorted(float(cell.removesuffix(" %")) for cell in cells)
    return f"{numbers[0]} to {numbers[-1]} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--searches", type=int, default=1000, help="independent searches that studies draw from")
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    args = parser.parse_args()
    all_tables = tables(args.recordings, args.studies, args.searches)
    parts = ["# Calibration of the verdict\n", "Made by `python -m benchmarks.calibration`.\n"]
    if len(all_tables) > 4:  # with two recordings
        parts.append(summary(*all_tables[:2]))
    text = "\n".join([*parts, *(table.markdown() for table in all_tables)])
    print(text)
    if args.recordings == RECORDINGS:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
