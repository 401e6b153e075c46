"""Nodes whose GPUs do not work. They are detected before the first trial or by failing trials, and not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from balance_tune.studies.cluster.preflight import ANSWER_WITHIN, task_on
from balance_tune.studies.wording import one_line

MOST_FAILURES = 3  # of devices on one node, after which it is left out
FAILED = re.compile(r"DeviceError: (?P<reason>.*) \(node (?P<node>[0-9a-f]+) on (?P<name>[^)\s]+)\)")
USE_GPUS = """
import torch
count = torch.cuda.device_count()
for i in range(count):
    torch.ones(2, device=f"cuda:{i}").sum().item()
print(count)
"""


def gpus_here() -> tuple[int | None, str]:
    """Return how many GPUs torch sees on this machine, whatever Ray gave to this process, and what is wrong with them.

    A separate process runs a kernel on each. None: torch cannot be used at all.
    """
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    try:
        process = subprocess.run(
            [sys.executable, "-c", USE_GPUS], env=environment, capture_output=True, text=True, timeout=100
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, one_line(str(error))
    if process.returncode == 0:
        return int(process.stdout.split()[-1]), ""
    errors = [line for line in process.stderr.splitlines() if "Error" in line] or ["it ended without an error"]
    return None, errors[-1][:200]


class Devices:
    """The nodes of the cluster whose GPUs the study does not use.

    Args:
        say: takes a line for the user.

    Attributes:
        left_out: node id -> its name.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.left_out: dict[str, str] = {}
        self._say = say
        self._failures: Counter[str] = Counter()

    def check(self) -> str:
        """Test the GPUs of every node that has some, and leave out failing nodes; return why none is left."""
        import ray

        nodes = [n for n in _with_gpus() if n["NodeID"] not in self.left_out]
        node_of = {task_on(n, gpus_here).remote(): n for n in nodes}
        ray.wait(list(node_of), num_returns=len(node_of), timeout=ANSWER_WITHIN)
        wrong = {n["NodeID"]: _wrong(n["Resources"]["GPU"], reference) for reference, n in node_of.items()}
        names = {n["NodeID"]: n["NodeManagerHostname"] for n in nodes}
        lines = [f"{names[node]} ({reason})" for node, reason in wrong.items() if reason]
        self.left_out |= {node: names[node] for node, reason in wrong.items() if reason}
        if lines and all(wrong.values()):
            return _none_left(", ".join(lines))
        for line in lines:
            self._say(f"left out: {line}; `balance-tune doctor` tells more")
        return ""

    def record_failure(self, reason: str) -> bool:
        """Return whether a trial with this `reason` was lost by its node's GPU; leave the node out after several."""
        match = FAILED.search(reason)
        if match is None:
            return False
        node, name = match["node"], match["name"]
        self._failures[node] += 1
        if self._failures[node] == MOST_FAILURES and node not in self.left_out:
            self.left_out[node] = name
            self._say(f"left out: {name} ({MOST_FAILURES} trials failed on its device, at last: {match['reason']})")
        return True

    def none_left(self) -> str:
        """Return why no trial can run any more, or nothing."""
        if self.left_out and not any(n["NodeID"] not in self.left_out for n in _with_gpus()):
            return _none_left(", ".join(sorted(self.left_out.values())))
        return ""

    def of(self, cluster: Mapping[str, float]) -> dict[str, float]:
        """Return the cluster's resources without the GPUs that are left out."""
        unusable = sum(n["Resources"]["GPU"] for n in _with_gpus() if n["NodeID"] in self.left_out)
        return {**cluster, "GPU": max(0.0, cluster.get("GPU", 0.0) - unusable)}


def _with_gpus() -> list[dict[str, Any]]:
    import ray

    return [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("GPU")]


def _wrong(count: float, reference: Any) -> str:
    import ray

    try:
        gpus, error = ray.get(reference, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return "it does not answer"
    except ray.exceptions.RayError as broken:
        return one_line(str(broken).strip().splitlines()[-1])[:200]
    if error:
        return f"its GPUs cannot be used: {error}"
    return f"Ray has {count:g} GPUs there, but torch sees {gpus}" if count > gpus else ""


def _none_left(nodes: str) -> str:
    return f"no node is left whose GPUs work: {nodes}; fix that, or train on CPUs: resources.gpus_per_trial=0"
