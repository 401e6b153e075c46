"""balance-tune plan: shows what a study would train and how long that takes, without starting it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from balance_tune.commands.arguments import (
    format_option,
    miniature_option,
    root_of,
    root_option,
    study_file_arguments,
    study_of,
    writable_root,
)
from balance_tune.commands.output import columns, duration, number, print_json

if TYPE_CHECKING:
    from balance_tune.studies.config.schema import StudyConfig
    from balance_tune.studies.monitor.plan import ArmPlan, Estimate, Plan


def add(parser: argparse.ArgumentParser) -> None:
    study_file_arguments(parser)
    parser.add_argument("--no-measure", action="store_true", help="do not time epochs; use the times of earlier trials")
    miniature_option(parser)
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan; a few epochs per arm are timed, once per machine."""
    from balance_tune.studies.monitor.plan import plan_of
    from balance_tune.studies.monitor.timing import epoch_seconds
    from balance_tune.studies.protocol.arms import arms_of
    from balance_tune.studies.protocol.compute_matched import datasets_to_measure, with_measured_factors

    config = study_of(args)
    arms = arms_of(config)
    root = root_of(args) if args.no_measure else writable_root(args)
    pace = epoch_seconds(config, arms, root, measure=not args.no_measure)
    if datasets_to_measure(config):
        config = with_measured_factors(config, arms, pace)
        arms = arms_of(config)
        joint = {arm.dataset: pace[arm.name] for arm in arms if arm.baseline}
        pace = {arm.name: pace.get(arm.name, joint[arm.dataset]) for arm in arms}
    plan = plan_of(config, arms, pace)
    if args.format == "json":
        print_json({**asdict(plan), "transforms": transforms(config), "missing": missing_in_words(config)})
    else:
        print(as_text(plan, config))
    return 0


def as_text(plan: Plan, config: StudyConfig) -> str:
    """Return the plan for a terminal."""
    datasets, methods = len(config.datasets), len(config.methods)
    where = f"{plan.cpus} CPUs" + (f" and {plan.gpus} GPUs" if plan.gpus else "") + f" of {plan.place}"
    rows = [
        (
            arm.arm,
            ", ".join(name.partition(".")[2] for name in arm.searched) or "nothing",
            str(arm.epochs),
            "never" if arm.first_judged is None else str(arm.first_judged),
            _rungs(arm),
        )
        for arm in plan.arms
    ]
    replicates = f" in {config.replicates} replicates" if config.replicates > 1 else ""
    datasets_to_measure = any(seconds is None for seconds in plan.epoch_seconds.values())
    parts = [
        f"{plan.study}: {_count(len(plan.arms), 'arm')} from {_count(datasets, 'dataset')} and "
        f"{_count(methods, 'method')}{replicates}; "
        f"objective {plan.objective}, protocol {plan.protocol}",
        columns(("arm", "searched", "epochs", "first judged", "rungs (epoch: trials > survivors)"), rows, [2, 3]),
        "\n".join(
            f"{title:<14}{text}"
            for title, text in (
                ("trials", _trials(plan, config)),
                ("epochs", _estimate(plan.epochs, number)),
                ("an epoch takes", " " + _paces(plan)),
                ("at a time", f"{plan.slots} trials on {where}; the study can fill {plan.fills}"),
                ("wall time", _estimate(plan.wall_seconds, duration)),
                ("device-hours", _estimate(plan.device_hours, lambda hours: f"{hours:.2f}")),
                ("price", "" if plan.price is None else _estimate(plan.price, lambda money: f"{money:,.2f}")),
            )
            if text
        ),
        "\n".join(
            f"{name} of {dataset}: in training {words['training']}; in evaluation {words['evaluation']}"
            for dataset, modalities in transforms(config).items()
            for name, words in modalities.items()
            if set(words.values()) != {"as stored"}
        ),
        "\n".join(f"{dataset} lacks {text}" for dataset, text in missing_in_words(config).items()),
        "\n".join(plan.notes),
        "Without --no-measure, `plan` times an epoch of each arm and estimates how long the study takes."
        if datasets_to_measure
        else "",
    ]
    return "\n\n".join(part for part in parts if part)


def transforms(config: StudyConfig) -> dict[str, dict[str, dict[str, str]]]:
    """Return dataset -> modality -> what is done to its stored samples in training and in evaluation, in words."""
    from balance_tune.datasets.augmentation import described, overridden
    from balance_tune.registry import datasets

    declared = {name: datasets().get(name).modalities for name in config.datasets}
    return {
        name: {m: described(modality) for m, modality in overridden(modalities, config.augment).items()}
        for name, modalities in declared.items()
    }


def missing_in_words(config: StudyConfig) -> dict[str, str]:
    """Return dataset -> which modalities are taken from its rows at random, in words; nothing for complete ones."""
    from balance_tune.registry import datasets

    phrases = {name: config.missing.words(datasets().get(name).modalities) for name in config.datasets}
    return {name: text for name, text in phrases.items() if text}


def _trials(plan: Plan, config: StudyConfig) -> str:
    confirm = _span(plan.trials["confirm_least"], plan.trials["confirm"])
    later = f"select {plan.trials['select']}, confirm {confirm}"
    if plan.trials["search"] is None:
        seconds = duration(config.search.device_seconds or 0)
        return f"search as many as fit into {seconds} of device time per arm, {later}"
    total = _span(plan.trials["total_least"], plan.trials["total"])
    each = "per arm" if config.replicates == 1 else "per arm and replicate"
    return f"search {plan.trials['search']} ({config.search.trials} {each}), {later}: {total} in all"


def _span(least: int | None, most: int | None) -> str:
    return f"{most}" if least == most else f"{least} to {most}"


def _rungs(arm: ArmPlan) -> str:
    return ", ".join(f"{r.epoch}: {r.judged:.0f} > {r.survivors:.0f}" for r in arm.rungs)


def _paces(plan: Plan) -> str:
    """Return how long an epoch takes on each dataset, from the fastest method to the slowest."""
    phrases = []
    for dataset in dict.fromkeys(arm.dataset for arm in plan.arms):
        times = [plan.epoch_seconds.get(arm.arm) for arm in plan.arms if arm.dataset == dataset]
        seconds = sorted(s for s in times if s is not None)
        low, high = (f"{seconds[0]:.2g}", f"{seconds[-1]:.2g}") if seconds else ("", "")
        text = f"{low} s" if low == high else f"{low} to {high} s"
        phrases.append(f"{text if seconds else 'not measured'} ({dataset})")
    return ", ".join(phrases)


def _estimate(estimate: Estimate, shown: Callable[[float], str]) -> str:
    if estimate.expected is None or estimate.most is None:
        return ""
    return f"about {shown(estimate.expected)}, at most {shown(estimate.most)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
