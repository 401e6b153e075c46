"""balance-tune reproduce: trains a recorded trial again and compares the results."""

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
    """Return 0 if the results are those that were recorded, bit by bit or within the tolerance, else 1."""
    from balance_tune.studies.evaluation.reproduction import reproduce

    result = reproduce(args.run_id, root_of(args), args.tolerance)
    if args.format == "json":
        print_json(
            {
                "run_id": args.run_id,
                "name": result.name,
                "verdict": result.verdict,
                "epochs": result.epochs,
                "values": result.values,
                "different": len(result.differences),
                "largest": None
                if (d := result.largest) is None
                else [d.epoch, d.metric, repr(d.recorded), repr(d.now)],
                "circumstances": result.circumstances,
            }
        )
    else:
        print(f"{result.name}: {result.epochs} epochs with {result.values} values trained again")
        for circumstance in result.circumstances:
            print(f"not as it was: {circumstance}")
        print(f"{result.verdict}{_where(result)}")
    return 1 if result.verdict == "different" else 0


def _where(result: Comparison) -> str:
    if result.largest is None:
        return ""
    first, largest = result.differences[0], result.largest
    return (
        f": {len(result.differences)} values differ, first {first.metric} of epoch {first.epoch} "
        f"({first.recorded:.9g}, now {first.now:.9g}), most {largest.metric} of epoch {largest.epoch} "
        f"({largest.recorded:.9g}, now {largest.now:.9g})"
    )
