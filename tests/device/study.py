"""Runs the small study of tests/cluster on a Ray with two GPUs of its own, as a child process of a test.

python -m tests.device.study ROOT resources.gpus_per_trial=1
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ray
import yaml

from balance_tune.cli import main
from balance_tune.studies.cluster.ray_cluster import ENVIRONMENT
from tests.cluster.study import STUDY
from tests.device.worker import HOOK

if __name__ == "__main__":
    root, *overrides = sys.argv[1:]
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray.init(
        address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": HOOK},
    )  # fmt: skip
    file = Path(root) / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "training": {"epochs": 6, "batch_size": 256}}))
    sys.exit(main(["run", str(file), "--root", root, *overrides]))
