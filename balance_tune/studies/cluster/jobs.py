"""Submits a study as a Ray job: the arguments of the job, the uploaded folder, the id of the job."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance_tune.errors import UserError
from balance_tune.package import FOLDER
from balance_tune.reachable import check_http
from balance_tune.studies.cluster.ray_cluster import HEAD
from balance_tune.studies.cluster.upload import NEVER, Parcel, parcel_of
from balance_tune.studies.signals import PATIENCE
from balance_tune.studies.wording import one_line

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

AGAIN = "~"  # separates a study's name, which cannot contain it, from the count of the job
STUDY = "balance_tune.study"  # key of a job's metadata
CONSTRAINTS = "constraints.txt"
RAY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging",
)  # fmt: skip
PINNED = {HEAD: 0.001}  # the head is on demand; a driver must not run on a spot machine


HEADS_PYTHON = (
    r"raylet=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status 2>/dev/null); "
    r"python=$(tr '\0' '\n' 2>/dev/null </proc/$raylet/cmdline |"
    r" sed -n 's/^--python_worker_command=\([^ ]*\).*/\1/p'); "
    r'[ -x "$python" ] || python=python; exec "$python"'
)
"""Runs the Python of Ray's workers: a head that was started by its full path may have another `python`, or none, on
PATH. The shell's parent is Ray's job supervisor, and that one's parent the raylet, which runs the command."""


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        name: the study's, and so the job's.
        study_file: the file itself; `overrides` are passed as they are.
        root: the studies' root as the cluster sees it, or None for the cluster's own default.
        working_dir: a folder to send, with the study file in it; None sends the study file alone.
        code: "sent" carries this machine's balance_tune along; "installed" relies on the cluster's image.
        requirements: have Ray install the package's dependencies on every node, by these constraints.
        environment: variables of the driver and its workers.
        labels: node labels to run the driver at, instead of the head.
    """

    name: str
    study_file: Path
    overrides: Sequence[str] = ()
    root: str | None = None
    working_dir: Path | None = None
    code: str = "sent"
    requirements: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def packed(request: Request) -> Iterator[tuple[dict[str, Any], list[Parcel]]]:
    """Yield the arguments of `submit_job` (without the id) and the folders to upload; both last for the block.

    Raises:
        UserError: what is to be sent is too large, or the study file does not lie in the working directory.
    """
    with tempfile.TemporaryDirectory(prefix="balance-tune-job-") as temporary:
        folder, study_file = _folder(request, Path(temporary) / "job")
        parcels = [parcel_of(folder)]
        environment = {
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(int(PATIENCE) + 15),  # Ray's 3 s would cut a clean stop off
            **request.environment,
        }
        runtime: dict[str, Any] = {"working_dir": str(folder), "env_vars": environment, "excludes": list(NEVER)}
        if request.code == "sent":
            package = FOLDER
            runtime["py_modules"] = [str(package)]
            parcels.append(parcel_of(package, excludes=("__pycache__",)))
        if request.requirements is not None:
            runtime["pip"] = {"packages": [*_dependencies(), "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/" + CONSTRAINTS]}
        for parcel in parcels:
            parcel.check()
        command = ["-m", "balance_tune", "run", study_file, *request.overrides]
        if request.root is not None:
            command += ["--root", request.root]
        # Ray puts the environment that it makes for the job on PATH; the head's own may be missing there
        python = HEADS_PYTHON if request.requirements is None else "exec python"
        job: dict[str, Any] = {
            "entrypoint": f"{python} {shlex.join(command)}",  # exec: a signal reaches the study, not a shell around it
            "runtime_env": runtime,
            "metadata": {STUDY: request.name},
        }
        yield (
            job
            | (
                {"entrypoint_label_selector": dict(request.labels)}
                if request.labels
                else {"entrypoint_resources": dict(PINNED)}
            ),
            parcels,
        )


def _folder(request: Request, temporary: Path) -> tuple[Path, str]:
    """Return the folder to send and the study file's path in it."""
    if request.working_dir is None:
        temporary.mkdir()
        shutil.copyfile(request.study_file, temporary / "study.yaml")
        if request.requirements is not None:
            shutil.copyfile(request.requirements, temporary / CONSTRAINTS)
        return temporary, "study.yaml"
    folder = request.working_dir.absolute()
    if request.requirements is not None and request.requirements.absolute() != folder / CONSTRAINTS:
        raise UserError(
            f"constraints must lie in the working directory as {CONSTRAINTS}, but got `{request.requirements}`; "
            "copy it there."
        )
    try:
        return folder, request.study_file.absolute().relative_to(folder).as_posix()
    except ValueError:
        raise UserError(
            f"the study file must lie in the working directory {folder}, but it is {request.study_file.absolute()}; "
            "copy it there, or leave --working-dir out."
        ) from None


