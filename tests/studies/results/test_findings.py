"""The answer in words follows from the rows alone."""

from __future__ import annotations

import dataclasses
import re

import pytest

from balance_tune.studies.results import findings, tables
from balance_tune.studies.results.leaderboard import LeaderboardRow
from balance_tune.tasks import Objective
from tests.studies.results.rows import row_like, table_of


def test_a_gain_is_told_with_its_interval_and_its_p_value() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, 0.025, 0.03, 0.022, 0.028]}))
    assert "mlb, the best by validation, reached 97.5 %" in words
    assert re.search(r"by 2\.5 points \(95 % interval \+2\.0 to \+3\.0, Holm p < 0\.001, 5 seeds\)", words)


def test_no_gain_is_told_with_what_could_have_been_seen() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, -0.02, 0.03, -0.02, 0.0]}))
    assert words.startswith(
        "On this split of toy no tuned point beat that of the joint baseline; the minimum detectable difference was "
    )
    assert re.search(r"\d points\. The best by validation, the tuned point of mlb, was 0\.2 points above it", words)


def test_a_harmful_method_is_told_as_such() -> None:
    worse = [-0.05, -0.052, -0.049, -0.051, -0.05]
    (words,) = findings.conclusion(table_of({"mlb": [0.02, -0.02, 0.03, -0.02, 0.0], "opm": worse}))
    assert words.endswith("opm did worse.")
    (words,) = findings.conclusion(table_of({"mlb": [-v for v in worse], "opm": worse}))
    assert "The others did worse (opm); the minimum detectable difference" in words


def test_a_gain_of_another_method_than_the_best_by_validation_is_told() -> None:
    (words,) = findings.conclusion(
        table_of({"opm": [0.01, -0.01, 0.0, 0.02, -0.02], "mlb": [0.03, 0.031, 0.029, 0.03, 0.032]})
    )
    assert words.startswith("On this split of toy, the tuned point of mlb beat that of the joint baseline (+3.0 points")
    assert "The best by validation, the tuned point of opm, was level with it" in words


def test_where_smaller_is_better_a_gain_is_a_fall_and_nothing_is_told_in_percent() -> None:
    table = table_of(
        {"mlb": [-0.02, -0.025, -0.03, -0.022, -0.028], "ogm": [0.05, 0.052, 0.049, 0.051, 0.05]}, lower=True
    )
    table = [dataclasses.replace(row, metric=Objective("mae"), objective=Objective("val/mae")) for row in table]
    (words,) = findings.conclusion(table)
    assert (
        "mlb, the best by validation, reached mae 0.925 on the test set and beat that of the joint baseline by 0.025"
        in words
    )
    assert "95 % interval -0.030 to -0.020" in words.replace("\N{MINUS SIGN}", "-")
    assert "ogm" in words
    assert "did worse" in words
    text = tables.as_text(table)
    assert "mae: smaller is better." in text
    assert "+0.050" in text
    assert "points" not in words


def test_one_seed_gives_no_interval_and_the_words_say_so() -> None:
    table = table_of({"mlb": [0.02]})
    (words,) = findings.conclusion(table)
    assert "on the one confirmation seed" in words
    assert "no interval" in words
    assert "set `confirm.seeds` to 2 or more" in words


def test_the_same_difference_on_every_seed_is_remarked() -> None:
    table = table_of({"mlb": [0.01] * 4})
    assert any("the same in every run" in text for text in findings.remarks(table))
    (words,) = findings.conclusion(table)
    assert "no tuned point beat" in words  # four equal signs are a coin's work in one case of eight


def test_an_arm_that_the_star_passes_over_is_named() -> None:
    """It stands above the starred one by validation, but not all of its runs are sound."""
    table = table_of({"mlb": [0.01, 0.02, 0.015], "opm": [0.0, 0.01, 0.02]})
    assert not any("Not called the best" in text for text in findings.remarks(table))
    first, second, *rest = (dataclasses.replace(row, chosen=False) for row in table)
    starred = [dataclasses.replace(first, n_collapsed=1), dataclasses.replace(second, chosen=True), *rest]
    (text,) = (text for text in findings.remarks(starred) if "Not called the best" in text)
    assert text.endswith(f"because of runs that failed or collapsed: {first.arm}.")


def test_without_the_baseline_there_is_nothing_to_compare_with() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.01, 0.02]})[:-1])
    assert "no joint baseline" in words


