"""balance-tune plan: what a study would run and take; starts nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.commands.arguments import format_option, root_of, root_option, writable_root
from balance_tune.commands.output import columns, duration, number, print_json

if TYPE_CHECKING:
    from balance_tune.studies.config import StudyConfig
    from balance_tune.studies.plan import ArmPlan, Estimate, Plan


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study_file", metavar="STUDY.yaml", type=Path, help="the study file")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="an entry to set, as search.trials=4"
    )
    parser.add_argument("--no-measure", action="store_true", help="time no epoch; use what was measured before")
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan; a few epochs per dataset are trained to learn how long one takes, once per machine."""
    from balance_tune.studies.arms import arms_of
    from balance_tune.studies.config import load_config
    from balance_tune.studies.pace import epoch_seconds
    from balance_tune.studies.plan import plan_of

    config = load_config(args.study_file, args.overrides)
    arms = arms_of(config)
    root = root_of(args) if args.no_measure else writable_root(args)
    pace = epoch_seconds(config, arms, root, measure=not args.no_measure)
    plan = plan_of(config, arms, pace)
    if args.format == "json":
        print_json(asdict(plan))
    else:
        print(as_text(plan, config))
    return 0


def as_text(plan: Plan, config: StudyConfig) -> str:
    """Return the plan for a terminal."""
    datasets, methods = len(config.datasets), len(config.methods)
    where = f"{plan.cpus} CPUs" + (f" and {plan.gpus} GPUs" if plan.gpus else "")
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
    unmeasured = any(seconds is None for seconds in plan.epoch_seconds.values())
    parts = [
        f"{plan.study}: {len(plan.arms)} arms from {datasets} datasets and {methods} methods; "
        f"objective {plan.objective}, protocol {plan.protocol}",
        columns(("arm", "searched", "epochs", "first judged", "rungs (epoch: trials there > going on)"), rows, [2, 3]),
        "\n".join(
            f"{title:<14}{text}"
            for title, text in (
                ("trials", _trials(plan, config)),
                ("epochs", _estimate(plan.epochs, number)),
                ("an epoch takes", " " + _paces(plan)),
                ("at a time", f"{plan.slots} trials on {where}"),
                ("wall time", _estimate(plan.wall_seconds, duration)),
                ("device-hours", _estimate(plan.device_hours, lambda hours: f"{hours:.2f}")),
                ("price", "" if plan.price is None else _estimate(plan.price, lambda money: f"{money:,.2f}")),
            )
            if text
        ),
        "\n".join(plan.notes),
        "Without --no-measure an epoch is timed, and times follow." if unmeasured else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _trials(plan: Plan, config: StudyConfig) -> str:
    later = f"select at most {plan.trials['select']}, confirm at most {plan.trials['confirm']}"
    if plan.trials["search"] is None:
        seconds = duration(config.search.device_seconds or 0)
        return f"search as many as fit into {seconds} of device time an arm, {later}"
    return f"search {plan.trials['search']} ({config.search.trials} an arm), {later}: {plan.trials['total']} in all"


def _rungs(arm: ArmPlan) -> str:
    return ", ".join(f"{r.epoch}: {r.judged:.0f} > {r.survivors:.0f}" for r in arm.rungs)


def _paces(plan: Plan) -> str:
    told = {d: "not measured" if s is None else f"{s:.3g} s" for d, s in plan.epoch_seconds.items()}
    return ", ".join(f"{text} ({dataset})" for dataset, text in told.items())


def _estimate(estimate: Estimate, shown: Callable[[float], str]) -> str:
    if estimate.expected is None or estimate.most is None:
        return ""
    return f"about {shown(estimate.expected)}, at most {shown(estimate.most)}"
