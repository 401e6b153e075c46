"""Every command of cluster/README.md is run, with stand-ins for what needs a cloud or a cluster (`fake_tools`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[2]
TEXT = (HERE / "cluster" / "README.md").read_text()
TOOLS = ("kubectl", "helm", "docker", "ray", "sbatch", "pip", "balance-tune")
SECTIONS = {
    title: "\n".join(re.findall(r"^```\n(.*?)^```$", body, re.MULTILINE | re.DOTALL))
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
WALKS = [title for title, commands in SECTIONS.items() if commands]


def walked(title: str, commands: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.cluster.fake_tools {name} "$@"\n')
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(HERE),
        "FAKE_STATE": str(folder / "state.json"),
        "HOME": str(folder),
    }
    # one command after the other: those in the background write the same file
    script = "set -euo pipefail\n" + re.sub(r" &$", "", commands, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", script], cwd=HERE, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    state = folder / "state.json"
    return done, json.loads(state.read_text()) if state.exists() else {}


@pytest.mark.parametrize("title", WALKS)
def test_the_commands_of_a_walk_through_do_what_they_say(title: str, tmp_path: Path) -> None:
    done, state = walked(title, SECTIONS[title], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(state["calls"]) >= len(re.findall(rf"^(?:{'|'.join(TOOLS)}) ", SECTIONS[title], re.MULTILINE))


def test_every_tool_and_section_is_covered() -> None:
    assert {"The image", "AWS and Google Cloud", "Kubernetes", "Slurm", "A cluster that exists"} <= set(WALKS)
    called = "\n".join(SECTIONS.values())
    assert all(re.search(rf"(?:^|[^\w-]){name} ", called) for name in TOOLS)


def test_the_walk_through_makes_every_secret_that_the_manifests_name(tmp_path: Path) -> None:
    _, state = walked("Kubernetes", SECTIONS["Kubernetes"], tmp_path)
    assert set(state["secrets"]) == {"balance-tune-token", "balance-tune-database"}
    assert set(state["secrets"]["balance-tune-database"]) == {"password", "mlflow", "optuna", "redis"}
    assert {"raycluster/balance-tune", "statefulset/redis", "deployment/mlflow"} <= set(state["objects"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cluster/kuberay/storage.yaml", "cluster/kuberay/store.yaml", "store.yaml does not exist"),
        ("--from-literal=redis=", "--from-literal=radish=", "secret balance-tune-database has no key redis"),
        ("raycluster/balance-tune", "raycluster/other", "raycluster/other not found"),
        ("--code installed", "--cod installed", "unrecognized argument"),
        ("quickstart.yaml", "slowstart.yaml", "no study file"),
    ],
)
def test_a_mistake_in_the_walk_through_would_be_noticed(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SECTIONS["Kubernetes"]
    done, _ = walked("Kubernetes", SECTIONS["Kubernetes"].replace(old, new), tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