def test_a_single_method_beside_the_baseline_reads_well() -> None:
    (words,) = findings.conclusion(table_of({"mlb": [0.02, 0.025, 0.03, 0.022, 0.028]}))
    assert "It is the only method compared; the minimum detectable difference" in words


@pytest.mark.parametrize("dataset", ["av_digits", "multiple_features", "watch"])
def test_every_answer_is_two_sentences(rows: list[LeaderboardRow], dataset: str) -> None:
    words = findings.conclusion([row for row in rows if row.dataset == dataset])[0]
    assert len(re.findall(r"\.(?= [A-Z]|$)", words)) == 2


def test_ranks_are_given_across_datasets_and_a_test_only_with_enough_of_them(rows: list[LeaderboardRow]) -> None:
    few = findings.ranking(rows)
    assert few is not None
    assert few.p is None
    assert "needs 3 methods and 5 families of datasets" in few.words
    assert sum(rank for _, rank in few.ranks) == pytest.approx(15)
    many = [
        dataclasses.replace(row, dataset=f"{row.dataset}{i}", family=f"{row.dataset}{i}")
        for i in range(3)
        for row in rows
    ]
    ranked = findings.ranking(many)
    assert ranked is not None
    assert ranked.p is not None
    assert findings.ranking([row for row in rows if row.dataset == "watch"]) is None


def _ranked(datasets: dict[str, str], scores: dict[str, float]) -> list[LeaderboardRow]:
    """Return one row for each dataset (dataset -> family) and method, with the same scores everywhere."""
    return [
        row_like(method, dataset=dataset, family=family, arm=f"{dataset}/{method}", test_mean=score)
        for dataset, family in datasets.items()
        for method, score in scores.items()
    ]


def test_recipes_of_one_dataset_count_once_in_the_ranks() -> None:
    """Three recipes of one dataset and two of another once gave "ranks differ (p < 0.001)"."""
    recipes = {
        "crema_d": "crema_d",
        "crema_d_mlb": "crema_d",
        "crema_d_balance": "crema_d",
        "ave": "ave",
        "ave_ogm": "ave",
    }
    scores = {"joint": 0.7, "mlb": 0.9, "opm": 0.8}
    few = findings.ranking(_ranked(recipes, scores))
    assert few is not None
    assert few.p is None
    assert "5 datasets of 2 families, each of which counts once" in few.words
    many = findings.ranking(_ranked({name: name for name in "abcde"}, scores))
    assert many is not None
    assert many.p is not None
    assert many.p < 0.001
    assert "of 5 families" not in many.words
    assert (
        "critical difference of two ranks is 1.48: joint is worse than mlb; mlb does not differ significantly from opm."
        in many.words
    )


def replicated(differences: dict[str, list[float]], replicates: int = 5, **changes: object) -> list[LeaderboardRow]:
    """Return rows as of a study of several replicates."""
    return [dataclasses.replace(row, replicates=replicates, **changes) for row in table_of(differences)]  # type: ignore[arg-type]


def test_of_several_replicates_the_answer_is_about_methods() -> None:
    table = replicated({"mlb": [0.02, 0.025, 0.03, 0.022, 0.028]}, splits_redrawn=True)
    (words,) = findings.conclusion(table)
    assert words.startswith(
        "On toy, mlb, the best by validation, reached 97.5 % on the test set and beat the tuned joint"
    )
    assert "5 replicates)" in words
    remarks = " ".join(findings.remarks(table))
    assert "over 5 replicates, each with its own search" in remarks
    assert "tuned points on this split" not in remarks
    assert "intervals do not cover it" not in remarks
    fixed = " ".join(findings.remarks(replicated({"mlb": [0.02, 0.03]}, splits_redrawn=False)))
    assert "The split of toy is the same in all replicates" in fixed


def test_a_study_of_one_replicate_says_why_it_speaks_of_points() -> None:
    remarks = " ".join(findings.remarks(table_of({"mlb": [0.02, 0.025, 0.03]})))
    assert "With one replicate they compare tuned points on this split, not methods" in remarks


def test_the_placebo_raises_the_alarm_where_it_differs() -> None:
    calm, loud = (
        [dataclasses.replace(row, placebo=row.method == "placebo", diagnostic=row.method == "placebo", p_value=p)
         if row.method == "placebo" else row for row in table_of({"placebo": [0.01, -0.01, 0.02]})]
        for p in (0.4, 0.01)
    )  # fmt: skip
    assert any("is level with the baseline" in text for text in findings.remarks(calm))
    assert any(text.startswith("ALARM on toy: the placebo") for text in findings.remarks(loud))
