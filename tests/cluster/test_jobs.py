"""The quickstart as a job on a real head with token authentication: to its end, failing, stopped, gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balance_tune.studies.storage.records import read_records
from tests.cluster.head import Head, balance_tune, processes, ray, running_head

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parents[2]
QUICKSTART = HERE / "search_spaces" / "quickstart.yaml"
SMALL = (
    "replicates=1", "placebo=false", "datasets=[multiple_features]", "methods=[joint, ogm_ge]", "training.epochs=3",
    "search.trials=2",
    "select={points: 1, seeds: 1}", "confirm={seeds: 2, default_seeds: 1}", "search.early_stopping={grace: 1}",
)  # fmt: skip
LONG = (*SMALL, "training.epochs=500")  # longer than a refused submission and a stop take


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head(PYTHONPATH=os.environ.get("PYTHONPATH", "")) as made:
        yield made


def submit(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    return balance_tune("submit", str(QUICKSTART), *words, "--address", head.address, env=head.environment, cwd=HERE)


def study_processes(head: Head) -> list[str]:
    return [line for line in processes(str(head.folder)).values() if "balance_tune" in line or "run_trial" in line]


def test_a_job_streams_its_log_succeeds_and_leaves_nothing_running(head: Head) -> None:
    root = head.folder / "studies"
    done = submit(head, *SMALL, "name=whole", "--root", str(root))
    assert done.returncode == 0, done.stdout
    assert "job whole is submitted" in done.stdout
    assert "whole: 2 arms, 2 trials at a time" in done.stdout
    assert "sealed test" in done.stdout  # the leaderboard
    assert done.stdout.count("sealed test, 2 confirmation seeds") == 1
    assert done.stdout.rstrip().endswith("job whole succeeded")
    assert json.loads((root / "whole" / "report" / "leaderboard.json").read_text())
    assert all(r.finished for r in read_records(root / "whole"))
    assert study_processes(head) == []


def test_the_plain_job_of_ray_works_too(head: Head, tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(QUICKSTART.read_text())
    done = ray(
        "job", "submit", "--address", head.address, "--submission-id", "plain", "--working-dir", str(tmp_path), "--",
        sys.executable, "-m", "balance_tune", "run", "quickstart.yaml", "name=plain", *SMALL,
        env=head.environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(r.finished for r in read_records(head.folder / "studies" / "plain"))  # below the home folder


def test_a_failing_study_is_a_failed_job_and_its_status_comes_back(head: Head) -> None:
    done = submit(head, *SMALL, "name=wrong", "--root", "/proc/nowhere")
    assert done.returncode == 2, done.stdout
    assert "the root must be a folder that can be written" in done.stdout
    listed = ray("job", "status", "wrong", "--address", head.address, env=head.environment)
    assert "failed" in (listed.stdout + listed.stderr).lower()


def test_a_stopped_study_goes_on_when_it_is_submitted_again(head: Head) -> None:
    root = head.folder / "studies"
    words = (*LONG, "name=cut", "--root", str(root))
    first = submit(head, *words, "--no-wait")
    assert first.returncode == 0, first.stdout
    deadline = time.monotonic() + 120
    while not list((root / "cut" / "trials").glob("*/*/*/state.pt")):
        assert time.monotonic() < deadline, submit(head, "name=cut", "--follow").stdout
    second = submit(head, *words)
    assert second.returncode == 2
    assert "is being run by job cut (RUNNING)" in second.stdout
    stopped = submit(head, "name=cut", "--stop")
    assert (stopped.returncode, "job cut is stopped" in stopped.stdout) == (0, True), stopped.stdout
    assert study_processes(head) == []
    begun = {(r.phase, r.arm, r.number): r for r in read_records(root / "cut")}
    assert any(r.state == "running" and r.curve for r in begun.values())
    third = submit(head, *words)
    assert third.returncode == 0, third.stdout
    assert "job cut~2 succeeded" in third.stdout
    after = {(r.phase, r.arm, r.number): r for r in read_records(root / "cut")}
    assert all(r.finished for r in after.values())
    for key, record in begun.items():
        assert dict(record.curve).items() <= dict(after[key].curve).items()
    assert study_processes(head) == []


def test_without_the_token_nobody_gets_in(head: Head) -> None:
    without = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")} | {"HOME": "/nonexistent"}
    done = balance_tune("submit", str(QUICKSTART), "--address", head.address, env=without, cwd=HERE)
    assert done.returncode == 2
    assert "wants a token" in done.stdout