def _dependencies() -> list[str]:
    """Return what balance_tune needs on a cluster."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = [r.partition(";") for r in requires("balance_tune") or []]
        return [name.strip() for name, _, when in requirements if "extra ==" not in when or "cluster" in when]
    except PackageNotFoundError:
        raise UserError(
            "what balance_tune needs must be known to be installed, but it is not installed itself here; "
            "run `pip install -e .`, or leave --constraints out."
        ) from None


def jobs_of(client: JobSubmissionClient, name: str) -> list[JobDetails]:
    """Return the jobs of a study that a cluster knows, the oldest first."""
    own = [job for job in client.list_jobs() if job.submission_id and job.submission_id.split(AGAIN)[0] == name]
    return sorted(own, key=lambda job: job.start_time or 0)


def running_job(jobs: Sequence[JobDetails]) -> JobDetails | None:
    """Return the job of a study that has not ended, if there is one."""
    return next((job for job in jobs if not job.status.is_terminal()), None)


def next_id(name: str, ids: Sequence[str]) -> str:
    """Return the id of a study's next job: its name, then name~2, name~3; an id is never used twice."""
    numbers = [int(i.partition(AGAIN)[2] or 1) for i in ids if (i.partition(AGAIN)[2] or "1").isdecimal()]
    count = max(numbers, default=0) + 1
    return name if count == 1 else f"{name}{AGAIN}{count}"


def submit(client: JobSubmissionClient, request: Request, say: Callable[[str], None]) -> str:
    """Submit the study and return the job's id.

    Raises:
        UserError: a job of this study has not ended; or what `packed` raises.
    """
    jobs = jobs_of(client, request.name)
    busy = running_job(jobs)
    if busy is not None:
        raise UserError(
            f"one study must have one driver, but `{request.name}` is being run by job {busy.submission_id} "
            f"({busy.status.value}); `balance-tune submit STUDY --follow` follows it, `--stop` stops it."
        )
    submission_id = next_id(request.name, [str(job.submission_id) for job in jobs])
    with packed(request) as (job, parcels):
        for parcel in parcels:
            say(f"sending {parcel.folder.name}: {parcel.files} files, {parcel.size / 2**20:.1f} MiB")
        try:
            job_id: str = client.submit_job(submission_id=submission_id, **job)
        except RuntimeError as error:
            if "already exists" in str(error):  # another client was faster
                raise UserError(
                    f"one study must have one driver, but job {submission_id} was just made; see `ray job list`."
                ) from error
            raise
    return job_id


def _sends_token(error: Exception) -> bool:
    """Return whether a request that was refused held a token: then it is the wrong one."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    there = bool(os.environ.get("RAY_AUTH_TOKEN")) or path.is_file()
    return "403" in str(error) or (there and os.environ.get("RAY_AUTH_MODE", "").lower() == "token")


def client_at(address: str) -> JobSubmissionClient:
    """Return a client of the cluster whose dashboard is at `address`.

    Raises:
        UserError: nothing answers there, or it wants another token.
    """
    if "@" in address:
        raise UserError("the address must hold no user or password; a cluster takes a token (RAY_AUTH_TOKEN_PATH).")
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"the address must be that of a cluster's dashboard, as http://127.0.0.1:8265, but got `{address}`."
        )
    remedy = "is the port forwarded (`ray dashboard`, `kubectl port-forward`)"
    check_http(address, f"a cluster's dashboard must answer at {address}, but it does not", remedy)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient  # after the address was asked: it takes seconds

    for name in RAY_LOGGERS:  # they report every upload, and warn of the embedded data
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise UserError(
            f"{address} wants a token, and {'refused the one it got' if _sends_token(error) else 'got none'}; "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's own."
        ) from error
    except (ConnectionError, RuntimeError, OSError) as error:
        raise UserError(
            f"a cluster's dashboard must answer at {address}, but it does not ({one_line(str(error))[:160]}); {remedy}"
        ) from error
