"""The Slurm script's own course, with stand-ins for Slurm, Ray and the study."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"
REACH = '{"CPU": 16, "GPU": 2}'
STUBS = {
    "srun": 'echo "$SRUN_CPUS_PER_TASK" >> "$LOG/cpus"; while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    "hostname": "echo 127.0.0.1",
    "scontrol": 'if [ "$1" = show ]; then printf "a\\nb\\n"; else echo "$@" >> "$LOG/scontrol"; fi',
    "ray": """
        case "$1" in
          status) exec grep -q -e --head "$LOG/ray" ;;
          start) echo "$@" >> "$LOG/ray"; stat -c %a "$RAY_AUTH_TOKEN_PATH" >> "$LOG/mode"; exec sleep 1000 ;;
        esac""",
    "balance-tune": """
        until [ "$(wc -l < "$LOG/mode")" = 2 ]; do sleep 0.02; done
        echo "$@ at $RAY_ADDRESS with $RAY_AUTH_MODE of $BALANCE_TUNE_REACH" > "$LOG/study"
        trap 'echo stopped >> "$LOG/study"; exit 130' TERM
        [ -n "$ENDS" ] && exit "$ENDS"
        while true; do sleep 0.05; done""",
}


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """An environment as Slurm gives it to a job of two nodes."""
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOG": str(tmp_path),
        "BALANCE_TUNE_ROOT": str(tmp_path / "root"),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_ON_NODE": "1",
    }


def start(job: dict[str, str], ends: str) -> subprocess.Popen[str]:
    command = ["bash", str(SCRIPT), "s.yaml", "seed=1"]
    return subprocess.Popen(
        command, env={**job, "ENDS": ends}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("ends", ["0", "1"])
def test_the_jobs_status_is_the_studys_and_nothing_is_left(job: dict[str, str], tmp_path: Path, ends: str) -> None:
    running = start(job, ends)
    _, told = running.communicate(timeout=60)
    assert running.returncode == int(ends), told
    assert (tmp_path / "study").read_text() == f"run s.yaml seed=1 at 127.0.0.1:24711 with token of {REACH}\n"
    head, worker = (tmp_path / "ray").read_text().splitlines()
    assert "--head --block --node-ip-address=127.0.0.1 --port=24711" in head
    assert "--block --address=127.0.0.1:24711 --num-cpus=8 --num-gpus=1" in worker
    assert set((tmp_path / "mode").read_text().split()) == {"600"}
    assert set((tmp_path / "cpus").read_text().split()) == {"8"}  # srun does not inherit it
    assert list((tmp_path / "root" / ".slurm").iterdir()) == []  # no token stays
    assert stat.S_IMODE((tmp_path / "root" / ".slurm").stat().st_mode) == 0o700
    assert not (tmp_path / "scontrol").exists()


def test_before_the_time_is_up_the_study_is_stopped_and_the_job_queued_again(
    job: dict[str, str], tmp_path: Path
) -> None:
    running = start(job, "")
    deadline = time.monotonic() + 60
    while not (tmp_path / "study").exists():
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert (tmp_path / "study").read_text().endswith("stopped\n")
    assert (tmp_path / "scontrol").read_text() == "requeue 4711\n"
    assert list((tmp_path / "root" / ".slurm").iterdir()) == []
