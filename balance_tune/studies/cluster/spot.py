"""Polls the cloud's notice that this machine will be taken away, and has Ray drain the node (see cluster/aws.yaml).

    python -m balance_tune.studies.cluster.spot aws|gcp ADDRESS

Managed clusters do this by themselves; on those of `ray up` nothing else tells Ray.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

METADATA = "http://169.254.169.254"  # the metadata service of AWS and Google Cloud
EVERY = {"aws": 5.0, "gcp": 1.0}  # seconds between two polls; AWS gives notice 120 s ahead, Google Cloud 30 s
LEAST = 10  # least seconds that a drain gets, even after a late notice
SPARE = 5  # seconds before the end by which all must be over


def remaining(cloud: str, base: str = METADATA) -> int | None:
    """Return the seconds until this machine is taken away, as far as the cloud says; None before that.

    Raises:
        OSError: the metadata service does not answer.
    """
    if cloud == "gcp":
        answer = _get(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        return 30 - SPARE if answer == "TRUE" else None
    token = _get(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    try:
        answer = _get(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:  # no notice
            return None
        raise
    end = datetime.fromisoformat(json.loads(answer)["time"])
    return max(LEAST, int((end - datetime.now(UTC)).total_seconds()) - SPARE)


def watch(
    cloud: str,
    drain: Callable[[int], None],
    every: float,
    *,
    base: str = METADATA,
    say: Callable[[str], None] = print,
) -> None:
    """Look every so many seconds until there is a notice, then call `drain` with the seconds left, until it works."""
    answers = True
    while True:
        try:
            seconds = remaining(cloud, base)
            answers = True
            if seconds is not None:
                say(f"this machine will be taken away; its node is drained, with {seconds} s to go")
                drain(seconds)
                return
        except Exception as error:  # network and Ray raise many kinds; the loop must go on to see the next notice
            if answers:
                say(f"no answer that can be used, still trying: {type(error).__name__}: {error}")
            answers = False
        time.sleep(every)


def drain(address: str, seconds: int) -> None:
    """Have Ray move what runs on this machine's node elsewhere within so many seconds, and put nothing new on it."""
    subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", address, "--node-id", _node(address)),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a spot machine's notice"),
            *("--deadline-remaining-seconds", str(seconds)),
        ],
        check=True,
        timeout=60,
    )


def _node(address: str) -> str:
    """Return the id of this machine's node."""
    import ray

    with ray.init(address=address, log_to_driver=False):
        node: str = ray.get_runtime_context().get_node_id()
    return node


def _get(url: str, headers: dict[str, str], method: str = "GET") -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=5) as answer:
        text: str = answer.read().decode()
    return text.strip()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in EVERY:
        sys.exit("python -m balance_tune.studies.cluster.spot aws|gcp ADDRESS")
    watch(sys.argv[1], lambda seconds: drain(sys.argv[2], seconds), EVERY[sys.argv[1]])
