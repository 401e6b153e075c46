"""balance-tune submit: runs a study as a job of a Ray cluster, and follows it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from balance_tune.commands.arguments import study_file_arguments
from balance_tune.errors import UserError
from balance_tune.studies.storage.object_store import refuse_credentials
from balance_tune.studies.storage.study_folder import root_folder
from balance_tune.studies.wording import shown

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

INTERRUPTED = 130
LAST_LINES = ", last available logs"  # what follows it in Ray's message
PATIENCE = 60.0  # seconds that a stopped job may take; the study's own clean stop ends before


def add(parser: argparse.ArgumentParser) -> None:
    study_file_arguments(parser)
    parser.add_argument("--address", metavar="URL", help="the cluster's dashboard (default: RAY_API_SERVER_ADDRESS)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-wait", action="store_true", help="do not follow the job to its end")
    what.add_argument("--follow", action="store_true", help="submit nothing, follow the study's last job")
    what.add_argument("--stop", action="store_true", help="submit nothing, stop the study's running job cleanly")
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder of all studies, under its path on the nodes of the cluster",
    )
    parser.add_argument(
        "--working-dir", metavar="DIR", type=Path, help="send this folder too, with modules of your own"
    )
    parser.add_argument(
        "--code",
        choices=("sent", "installed"),
        default="sent",
        help="run the balance_tune of this machine, or the one on the cluster (default: sent)",
    )
    parser.add_argument(
        "--constraints", metavar="FILE", type=Path, help="let the nodes install the dependencies, in these versions"
    )
    parser.add_argument(
        "--env",
        metavar="NAME[=VALUE]",
        action="append",
        default=[],
        help="an environment variable of the job; whoever sees the job sees it",
    )
    parser.add_argument(
        "--driver-label",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="run the driver on a node with this label, not on the head",
    )


def run(args: argparse.Namespace) -> int:
    """Submit, follow or stop; after following a job the status is that of its study."""
    from balance_tune.studies.config.reader import read_config
    from balance_tune.studies.config.shipped import study_path
    from balance_tune.studies.loading import load_config

    if args.follow or args.stop:  # a job that is there need not fit this machine
        config = read_config(args.study_file, args.overrides)
    else:
        root = _root(args)
        config = load_config(args.study_file, args.overrides, root=None if root is None else root_folder(root))
    address = args.address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if address is None:
        raise UserError(
            "a cluster must be named, but there is no --address; give the address of its dashboard, such as http://HOST:8265."
        )
    from balance_tune.studies.cluster import jobs

    client = jobs.client_at(address)
    if args.stop:
        return _stop(client, config.name)
    if args.follow:
        submitted = jobs.jobs_of(client, config.name)
        if not submitted:
            raise UserError(f"a job must exist to be followed, but there is none of `{config.name}` at {address}.")
        return _follow(client, str(submitted[-1].submission_id), args)
    request = jobs.Request(
        config.name,
        study_path(args.study_file),
        args.overrides,
        root=_root(args),
        working_dir=args.working_dir,
        code=args.code,
        requirements=args.constraints,
        environment=_variables(args.env),
        labels=_pairs("--driver-label", args.driver_label),
    )
    submission_id = jobs.submit(client, request, _say)
    _say(f"job {submission_id} is submitted")
    if args.no_wait:
        _say(f"follow it: balance-tune submit {args.study_file} --address {address} --follow")
        return 0
    return _follow(client, submission_id, args)


def _follow(client: JobSubmissionClient, submission_id: str, args: argparse.Namespace) -> int:
    from balance_tune.studies.cluster.job_log import follow

    try:
        job = follow(client, submission_id, _write)
    except KeyboardInterrupt:
        again = f"balance-tune submit {args.study_file} --address {client.get_address()}"
        _say(f"job {submission_id} goes on; follow it: {again} --follow; stop it: {again} --stop")
        return INTERRUPTED
    return _verdict(job)


def _verdict(job: JobDetails) -> int:
    state = job.status.value
    if state == "SUCCEEDED":
        _say(f"job {job.submission_id} succeeded")
        return 0
    reason = str(job.message or state).partition(LAST_LINES)[0]  # the log was shown already
    _say(f"job {job.submission_id} {'was stopped' if state == 'STOPPED' else 'failed'}: {reason}")
    if state == "STOPPED":
        return INTERRUPTED
    return job.driver_exit_code if job.driver_exit_code in (2, INTERRUPTED) else 1


def _stop(client: JobSubmissionClient, name: str) -> int:
    from balance_tune.studies.cluster import jobs
    from balance_tune.studies.cluster.job_log import wait_for_end

    busy = jobs.running_job(jobs.jobs_of(client, name))
    if busy is None:
        raise UserError(f"a job must be running to be stopped, but none of `{name}` is.")
    client.stop_job(busy.submission_id)
    job = wait_for_end(client, str(busy.submission_id), PATIENCE)
    _say(f"job {job.submission_id} is {job.status.value.lower()}; submitted again, the study goes on")
    return 0 if job.status.is_terminal() else 1


def _root(args: argparse.Namespace) -> str | None:
    root: str | None = getattr(args, "root", None)
    if root is not None and "://" not in root and not root.startswith(("/", "~")):
        raise UserError(
            f"--root must be an absolute path, as the nodes of the cluster see it, or a URI, but got {shown(root)}."
        )
    if root is not None:
        refuse_credentials(root)
    return root


def _variables(assignments: list[str]) -> dict[str, str]:
    variables = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not name or (not equals and name not in os.environ):
            raise UserError(f"--env must be NAME=VALUE, or the NAME of a variable that is set, but got {shown(text)}.")
        variables[name] = value if equals else os.environ[name]
    return variables


def _pairs(option: str, pairs: list[str]) -> dict[str, str]:
    for text in pairs:
        if not all(text.partition("=")):
            raise UserError(f"{option} must be KEY=VALUE, but got {shown(text)}.")
    return dict(text.split("=", 1) for text in pairs)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(text: str) -> None:
    print(text, end="", flush=True)
