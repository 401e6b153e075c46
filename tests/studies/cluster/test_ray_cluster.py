"""How many trials a cluster takes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.cluster.ray_cluster import study_resources, trial_resources
from balance_tune.studies.config.reader import read_config
from balance_tune.studies.config.schema import Resources


@pytest.mark.parametrize(
    ("resources", "cluster", "slots", "gpus"),
    [
        ({}, {"CPU": 2.0}, 2, 0.0),
        ({"cpus_per_trial": 3}, {"CPU": 8.0}, 2, 0.0),
        ({"workers": 2}, {"CPU": 8.0}, 4, 0.0),
        ({}, {"CPU": 16.0, "GPU": 1.0}, 4, 0.25),
        ({}, {"CPU": 3.0, "GPU": 1.0}, 3, 0.25),
        ({"gpus_per_trial": 0.4}, {"CPU": 16.0, "GPU": 2.0}, 4, 0.4),
        ({"gpus_per_trial": 2}, {"CPU": 16.0, "GPU": 5.0}, 2, 2.0),
        ({"gpus_per_trial": 0}, {"CPU": 4.0, "GPU": 1.0}, 4, 0.0),
        ({"workers": 2}, {"CPU": 8.0, "GPU": 4.0}, 2, 1.0),
        ({"max_concurrent": 1}, {"CPU": 8.0}, 1, 0.0),
        ({"max_concurrent": 64}, {"CPU": 0.0}, 64, 0.0),
    ],
)
def test_slots_follow_from_what_a_trial_takes(
    resources: dict[str, Any], cluster: dict[str, float], slots: int, gpus: float
) -> None:
    trial = trial_resources(Resources.model_validate(resources), cluster)
    assert (trial.slots, trial.gpus) == (slots, gpus)
    assert trial.device == ("cuda" if gpus else "cpu")


def test_trials_on_one_dataset_may_take_more_than_on_others() -> None:
    resources = {"gpus_per_trial": 0.25, "datasets": {"watch": {"gpus_per_trial": 1, "cpus_per_trial": 4}}}
    study = {"name": "s", "datasets": ["av_digits", "watch"], "methods": ["joint"], "resources": resources}
    config = read_config(study)
    most, by_dataset = study_resources(config, {"CPU": 16.0, "GPU": 2.0})
    assert (by_dataset["av_digits"].cpus, by_dataset["av_digits"].gpus, by_dataset["av_digits"].slots) == (1, 0.25, 8)
    assert (by_dataset["watch"].cpus, by_dataset["watch"].gpus, by_dataset["watch"].slots) == (4, 1.0, 2)
    assert (most.cpus, most.gpus, most.slots) == (4, 1.0, 8)
    assert config.resources.of("watch").datasets == {}


def test_a_trial_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UserError, match="must fit on the cluster") as caught:
        trial_resources(Resources(cpus_per_trial=4), {"CPU": 2.0})
    assert "cpus=4" in str(caught.value)


BUSY = """
import threading, time
import ray
from balance_tune.studies.cluster.ray_cluster import ray_for
from balance_tune.studies.config.schema import Resources

class Cycle: pass

def allocate(references):
    while references:
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, references.pop()
        del cycle
        for few in [[] for _ in range(100)]:
            few.append(few)
        time.sleep(0.0005)

with ray_for(Resources(), cpus=1):
    references = [ray.put(1) for _ in range(6000)]
    threading.Thread(target=allocate, args=[references], daemon=True).start()
print(len(references) < 6000)
"""


@pytest.mark.ray
def test_a_thread_that_collects_garbage_while_ray_shuts_down_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
