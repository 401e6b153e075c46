"""balance-tune doctor: checks what a study needs, one line per check."""

from __future__ import annotations

import argparse
import dataclasses

from balance_tune.commands.arguments import format_option, root_of, root_option, study_file_arguments, writable_root
from balance_tune.commands.output import print_json


def add(parser: argparse.ArgumentParser) -> None:
    study_file_arguments(parser, required=False)
    root_option(parser)
    format_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print each finding as soon as it is known; return 1 if one is a failure."""
    config = None
    if args.study_file is not None:
        from balance_tune.studies.loading import load_config

        config = load_config(args.study_file, args.overrides, root=root_of(args))
    root = writable_root(args)
    from balance_tune.studies.doctor import examine

    findings = []
    for finding in examine(root, config):
        findings.append(finding)
        if args.format == "table":
            print(finding, flush=True)
    if args.format == "json":
        print_json([dataclasses.asdict(finding) for finding in findings])
    return int(any(finding.state == "fail" for finding in findings))
