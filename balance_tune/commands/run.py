"""balance-tune run: runs, resumes or extends a study."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from balance_tune.commands.arguments import (
    format_option,
    in_a_job,
    miniature_option,
    root_option,
    root_text,
    study_file_arguments,
    study_of,
    writable_root,
)
from balance_tune.commands.output import print_json
from balance_tune.datasets.address import bare
from balance_tune.studies.cluster.ray_address import check_ray_address
from balance_tune.studies.signals import sigterm_as_interrupt

if TYPE_CHECKING:
    from balance_tune.studies.monitor.progress import Kind
    from balance_tune.studies.results.leaderboard import LeaderboardRow

ENDINGS = {
    "done": (0, ""),
    "failed": (1, "The study failed"),
    "limited": (0, "Ended by its own limit"),
    "interrupted": (130, "Stopped, nothing is lost"),
    "halted": (1, "Ended early"),
}
"""State of a study that was run -> exit status, and the sentence that begins the last line on standard error."""


def add(parser: argparse.ArgumentParser) -> None:
    study_file_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print the leaderboard only, no progress")
    parser.add_argument(
        "--retry-failed", action="store_true", help="run failed trials again, after their cause is fixed"
    )
    miniature_option(parser)
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Run the study; the leaderboard goes to standard output, progress to standard error."""
    with sigterm_as_interrupt():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    check_ray_address()
    config = study_of(args)
    place = writable_root(args).display_uri(config.name)
    if in_a_job():
        print(f"the study is {place} on {platform.node()}", file=sys.stderr)
    from balance_tune.studies.engine import run_study  # loads ray: not before the study file is known to be right

    progress: Kind = "none" if args.quiet else "json" if args.format == "json" else "auto"
    shown = False

    def show(rows: Sequence[LeaderboardRow]) -> None:
        nonlocal shown
        shown = True
        if args.format == "json":
            print_json([dict(row) for row in rows])
        else:
            from balance_tune.studies.results.tables import as_text

            print(as_text(rows), flush=True)

    result = run_study(
        config, root=root_text(args), progress=progress, on_leaderboard=show, retry_failed=args.retry_failed
    )
    if not shown and (result.rows or args.format == "json"):
        show(result.rows)
    status, sentence = ENDINGS[result.state]
    if sentence:
        reason = f" ({result.reason})" if result.reason else ""
        advice = "After its cause is fixed" if result.state == "failed" else "The same command goes on"
        retry = args.retry_failed or result.state == "failed"
        print(f"{sentence}{reason}. {advice}: {_again(args, retry)}", file=sys.stderr)
    return status


def _again(args: argparse.Namespace, retry: bool) -> str:
    root = ["--root", bare(args.root)] if getattr(args, "root", None) else []
    small = ["--miniature"] if args.miniature else []
    failed = ["--retry-failed"] if retry else []
    return shlex.join(["balance-tune", "run", str(args.study_file), *args.overrides, *small, *failed, *root])
