"""balance-tune reproduce: a recorded trial, trained again and compared."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from balance_tune.commands.arguments import format_option, root_of, root_option
from balance_tune.commands.output import print_json

if TYPE_CHECKING:
    from balance_tune.studies.evaluation.reproduction import Comparison


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0, but got `{text[:20]}`")
    return value


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_id", metavar="RUN_ID", help="id of a trial's run in MLflow")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.005,
        help="largest difference that counts as the same result (default: 0.005; relative above 1)",
    )
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Return 0 if the trial comes out as it was recorded, bit by bit or within the tolerance, else 1."""
    from balance_tune.studies.evaluation.reproduction import reproduce

    found = reproduce(args.run_id, root_of(args), args.tolerance)
    if args.format == "json":
        print_json(
            {
                "run_id": args.run_id,
                "name": found.name,
                "verdict": found.verdict,
                "epochs": found.epochs,
                "values": found.values,
                "different": len(found.differences),
                "largest": None if (d := found.largest) is None else [d.epoch, d.metric, repr(d.recorded), repr(d.now)],
                "circumstances": found.circumstances,
            }
        )
    else:
        print(f"{found.name}: {found.epochs} epochs with {found.values} values trained again")
        for circumstance in found.circumstances:
            print(f"not as it was: {circumstance}")
        print(f"{found.verdict}{_where(found)}")
    return 1 if found.verdict == "different" else 0


def _where(found: Comparison) -> str:
    if found.largest is None:
        return ""
    first, largest = found.differences[0], found.largest
    return (
        f": {len(found.differences)} values differ, first {first.metric} of epoch {first.epoch} ({first.recorded:.9g}, "
        f"now {first.now:.9g}), most {largest.metric} of epoch {largest.epoch} ({largest.recorded:.9g}, now "
        f"{largest.now:.9g})"
    )
