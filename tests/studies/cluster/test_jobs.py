"""What is sent as a job, and under which id; no cluster is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from balance_tune.errors import UserError
from balance_tune.studies.cluster import jobs
from balance_tune.studies.cluster.jobs import Request, next_id, packed, submit


def job(submission_id: str | None, status: str = "SUCCEEDED", start: int = 0) -> Any:
    return SimpleNamespace(submission_id=submission_id, status=JobStatus(status), start_time=start)


class Cluster:
    """A cluster that knows some jobs and remembers what it was sent, and what lay in it."""

    def __init__(self, *known: Any) -> None:
        self.known = list(known)
        self.sent: list[dict[str, Any]] = []
        self.folder: list[str] = []

    def list_jobs(self) -> list[Any]:
        return self.known

    def submit_job(self, **job: Any) -> str:
        self.sent.append(job)
        self.folder = sorted(p.name for p in Path(job["runtime_env"]["working_dir"]).iterdir())
        return str(job["submission_id"])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "my study.yaml"
    path.parent.mkdir()
    path.write_text("name: s\n")
    return path


def told() -> tuple[list[str], Any]:
    lines: list[str] = []
    return lines, lines.append


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "s"),
        (["s"], "s~2"),
        (["s", "s~2", "s~10"], "s~11"),
        (["s~4"], "s~5"),
    ],
)
def test_a_further_job_of_a_study_gets_a_fresh_id(taken: list[str], expected: str) -> None:
    assert next_id("s", taken) == expected


def test_a_study_that_is_being_run_is_refused_and_other_studies_do_not_matter(study: Path) -> None:
    _, say = told()
    busy = Cluster(job("s", "FAILED", 1), job("s~2", "RUNNING", 2))
    with pytest.raises(UserError, match=r"job s~2 \(RUNNING\)"):
        submit(busy, Request("s", study), say)  # type: ignore[arg-type]
    free = Cluster(job("s", "STOPPED"), job("s-2", "RUNNING"), job(None, "RUNNING"), job("other", "PENDING"))
    assert submit(free, Request("s", study), say) == "s~2"  # type: ignore[arg-type]
    assert free.sent[0]["submission_id"] == "s~2"


def test_the_study_file_alone_is_sent_with_this_package_and_its_size_is_told(study: Path) -> None:
    (study.parent / "videos").write_bytes(b"x" * 1000)
    lines, say = told()
    cluster = Cluster()
    submit(cluster, Request("s", study, ["search.trials=4"], root="/mnt/st udies", environment={"A": "b"}), say)  # type: ignore[arg-type]
    (sent,) = cluster.sent
    assert cluster.folder == ["study.yaml"]
    command = "-m balance_tune run study.yaml search.trials=4 --root '/mnt/st udies'"
    assert sent["entrypoint"] == f"{jobs.HEADS_PYTHON} {command}"
    assert sent["entrypoint_resources"] == {"node:__internal_head__": 0.001}
    assert sent["runtime_env"]["env_vars"]["A"] == "b"
    assert int(sent["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > 25
    assert [Path(m).name for m in sent["runtime_env"]["py_modules"]] == ["balance_tune"]
    assert lines[0] == "sending job: 1 files, 0.0 MiB"
    assert lines[1].startswith("sending balance_tune: ")


def test_an_image_that_has_the_package_gets_the_study_file_only(study: Path) -> None:
    with packed(Request("s", study, code="installed")) as (made, parcels):
        assert "py_modules" not in made["runtime_env"]
        assert len(parcels) == 1


def test_constraints_are_sent_and_used(study: Path, tmp_path: Path) -> None:
    constraints = tmp_path / "c.txt"
    constraints.write_text("ray==2.60.0\n")
    with packed(Request("s", study, requirements=constraints)) as (made, _):
        packages = made["runtime_env"]["pip"]["packages"]
        assert (Path(made["runtime_env"]["working_dir"]) / "constraints.txt").read_text() == "ray==2.60.0\n"
    assert packages[-1] == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
    assert any(p.startswith("torch<") for p in packages)
    assert any(p.startswith("psycopg") for p in packages), "a root in an object store needs it on every node"
    assert not any("pytest" in p for p in packages)


def test_a_working_directory_is_sent_as_it_is_and_must_hold_the_study(study: Path, tmp_path: Path) -> None:
    with packed(Request("s", study, working_dir=tmp_path)) as (made, _):
        assert made["runtime_env"]["working_dir"] == str(tmp_path)
        assert "run 'here/my study.yaml'" in made["entrypoint"]
    (tmp_path / "else").mkdir()
    with (
        pytest.raises(UserError, match="must lie in the working directory"),
        packed(Request("s", study, working_dir=tmp_path / "else")),
    ):
        pass


def test_a_working_directory_that_is_too_large_is_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").write_bytes(b"x" * 5000)
    monkeypatch.setattr("balance_tune.studies.cluster.upload.Parcel.check.__defaults__", (1000,))
    with pytest.raises(UserError, match="most of it in `videos`"), packed(Request("s", study, working_dir=tmp_path)):
        pass
    (tmp_path / ".rayignore").write_text("videos\n")
    with packed(Request("s", study, working_dir=tmp_path, code="installed")):
        pass


def test_a_driver_may_be_sent_to_labelled_nodes(study: Path) -> None:
    with packed(Request("s", study, labels={"ray.io/market-type": "on-demand"})) as (made, _):
        assert made["entrypoint_label_selector"] == {"ray.io/market-type": "on-demand"}
        assert "entrypoint_resources" not in made


@pytest.mark.parametrize("address", ["10.0.0.1:8265", "ray://host:10001"])
def test_the_address_is_that_of_a_dashboard(address: str) -> None:
    with pytest.raises(UserError, match="dashboard, as http://"):
        jobs.client_at(address)


def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(UserError, match=r"must answer at http://127\.0\.0\.1:1") as caught:
        jobs.client_at("http://127.0.0.1:1")
    assert len(str(caught.value).splitlines()) == 1


SUPERVISOR = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1], shell=True).returncode)"
RAYLET = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:3]]).returncode)"


@pytest.mark.parametrize("known", [True, False])
def test_a_job_runs_the_python_of_rays_workers_though_it_is_not_on_the_path(tmp_path: Path, known: bool) -> None:
    for place in ("path", "venv"):
        (tmp_path / place).mkdir()
        python = tmp_path / place / "python"
        python.write_text(f"#!/bin/sh\necho {place} $@\n")
        python.chmod(0o755)
    worker = f"{tmp_path}/venv/python /setup_worker.py --flag" if known else "/nowhere/python setup"
    entrypoint = f"{jobs.HEADS_PYTHON} -m balance_tune run 'a study.yaml'"
    done = subprocess.run(
        [sys.executable, "-c", RAYLET, SUPERVISOR, entrypoint, "--x=1", f"--python_worker_command={worker}"],
        env={"PATH": f"{tmp_path}/path:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{'venv' if known else 'path'} -m balance_tune run a study.yaml\n"
